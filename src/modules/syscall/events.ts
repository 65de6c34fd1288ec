/**
 * syscall_mode "events": one row per entry and per return.
 */
import { type Column, processColumns, type RowOf, type Stream } from "../../core/module.js";
import type { SyscallNames } from "./names.js";

export const eventColumns = [
  ...processColumns,
  { name: "ACTION", type: "integer", description: "0 entry, 1 return" },
  { name: "SYSCALL_ID", type: "integer", description: "number of the call" },
  { name: "PARM1", type: "integer", description: "entry: first argument, signed" },
  { name: "TID", type: "integer", description: "thread, in the monitor's pid namespace" },
  { name: "SYSCALL", type: "text", description: "name of the call" },
  { name: "RET", type: "integer", description: "return: the result, negative for -errno" },
  { name: "DURATION", type: "number", unit: "µs", description: "return: since the entry" },
] as const satisfies readonly Column[];

interface SyscallEvent {
  readonly tid: number;
  readonly nr: number;
  readonly action: number;
  readonly compat: number;
  readonly value: number | bigint;
  readonly duration_ns: number;
}

export function eventStream(names: SyscallNames, stop: () => void): Stream {
  return {
    kind: "stream",
    backend: "bpf events",
    record: "struct syscall_event",
    row(record, who, ticks, bytes): RowOf<typeof eventColumns> {
      const event = record as unknown as SyscallEvent;
      const entry = event.action === 0;
      // Exact where a double is not: an argument may be any 64-bit value.
      const value = bytes.readBigInt64LE(24);
      return {
        Ticks: ticks,
        PID: who.pid,
        COMM: who.comm,
        ACTION: event.action,
        SYSCALL_ID: event.nr,
        PARM1: entry ? value : "",
        TID: event.tid,
        SYSCALL: names.name(event.nr, event.compat === 1),
        RET: entry ? "" : value,
        DURATION: entry ? "" : event.duration_ns / 1e3,
      };
    },
    stop,
  };
}
