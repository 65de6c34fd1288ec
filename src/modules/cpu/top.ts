/**
 * cpu, backend "top": the system's top in batch mode, one call a tick for the whole tree. Two iterations:
 * the first shows averages since each process began, only the second what goes on now.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Sampler, Tick } from "../../core/module.js";
import type { CpuRow } from "./table.js";

/** CPU% by pid, of the last iteration in top's output. */
export function parseTop(output: string): Map<number, number> {
  const shares = new Map<number, number>();
  let columns: string[] = [];
  for (const line of output.split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields.includes("PID") && fields.includes("%CPU")) {
      columns = fields;
      shares.clear();
      continue;
    }
    const pid = Number(fields[columns.indexOf("PID")]);
    if (columns.length > 0 && Number.isInteger(pid)) {
      shares.set(pid, Number(fields[columns.indexOf("%CPU")]));
    }
  }
  return shares;
}

export function startTop(): Sampler {
  const run = promisify(execFile);
  let measured = 0.2;

  async function sample(tick: Tick): Promise<CpuRow[]> {
    // Part of the interval, so that the answer is there before the next tick.
    measured = Math.min(0.5, Math.max(0.1, tick.elapsed / 4));
    const { stdout } = await run("top", ["-b", "-n", "2", "-d", measured.toFixed(2)], {
      env: { PATH: process.env["PATH"], LC_ALL: "C", TERM: "dumb", HOME: "/nonexistent" },
      maxBuffer: 64 << 20,
    });
    const shares = parseTop(stdout);
    return tick.processes.map((process) => ({
      ...tick.identify(process),
      "ON CPU": -1,
      "OFF CPU": -1,
      // One that has ended is not in the list; what it used at the end, top does not tell.
      "CPU%": shares.get(process.pid) ?? 0,
      WAIT: "",
      THREADS: process.threads,
      VCSW: "",
      ICSW: "",
    }));
  }

  return { kind: "sampler", backend: "top", sample, stop: () => undefined };
}
