/**
 * syscall: the system calls of the tree, each one or summed up (bpf/modules/syscall.bpf.c).
 */
import { attachAll, type Column, defineModule, host, onOff } from "../../core/module.js";
import { eventColumns, eventStream } from "./events.js";
import { wantedBits } from "./filter.js";
import { SyscallNames } from "./names.js";
import { startSummary, summaryColumns } from "./summary.js";

interface Options {
  readonly filter: readonly string[];
  readonly mode: "events" | "summary";
}

const keys = onOff("syscall");

export default defineModule<Options>({
  name: "syscall",
  summary: "system calls, each one or summed up",
  config: {
    ...keys.config,
    syscall_filter: {
      type: ["array", "null"],
      items: { type: ["string", "integer"] },
      default: null,
      description: "Names or numbers of the calls wanted; with ! of those not wanted.",
    },
    syscall_mode: {
      enum: ["events", "summary"],
      default: "events",
      description: "A row per entry and return, or a row per tick, process and call.",
    },
  },
  fileKey: keys.fileKey,
  request(config) {
    const on = keys.request(config);
    if (!on) return undefined;
    const filter = ((config["syscall_filter"] ?? []) as (string | number)[]).map(String);
    wantedBits(filter, new SyscallNames()); // an unknown name is refused with the configuration
    return {
      options: { filter, mode: (config["syscall_mode"] ?? "events") as Options["mode"] },
      file: on.file,
    };
  },
  columns: (options): readonly Column[] =>
    options.mode === "summary" ? summaryColumns : eventColumns(new SyscallNames()),
  bpf: (options) => ({
    programs: ["syscall_enter", "syscall_return"],
    maps: ["syscall_totals", "syscall_cell_keys", "syscall_cell_totals"],
    ...(options?.mode === "summary"
      ? {}
      : { stream: { number: "syscall_stream", record: "struct syscall_event" } }),
  }),
  needs: () => [
    host.tracepoint("sys_enter"),
    host.tracepoint("sys_exit"),
    host.mapType("ringbuf", "ring buffer"),
    host.mapType("task_storage", "task storage"),
  ],
  start(context, options) {
    const names = new SyscallNames();
    context.object.variable<bigint[]>("syscall_wanted").set(wantedBits(options.filter, names));
    context.object.variable<number>("syscall_summary").set(options.mode === "summary" ? 1 : 0);
    const detach = attachAll(context, ["syscall_return", "syscall_enter"]);
    return options.mode === "summary"
      ? startSummary(context, names, detach)
      : eventStream(detach);
  },
});
