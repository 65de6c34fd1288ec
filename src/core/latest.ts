/**
 * Owns: the rows of a module's latest interval, for whoever looks on: kept as the text that went to the
 * file; of a stream collected only while somebody asks.
 * Owns not: how that text is shown.
 */
import { monotonicNs, unixSeconds } from "./clock.js";
import type { Interval, IntervalListener } from "./onlooker.js";

/** Rows of a stream that are kept of an interval, and collected a second. */
export const keptRows = 1000;
/** The collecting goes on so long after somebody asked, ms: who asks each second always has an answer. */
const lingerMs = 10_000;
/** Who asks first waits for the end of the interval, but not longer than this, ms. */
const patienceMs = 10_000;

/** A look at a stream's rows while they are written. */
export interface RowTap {
  take(): void;
  close(): void;
}

export type OpenRowTap = (
  onRows: (rows: readonly string[], skipped: number) => void,
) => RowTap | undefined;

export class Latest {
  readonly #openTap: OpenRowTap | undefined;
  readonly #listeners = new Set<IntervalListener>();
  #interval: Interval = { time: undefined, lines: "", all: 0 };
  #tap: RowTap | undefined;
  #gathered: string[] = [];
  #all = 0;
  #askedMs = -Infinity;

  /** `openTap`: of a stream. */
  constructor(openTap?: OpenRowTap) {
    this.#openTap = openTap;
  }

  /** The rows of a sampled interval. */
  sampled(time: number, lines: string, all: number): void {
    this.#interval = { time, lines, all };
  }

  /** The interval's rows are in the file: tells whoever listens. */
  publish(): void {
    if (this.#openTap) {
      if (!this.#tap) return;
      this.#interval = this.#soFar();
      this.#gathered = [];
      this.#all = 0;
      if (this.#listeners.size === 0 && Date.now() - this.#askedMs > lingerMs) this.#closeTap();
    }
    this.#tell(this.#interval);
  }

  async latest(): Promise<Interval> {
    this.#askedMs = Date.now();
    const collecting = this.#tap !== undefined && this.#interval.time !== undefined;
    if (!this.#openTap || collecting) return this.#interval;
    return new Promise((resolve) => {
      const done = (interval: Interval | undefined): void => {
        clearTimeout(late);
        forget();
        resolve(interval ?? this.#interval);
      };
      const late = setTimeout(() => {
        done(this.#soFar());
      }, patienceMs).unref();
      const forget = this.subscribe(done);
    });
  }

  subscribe(listener: IntervalListener): () => void {
    this.#tap ??= this.#openTap?.((rows, skipped) => {
      this.#all += rows.length + skipped;
      for (const row of rows) this.#gathered.push(row);
      if (this.#gathered.length > 2 * keptRows) this.#gathered = this.#gathered.slice(-keptRows);
    });
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The module is off. */
  close(): void {
    this.#closeTap();
    this.#tell(undefined);
    this.#listeners.clear();
  }

  #tell(interval: Interval | undefined): void {
    for (const listener of [...this.#listeners]) listener(interval);
  }

  /** What was collected of the running interval. */
  #soFar(): Interval {
    this.#tap?.take();
    const lines = this.#gathered.slice(-keptRows).join("");
    return { time: unixSeconds(monotonicNs()), lines, all: this.#all };
  }

  #closeTap(): void {
    this.#tap?.close();
    this.#tap = undefined;
    this.#gathered = [];
    this.#all = 0;
    if (this.#openTap) this.#interval = { time: undefined, lines: "", all: 0 };
  }
}
