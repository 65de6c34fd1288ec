/**
 * cpu, backend "bpf": the scheduler's own nanoseconds, per thread (bpf/modules/cpu.bpf.c).
 */
import { attachAll, type Context, type Sampler, type Tick, Totals } from "../../core/module.js";
import { type CpuRow, withinBounds } from "./table.js";

const fields = ["on_ns", "alive_ns", "wait_ns", "voluntary", "involuntary"] as const;
const none = { on_ns: 0, alive_ns: 0, wait_ns: 0, voluntary: 0, involuntary: 0 };

export const cpuPrograms = ["cpu_last_switch", "cpu_walk"];

/** Longer than a thousand tasks take, shorter than being preempted. */
const longestWalkNs = 2.5e6;

export function startBpf(context: Context): Sampler {
  const totals = new Totals(context.object, "cpu_totals", "struct cpu_total", fields);
  const carried = new Map<number, number>();
  const lost = context.object.variable<number>("cpu_lost");
  const lostBefore = lost.get();
  const baseline = context.object.variable<number>("cpu_baseline");
  const walkedAt = context.object.variable<number>("cpu_walk_ns");
  const walkEnded = context.object.variable<number>("cpu_walk_end_ns");
  const walk = context.object.program("cpu_walk").attachIterator();
  const begin = (): void => {
    baseline.set(1);
    walk.read();
    baseline.set(0);
  };
  begin();
  const detach = attachAll(context, ["cpu_last_switch"]);

  const read = (): number => {
    // The interval ends when the walk begins; one that was preempted on its way has read some threads
    // later than that, so another is made.
    for (let tries = 0; tries < 10; tries++) {
      walk.read();
      if (walkEnded.get() - walkedAt.get() < longestWalkNs) break;
    }
    return walkedAt.get();
  };

  function* sample(tick: Tick): Iterable<CpuRow> {
    const changes = totals.take(tick.processes);
    for (const process of tick.processes) {
      const change = changes.get(process.id) ?? none;
      // A running thread's account is as old as the last scheduler tick, so one reading may hold up to
      // that much of the interval before. What exceeds the threads' time waits; at the end it is due.
      const bound = process.ended ? Infinity : change.alive_ns;
      const [on, later] = withinBounds(change.on_ns, carried.get(process.id) ?? 0, bound);
      carried.set(process.id, later);
      const { Ticks, PID, COMM } = tick.identify(process);
      yield {
        Ticks,
        PID,
        COMM,
        "ON CPU": on / 1e6,
        "OFF CPU": Math.max(0, change.alive_ns - on) / 1e6,
        // The remainder that is due at the end is no part of this interval's share.
        "CPU%": Math.min(on, change.alive_ns) / 1e7 / tick.elapsed,
        WAIT: change.wait_ns / 1e6,
        THREADS: process.threads,
        VCSW: change.voluntary,
        ICSW: change.involuntary,
      };
    }
  }

  return {
    kind: "sampler",
    backend: "bpf",
    begin,
    read,
    sample,
    forget: (ended) => {
      totals.forget(ended);
      for (const process of ended) carried.delete(process.id);
    },
    lost: () => lost.get() - lostBefore,
    stop: () => {
      walk.close();
      detach();
    },
  };
}
