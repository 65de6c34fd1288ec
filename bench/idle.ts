// Prints: what a tick costs the monitor while 1000 processes live and none does anything, for each backend of the cpu module and for
// all five modules; against one call of top.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { allModules, bare, cpuMs, heading, line, pause, program, times, watched } from "./support/measure.js";

const count = 1000;
const interval = 0.25;
const ticks = 16;
// Starting them is not idling: the shell says when all are there. It ends them itself, since the run ends with it.
const crowd = `mkfifo end; i=0; while [ $i -lt ${count} ]; do sleep 1000 & p="$p $!"; i=$((i+1)); done; echo ready; read x < end; kill $p; exit 0`;

/** Milliseconds of the monitor's CPU per tick. */
async function perTick(config: object, table: string): Promise<number> {
  let result = Number.NaN;
  await watched({ ...config, interval }, ["sh", "-c", crowd], program, async (running, folder) => {
    while (!running.stdout.includes("ready")) {
      if (running.child.exitCode !== null) throw new Error(running.stderr);
      await pause(20);
    }
    const seen = (): number => new Set(readFileSync(join(folder, table), "utf8").split("\n").map((row) => row.slice(0, row.indexOf(",")))).size;
    const after = async (number: number): Promise<{ ms: number; ticks: number }> => {
      while (seen() < number) {
        if (running.child.exitCode !== null) throw new Error(running.stderr);
        await pause(50);
      }
      return { ms: cpuMs(running.pid), ticks: seen() };
    };
    // A few ticks to come to rest, and then those that count.
    const from = await after(seen() + 6);
    const to = await after(from.ticks + ticks);
    result = (to.ms - from.ms) / (to.ticks - from.ticks);
    writeFileSync(join(folder, "end"), "\n");
  });
  return result;
}

const one = await bare(["top", "-b", "-n", "1"]);
heading(`monitor CPU per tick, ${count} processes that sleep`);
const cpu = { cpu_output_file: "cpu.csv" };
const bpf = await perTick({ snoop_cpu: "bpf", ...cpu }, "cpu.csv");
const stat = await perTick({ snoop_cpu: "stat", ...cpu }, "cpu.csv");
const all = await perTick(allModules, "cpu.csv");
line("cpu, bpf", bpf, "ms");
line("cpu, stat", stat, "ms", `${times(stat, bpf)} bpf`);
line("all five modules", all, "ms", `${times(all, bpf)} cpu alone`);
line("top -b -n 1, for comparison (elapsed)", one.ms, "ms", `${times(one.ms, all)} all five modules`);
