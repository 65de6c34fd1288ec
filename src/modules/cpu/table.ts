/**
 * Owns: the columns of the cpu table and the arithmetic all backends share.
 */
import { type Column, processColumns, type RowOf } from "../../core/module.js";

export const columns = [
  ...processColumns,
  {
    name: "ON CPU",
    type: "number",
    unit: "ms",
    digits: 6,
    description: "on the CPU in this tick, summed over the threads; -1 from top",
  },
  {
    name: "OFF CPU",
    type: "number",
    unit: "ms",
    digits: 6,
    description: "alive but not on the CPU, summed over the threads; -1 from top",
  },
  {
    name: "CPU%",
    type: "number",
    unit: "%",
    digits: 2,
    description: "ON CPU / elapsed × 100; two busy threads: 200",
  },
  {
    name: "WAIT",
    type: "number",
    unit: "ms",
    digits: 6,
    description: "of OFF CPU, waiting on a run queue, up to the last time it ran (bpf)",
  },
  { name: "THREADS", type: "integer", description: "threads alive now" },
  { name: "VCSW", type: "integer", description: "voluntary context switches (bpf)" },
  { name: "ICSW", type: "integer", description: "involuntary context switches (bpf)" },
] as const satisfies readonly Column[];

export type CpuRow = RowOf<typeof columns>;

/**
 * A reading may hold some of the interval before it (a clock tick counts as a whole even when it began
 * earlier), and so exceed what the threads could have used; the excess is carried into the next.
 */
export function withinBounds(
  used: number,
  carried: number,
  room: number,
): [now: number, later: number] {
  const due = used + carried;
  return due > room ? [room, due - room] : [due, 0];
}
