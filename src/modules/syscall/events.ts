/**
 * syscall_mode "events": one row per entry and per return.
 */
import type { FieldCondition } from "libbpf-ts";
import { type Column, processColumns, type Stream } from "../../core/module.js";
import type { SyscallNames } from "./names.js";

const entry: FieldCondition = { field: "action", is: 0 };
const exit: FieldCondition = { field: "action", is: 1 };

export function eventColumns(names: SyscallNames): Column[] {
  return [
    ...processColumns,
    { name: "ACTION", type: "integer", description: "0 entry, 1 return", from: { field: "action" } },
    { name: "SYSCALL_ID", type: "integer", description: "number of the call", from: { field: "nr" } },
    {
      name: "PARM1",
      type: "integer",
      description: "entry: first argument, signed",
      from: { field: "value", when: entry },
    },
    {
      name: "TID",
      type: "integer",
      description: "thread, in the monitor's pid namespace",
      from: { field: "tid" },
    },
    {
      name: "SYSCALL",
      type: "text",
      description: "name of the call",
      // A 32-bit call's number means another table than ours.
      from: [
        { field: "nr", as: { names: [], other: "compat_" }, when: { field: "compat", is: 1 } },
        { field: "nr", as: { names: names.byNumber, other: "syscall_" } },
      ],
    },
    {
      name: "RET",
      type: "integer",
      description: "return: the result, negative for -errno",
      from: { field: "value", when: exit },
    },
    {
      name: "DURATION",
      type: "number",
      unit: "µs",
      description: "return: since the entry",
      from: { field: "duration_ns", as: { per: 1000, digits: 3 }, when: exit },
    },
  ];
}

export function eventStream(stop: () => void): Stream {
  return { kind: "stream", backend: "bpf events", stop };
}
