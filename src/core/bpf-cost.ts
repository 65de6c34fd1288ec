/**
 * Owns: when the kernel measures the run time of BPF programs. Measuring takes two clock reads a run, which
 * is more than a short program takes itself: always where programs run seldom, else a hundredth of the time.
 * Owns not: the figures, which are the programs' (module-run.ts).
 */
import { enableRunTimeStatistics, type Program } from "libbpf-ts";
import { monotonicNs } from "./clock.js";

/** What measuring one run costs, ns (docs/performance.md), and the share of a CPU it may take. */
const [costNs, share] = [140, 0.01];
const [firstMs, windowMs, lookMs, pauseMs] = [20, 10, 1000, 1000];

export class CostWindows {
  readonly #programs: () => readonly Program[];
  #statistics: { close(): void } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #since = 0;
  #runs = 0;
  #measuredNs = 0;

  /** `programs`: those that are loaded by the time it is called. */
  constructor(programs: () => readonly Program[]) {
    this.#programs = programs;
  }

  start(): void {
    this.#open(firstMs);
  }

  #open(forMs: number): void {
    this.#statistics = enableRunTimeStatistics();
    this.#since = monotonicNs();
    this.#runs = this.#count();
    this.#after(forMs, () => {
      this.#look();
    });
  }

  #look(): void {
    const runs = this.#count() - this.#runs;
    if (runs * costNs < (monotonicNs() - this.#since) * share) {
      this.#settle();
      this.#after(lookMs, () => {
        this.#look();
      });
      return;
    }
    this.#shut();
    this.#after(pauseMs, () => {
      this.#open(windowMs);
    });
  }

  #after(ms: number, then: () => void): void {
    this.#timer = setTimeout(then, ms).unref();
  }

  #count(): number {
    return this.#programs().reduce((sum, program) => sum + Number(program.stats().runCount), 0);
  }

  /** How long was measured so far, ms. */
  get measuredMs(): number {
    return (this.#measuredNs + (this.#statistics ? monotonicNs() - this.#since : 0)) / 1e6;
  }

  /** The time since the last look is measured time. */
  #settle(): void {
    const now = monotonicNs();
    this.#measuredNs += now - this.#since;
    this.#since = now;
    this.#runs = this.#count();
  }

  #shut(): void {
    if (!this.#statistics) return;
    this.#settle();
    this.#statistics.close();
    this.#statistics = undefined;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#shut();
  }
}
