/**
 * syscall_mode "summary": per tick, process and call, aggregated in the kernel.
 */
import {
  type Column,
  type Context,
  processColumns,
  type RowOf,
  type Sampler,
  type Tick,
} from "../../core/module.js";
import { longestNs, percentileNs, since } from "../../services/histogram.js";
import type { SyscallNames } from "./names.js";
import { empty, Totals } from "./totals.js";

const us = { type: "number", unit: "µs" } as const;

export const summaryColumns = [
  ...processColumns,
  { name: "SYSCALL_ID", type: "integer", description: "number of the call" },
  { name: "SYSCALL", type: "text", description: "name of the call" },
  { name: "CALLS", type: "integer", description: "returns in this tick" },
  { name: "ERRORS", type: "integer", description: "of those, with an errno" },
  { name: "TOTAL", ...us, description: "duration, summed" },
  { name: "MEAN", ...us, description: "duration, mean" },
  { name: "P50", ...us, description: "duration, median, within 12.5 %" },
  { name: "P99", ...us, description: "duration, 99th percentile, within 12.5 %" },
  { name: "MAX", ...us, description: "longest duration" },
] as const satisfies readonly Column[];

export function startSummary(context: Context, names: SyscallNames, stop: () => void): Sampler {
  const totals = new Totals(context);
  const lost = context.object.variable<number>("syscall_lost");
  const lostBefore = lost.get();
  const tickNumber = context.object.variable<number>("syscall_tick");
  let before = totals.read();

  function* sample(tick: Tick): Iterable<RowOf<typeof summaryColumns>> {
    const processes = new Map(tick.processes.map((process) => [process.id, process]));
    const tickNow = tickNumber.get();
    tickNumber.set(tickNow + 1); // from here on a longest duration belongs to the next row
    const now = totals.read();
    for (const [key, total] of now) {
      const process = processes.get(Math.floor(key / 2 ** 16));
      if (!process) {
        now.delete(key); // born after the processes were read: all of it is for its first row
        continue;
      }
      const then = before.get(key) ?? empty;
      const calls = total.calls - then.calls;
      if (calls === 0) continue;
      const nr = key % 2 ** 16;
      const buckets = since(total.durations, then.durations);
      const took = (total.total_ns - then.total_ns) / 1e3;
      const { Ticks, PID, COMM } = tick.identify(process);
      yield {
        Ticks,
        PID,
        COMM,
        SYSCALL_ID: nr,
        SYSCALL: names.name(nr),
        CALLS: calls,
        ERRORS: total.errors - then.errors,
        TOTAL: took,
        MEAN: took / calls,
        P50: percentileNs(buckets, 0.5) / 1e3,
        P99: percentileNs(buckets, 0.99) / 1e3,
        // What returned while the totals were being read counts here; its length is the next tick's.
        MAX: Math.min(took, Math.max(longestNs(total.durations, tickNow) / 1e3, took / calls)),
      };
    }
    before = now;
  }

  return {
    kind: "sampler",
    backend: "bpf summary",
    sample,
    forget: (ended) => {
      totals.forget(new Set(ended.map((process) => process.id)));
    },
    lost: () => lost.get() - lostBefore,
    stop,
  };
}
