/**
 * cpu: time on and off the CPU per process. Three backends for one table.
 */
import { defineModule, fileName, host, type Need } from "../../core/module.js";
import { cpuPrograms, startBpf } from "./bpf.js";
import { startStat } from "./stat.js";
import { columns } from "./table.js";
import { startTop } from "./top.js";

type Backend = "bpf" | "stat" | "top";

export default defineModule<Backend>({
  name: "cpu",
  summary: "time on and off the CPU per process",
  config: {
    snoop_cpu: {
      enum: ["bpf", "bcc", "stat", "top", null, "None"],
      default: null,
      description: "Scheduler switches (bpf), /proc/<pid>/stat (stat), top(1) (top), or off (null).",
    },
    cpu_output_file: { ...fileName, default: "cpu.csv" },
  },
  fileKey: "cpu_output_file",
  request(config) {
    const wanted = config["snoop_cpu"] ?? "None";
    if (wanted === "None") return undefined;
    return {
      options: wanted === "bcc" ? "bpf" : (wanted as Backend),
      file: (config["cpu_output_file"] as string | undefined) ?? "cpu.csv",
    };
  },
  columns: () => columns,
  bpf: (backend = "bpf") =>
    backend === "bpf"
      ? { programs: cpuPrograms, maps: ["cpu_threads", "cpu_totals"] }
      : { programs: [], maps: [] },
  needs(backend): Need[] {
    if (backend === "stat") return [host.file("/proc/self/stat", "procfs")];
    if (backend === "top") return [host.command("top", "procps")];
    return [host.tracepoint("sched_switch"), host.mapType("task_storage", "task storage")];
  },
  start(context, backend) {
    if (backend === "stat") return startStat(context.processes());
    if (backend === "top") return startTop();
    return startBpf(context);
  },
});
