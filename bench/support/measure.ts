// What the benchmarks share. Owns: running a command bare or under treesnoop in a folder that goes away, medians of
// alternating runs, one way to print. Does not own: any claim; a number is printed next to the one it is to be read against.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { RunRecord } from "../../test/support/run.js";

export type { RunRecord };

/** The project's folder: this file is compiled to build/bench/support/. */
export const root = fileURLToPath(new URL("../../../", import.meta.url));
/** As users start it: run.sh becomes the monitor (same pid), with the options it gives to node. */
export const program: readonly string[] = [join(root, "run.sh")];
/** The monitor alone, without run.sh's look at whether set-up is due. */
export const monitor: readonly string[] = [process.execPath, join(root, "dist", "main.js")];

export function workload(name: string): string {
  return join(root, "build", "workloads", name);
}

/** Every core module at once, in the backend that needs BPF. */
export const allModules = {
  snoop_cpu: "bpf",
  cpu_output_file: "cpu.csv",
  snoop_mem: "bpf",
  mem_output_file: "mem.csv",
  memleak_probes: { probes: [`${workload("leak_probes")}:recurse`], output_file: "leak.csv" },
  snoop_network: "bpf",
  network_output_file: "network.csv",
  snoop_syscall: "bpf",
  syscall_output_file: "syscall.csv",
  interval: 0.5,
};

export interface Finished {
  readonly stdout: string;
  readonly ms: number;
}

export interface Watched extends Finished {
  readonly record: RunRecord;
}

/** A command that is running, with its output. */
export class Running {
  readonly child: ChildProcess;
  readonly started = performance.now();
  stdout = "";
  stderr = "";
  readonly #finished: Promise<Finished>;

  constructor(command: readonly string[], directory?: string) {
    const [file = "", ...args] = command;
    this.child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], ...(directory === undefined ? {} : { cwd: directory }) });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.#finished = once(this.child, "close").then(([code]) => {
      const ms = performance.now() - this.started;
      if (code !== 0) throw new Error(`${command.join(" ")}: exit code ${String(code)}\n${this.stderr}`);
      return { stdout: this.stdout, ms };
    });
    this.#finished.catch(() => undefined);
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error("the command did not start");
    return this.child.pid;
  }

  finish(): Promise<Finished> {
    return this.#finished;
  }
}

export async function bare(command: readonly string[]): Promise<Finished> {
  return new Running(command).finish();
}

/** treesnoop in a folder of its own; `inspect` sees it run. */
export async function watched(
  config: object,
  command: readonly string[],
  through: readonly string[] = program,
  inspect?: (running: Running, folder: string) => Promise<void>,
): Promise<Watched> {
  const folder = mkdtempSync(join(tmpdir(), "treesnoop-bench-"));
  try {
    const file = join(folder, "config.json");
    writeFileSync(file, JSON.stringify(config));
    const running = new Running([...through, "-q", "-c", file, "--", ...command], folder);
    if (inspect !== undefined) await inspect(running, folder);
    const finished = await running.finish();
    return { ...finished, record: JSON.parse(readFileSync(join(folder, "run.json"), "utf8")) as RunRecord };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Measures outside the tree: treesnoop watches a sleeper while `measure` runs beside it. */
export async function beside<T>(config: object, measure: () => Promise<T>): Promise<T> {
  let result: { value: T } | undefined;
  await watched(config, ["sh", "-c", "echo ready; exec sleep 1000"], program, async (running) => {
    while (!running.stdout.includes("ready")) {
      if (running.child.exitCode !== null) throw new Error(running.stderr);
      await pause(20);
    }
    try {
      result = { value: await measure() };
    } finally {
      // The sleeper is to end well: treesnoop gives back its exit code.
      running.child.kill("SIGTERM");
    }
  }).catch((error: unknown) => {
    // 128 + SIGTERM is how this run ends when all is well.
    if (result === undefined) throw error;
  });
  if (result === undefined) throw new Error("nothing was measured");
  return result.value;
}

export function installed(name: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Takes each measurement in turn, `rounds` times, so that a slow minute of the machine falls on all alike. */
export async function alternate<Name extends string>(rounds: number, measurements: Readonly<Record<Name, () => Promise<number>>>): Promise<Record<Name, number>> {
  const values = new Map<Name, number[]>();
  const names = Object.keys(measurements) as Name[];
  for (let round = 0; round < rounds; round++)
    for (const name of names) values.set(name, [...(values.get(name) ?? []), await measurements[name]()]);
  return Object.fromEntries(names.map((name) => [name, median(values.get(name) ?? [])])) as Record<Name, number>;
}

export function heading(text: string): void {
  console.log(`\n${text}`);
}

/** One line: what, how much, and how that compares. */
export function line(what: string, value: number, unit: string, comparison = ""): void {
  console.log(`  ${what.padEnd(48)} ${value.toFixed(value < 100 ? 2 : 0).padStart(9)} ${unit.padEnd(6)} ${comparison}`.trimEnd());
}

export function times(value: number, base: number): string {
  return `${(value / base).toFixed(2)} ×`;
}

/** CPU time of all threads of a process that are alive, in ms, from the scheduler's own account. */
export function cpuMs(pid: number): number {
  let ns = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`))
    ns += Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "utf8").split(" ")[0]);
  return ns / 1e6;
}
