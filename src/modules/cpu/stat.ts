/**
 * cpu, backend "stat": differences of utime + stime in /proc/<pid>/stat (proc(5)), in clock ticks. What
 * waited-for children used (cutime, cstime) is not in those two and never enters.
 */
import * as fs from "node:fs";
import { execFileSync } from "node:child_process";
import type { Process, Sampler, Tick } from "../../core/module.js";
import { type CpuRow, withinBounds } from "./table.js";

interface Reading {
  /** utime + stime, ms. */
  readonly used: number;
  readonly threads: number;
}

/** Fields are counted behind the name, which may hold spaces and parentheses. */
export function parseStat(text: string, tickMs: number): Reading {
  const fields = text.slice(text.lastIndexOf(") ") + 2).split(" ");
  return { used: (Number(fields[11]) + Number(fields[12])) * tickMs, threads: Number(fields[17]) };
}

export function startStat(processes: readonly Process[]): Sampler {
  const tickMs = 1000 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
  const before = new Map<number, { used: number; carried: number; threads: number }>();

  /** A reaped process has no stat any more; the kernel's record of its end has the same sum. */
  const read = (process: Process): Reading => {
    const then = before.get(process.id);
    const threads = then?.threads ?? 1;
    if (process.ended) return { used: process.cpuNs / 1e6, threads };
    try {
      return parseStat(fs.readFileSync(`/proc/${String(process.pid)}/stat`, "utf8"), tickMs);
    } catch {
      return { used: then?.used ?? 0, threads }; // ended just now
    }
  };
  for (const process of processes) before.set(process.id, { ...read(process), carried: 0 });

  function* sample(tick: Tick): Iterable<CpuRow> {
    for (const process of tick.processes) {
      const now = read(process);
      const then = before.get(process.id) ?? { used: 0, carried: 0, threads: 1 };
      const room = Math.max(1, now.threads) * tick.elapsed * 1e3;
      const used = Math.max(0, now.used - then.used);
      // What is carried at the end is due: there is no later row.
      const bound = process.ended ? Infinity : room;
      const [on, carried] = withinBounds(used, then.carried, bound);
      before.set(process.id, { used: now.used, carried, threads: now.threads });
      const { Ticks, PID, COMM } = tick.identify(process);
      yield {
        Ticks,
        PID,
        COMM,
        "ON CPU": on,
        "OFF CPU": Math.max(0, room - on),
        "CPU%": Math.min(on, room) / 10 / tick.elapsed,
        WAIT: "",
        THREADS: process.ended ? 0 : now.threads,
        VCSW: "",
        ICSW: "",
      };
    }
  }

  return {
    kind: "sampler",
    backend: "stat",
    sample,
    forget: (ended) => {
      for (const process of ended) before.delete(process.id);
    },
    stop: () => {
      before.clear();
    },
  };
}
