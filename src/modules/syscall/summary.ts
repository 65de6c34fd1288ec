/**
 * syscall_mode "summary": per tick, process and call, aggregated in the kernel.
 */
import type { BpfMap } from "libbpf-ts";
import {
  type Column,
  type Context,
  processColumns,
  type RowOf,
  type Sampler,
  type Tick,
} from "../../core/module.js";
import type { SyscallNames } from "./names.js";

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

interface SyscallKey {
  readonly process: number;
  readonly nr: number;
}

interface SyscallTotal {
  readonly calls: number;
  readonly errors: number;
  readonly total_ns: number;
  readonly max_ns: number;
  readonly tick: number;
  readonly buckets: readonly number[];
}

/** Middle of a bucket in ns; the inverse of syscall_bucket() in syscall.bpf.c. */
export function bucketNs(bucket: number): number {
  if (bucket < 4) return bucket;
  const exponent = Math.floor(bucket / 4) + 1;
  const step = 2 ** (exponent - 2);
  return 2 ** exponent + (bucket % 4) * step + step / 2;
}

/** The smallest bucket that the share of all calls does not exceed, in ns. */
export function percentileNs(buckets: readonly number[], share: number): number {
  const calls = buckets.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (const [bucket, count] of buckets.entries()) {
    seen += count;
    if (seen >= calls * share && count > 0) return bucketNs(bucket);
  }
  return 0;
}

const empty: SyscallTotal = { calls: 0, errors: 0, total_ns: 0, max_ns: 0, tick: 0, buckets: [] };

export function startSummary(context: Context, names: SyscallNames, stop: () => void): Sampler {
  const map = context.object.map("syscall_totals") as unknown as BpfMap<SyscallKey, SyscallTotal>;
  const lost = context.object.variable<number>("syscall_lost");
  const lostBefore = lost.get();
  const tickNumber = context.object.variable<number>("syscall_tick");
  const id = (key: SyscallKey): number => key.process * 2 ** 16 + key.nr;
  let before = new Map(map.entries().map(([key, total]) => [id(key), total]));

  function* sample(tick: Tick): Iterable<RowOf<typeof summaryColumns>> {
    const processes = new Map(tick.processes.map((process) => [process.id, process]));
    const tickNow = tickNumber.get();
    tickNumber.set(tickNow + 1); // from here on a longest duration belongs to the next row
    const now = map.entries();
    for (const [key, total] of now) {
      const process = processes.get(key.process);
      const then = before.get(id(key)) ?? empty;
      const calls = total.calls - then.calls;
      if (!process || calls === 0) continue;
      const buckets = total.buckets.map((count, index) => count - (then.buckets[index] ?? 0));
      const took = (total.total_ns - then.total_ns) / 1e3;
      const { Ticks, PID, COMM } = tick.identify(process);
      yield {
        Ticks,
        PID,
        COMM,
        SYSCALL_ID: key.nr,
        SYSCALL: names.name(key.nr),
        CALLS: calls,
        ERRORS: total.errors - then.errors,
        TOTAL: took,
        MEAN: took / calls,
        P50: percentileNs(buckets, 0.5) / 1e3,
        P99: percentileNs(buckets, 0.99) / 1e3,
        // Calls that returned while the map was being read have begun the next tick's maximum.
        MAX: Math.max(total.max_ns / 1e3, took / calls),
      };
    }
    before = new Map(now.map(([key, total]) => [id(key), total]));
  }

  return {
    kind: "sampler",
    backend: "bpf summary",
    sample,
    forget: (ended) => {
      const gone = new Set(ended.map((process) => process.id));
      map.deleteMany(map.entries().map(([key]) => key).filter((key) => gone.has(key.process)));
    },
    lost: () => lost.get() - lostBefore,
    stop,
  };
}
