/**
 * Owns: when the kernel measures the run time of BPF programs. Measuring costs more than a short program
 * does (two clock reads each run, 0.14 µs here), so it is done for a hundredth of the time: from the start
 * of the run, then once a second.
 * Owns not: the figures, which are the programs' (module-run.ts).
 */
import { enableRunTimeStatistics } from "libbpf-ts";
import { monotonicNs } from "./clock.js";

const [windowMs, everyMs] = [10, 1000];

export class CostWindows {
  #open: { readonly statistics: { close(): void }; readonly since: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #measuredNs = 0;

  start(): void {
    this.#open = { statistics: enableRunTimeStatistics(), since: monotonicNs() };
    this.#timer = setTimeout(() => {
      this.#shut();
      this.#timer = setTimeout(() => {
        this.start();
      }, everyMs - windowMs).unref();
    }, windowMs).unref();
  }

  /** How long was measured so far, ms. */
  get measuredMs(): number {
    const now = this.#open ? monotonicNs() - this.#open.since : 0;
    return (this.#measuredNs + now) / 1e6;
  }

  #shut(): void {
    if (!this.#open) return;
    this.#open.statistics.close();
    this.#measuredNs += monotonicNs() - this.#open.since;
    this.#open = undefined;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#shut();
  }
}
