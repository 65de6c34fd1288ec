/**
 * mem: live heap bytes and blocks per process, exact (bpf/modules/mem.bpf.c).
 */
import {
  type Column,
  defineModule,
  host,
  onOff,
  processColumns,
  type RowOf,
  type Tick,
} from "../core/module.js";
import { heapOf, heapParts } from "../services/heap/heap.js";

const columns = [
  ...processColumns,
  { name: "size(B)", type: "integer", unit: "B", description: "heap allocated and not yet freed, as asked for" },
  { name: "times", type: "integer", description: "number of such allocations" },
] as const satisfies readonly Column[];

export const heapNeeds = () => [
  host.mapType("task_storage", "task storage"),
  host.tracepoint("task_newtask"),
  host.tracepoint("sched_process_exec"),
  host.uprobeEvents(),
];

export default defineModule<null>({
  name: "mem",
  summary: "live heap bytes and blocks per process",
  ...onOff("mem"),
  columns: () => columns,
  bpf: () => heapParts,
  needs: heapNeeds,
  start(context) {
    const heap = heapOf(context);

    function* sample(tick: Tick): Iterable<RowOf<typeof columns>> {
      const sizes = heap.read();
      for (const process of tick.processes) {
        const { size, times } = sizes.get(process.id) ?? { size: 0, times: 0 };
        const { Ticks, PID, COMM } = tick.identify(process);
        yield { Ticks, PID, COMM, "size(B)": size, times };
      }
    }

    return {
      kind: "sampler",
      backend: "uprobes",
      sample,
      lost: () => heap.lost(),
      stop: () => undefined,
    };
  },
});
