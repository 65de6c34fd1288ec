/**
 * cpu, backend "bpf": every scheduler switch, per thread, in nanoseconds (bpf/modules/cpu.bpf.c).
 */
import { attachAll, type Context, type Sampler, type Tick, Totals } from "../../core/module.js";
import { monotonicNs } from "../../core/clock.js";
import type { CpuRow } from "./table.js";

interface CpuTotal extends Readonly<Record<string, number>> {
  readonly on_ns: number;
  readonly off_ns: number;
  readonly wait_ns: number;
  readonly voluntary: number;
  readonly involuntary: number;
}

const none: CpuTotal = { on_ns: 0, off_ns: 0, wait_ns: 0, voluntary: 0, involuntary: 0 };

export function startBpf(context: Context): Sampler {
  const start = context.object.variable<number>("cpu_start_ns");
  start.set(monotonicNs());
  const totals = new Totals<CpuTotal>(context.map("cpu_totals"));
  const lost = context.object.variable<number>("cpu_lost");
  const lostBefore = lost.get();
  const detach = attachAll(context, ["cpu_switch"]);
  const walk = context.object.program("cpu_sample").attachIterator();

  function* sample(tick: Tick): Iterable<CpuRow> {
    walk.read(); // closes every open interval at this moment
    const changes = totals.take();
    for (const process of tick.processes) {
      const change = changes.get(process.id) ?? none;
      yield {
        ...tick.identify(process),
        "ON CPU": change.on_ns / 1e6,
        "OFF CPU": change.off_ns / 1e6,
        "CPU%": change.on_ns / 1e7 / tick.elapsed,
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
    sample,
    begin: () => {
      start.set(monotonicNs());
    },
    forget: (ended) => {
      totals.forget(ended);
    },
    lost: () => lost.get() - lostBefore,
    stop: () => {
      walk.close();
      detach();
    },
  };
}
