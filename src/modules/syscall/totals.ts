/**
 * Owns: reading the totals that syscall.bpf.c keeps, wherever in the kernel they are, and clearing those of
 * ended processes. Owns not: what a row makes of them (summary.ts).
 */
import type { BpfMap } from "libbpf-ts";
import type { Context } from "../../core/module.js";
import { type Histogram, noTimes, together } from "../../services/histogram.js";

export interface SyscallTotal {
  readonly calls: number;
  readonly errors: number;
  readonly total_ns: number;
  readonly durations: Histogram;
}

export const empty: SyscallTotal = {
  calls: 0,
  errors: 0,
  total_ns: 0,
  durations: noTimes,
};

function sum(one: SyscallTotal, other: SyscallTotal): SyscallTotal {
  return {
    calls: one.calls + other.calls,
    errors: one.errors + other.errors,
    total_ns: one.total_ns + other.total_ns,
    durations: together(one.durations, other.durations),
  };
}

/** The totals in the kernel, by process * 2 ** 16 + number of the call. */
export class Totals {
  readonly #cellKeys: BpfMap<number, number>;
  readonly #cells: BpfMap<number, SyscallTotal>;
  readonly #others: BpfMap<number, SyscallTotal>;

  constructor({ object }: Context) {
    this.#cellKeys = object.map("syscall_cell_keys") as unknown as BpfMap<number, number>;
    this.#cells = object.map("syscall_cell_totals") as unknown as BpfMap<number, SyscallTotal>;
    this.#others = object.map("syscall_totals") as unknown as BpfMap<number, SyscallTotal>;
  }

  read(): Map<number, SyscallTotal> {
    const totals = new Map(this.#others.entries());
    for (const [cell, key] of this.#taken()) {
      const total = this.#cells.get(cell) ?? empty;
      const other = totals.get(key);
      totals.set(key, other ? sum(total, other) : total);
    }
    return totals;
  }

  forget(processes: ReadonlySet<number>): void {
    const isGone = (key: number): boolean => processes.has(Math.floor(key / 2 ** 16));
    this.#others.deleteMany(this.#others.entries().map(([key]) => key).filter(isGone));
    for (const [cell, key] of this.#taken()) {
      if (!isGone(key)) continue;
      this.#cells.set(cell, empty);
      this.#cellKeys.set(cell, 0); // now another key may take it
    }
  }

  #taken(): [cell: number, key: number][] {
    return this.#cellKeys.entries().filter(([, key]) => key !== 0);
  }
}
