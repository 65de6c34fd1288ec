/**
 * Owns: run.json: what ran, how, and what it cost; replaced atomically, so a reader never sees half of it.
 * Owns not: the figures in it.
 */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { type Invocation, version } from "./cli.js";
import { keepOld } from "./old-files.js";
import type { OnlookerRecord } from "./onlooker.js";
import { createFile, type Owner, reasonOf } from "./output-file.js";

export interface ModuleRecord {
  backend: string;
  state: "running" | "stopped" | "failed" | "unavailable";
  reason?: string;
  file: string;
  /** Files the table is in: more than one with max_file_size. */
  files: number;
  rows: number;
  events_seen: number;
  events_written: number;
  events_lost: number;
  /** Of the lost ones, those a process can be charged with. */
  lost_by_process?: readonly { readonly pid: number; readonly comm: string; readonly lost: number }[];
  /** Run time and runs of the module's BPF programs, ns, while it was measured (monitor.bpf_measured_ms). */
  bpf_run_ns: number;
  bpf_runs: number;
}

export interface RunRecord {
  version: string;
  kernel: string;
  command: readonly string[];
  mode: "launch" | "attach" | "host";
  config: Readonly<Record<string, unknown>>;
  start: string;
  end: string | null;
  state: "running" | "finished" | "failed";
  exit_code: number | null;
  ticks: number;
  processes_lost: number;
  warnings: string[];
  modules: Record<string, ModuleRecord>;
  monitor: {
    cpu_ms: number;
    peak_rss_kb: number;
    /** How late the latest tick began: how long the event loop was not free at most. */
    max_tick_late_ms: number;
    /** The part of the run in which bpf_run_ns and bpf_runs were measured. */
    bpf_measured_ms: number;
  };
  /** There when somebody can look on. */
  http?: OnlookerRecord;
}

/** Of a run that begins now; `config` is the effective one. */
export function newRecord(invocation: Invocation, config: RunRecord["config"]): RunRecord {
  return {
    version,
    kernel: os.release(),
    command: invocation.command,
    mode: invocation.mode === "modules" ? "launch" : invocation.mode,
    config,
    start: new Date().toISOString(),
    end: null,
    state: "running",
    exit_code: null,
    ticks: 0,
    processes_lost: 0,
    warnings: [],
    modules: {},
    monitor: { cpu_ms: 0, peak_rss_kb: 0, max_tick_late_ms: 0, bpf_measured_ms: 0 },
  };
}

export class RunFile {
  readonly path: string;
  readonly #owner: Owner | undefined;

  /** An older run.json is put aside, and a folder that cannot be written is found out. */
  constructor(folder: string, overwrite: boolean, owner: Owner | undefined, first: RunRecord) {
    this.path = path.join(folder, "run.json");
    this.#owner = owner;
    if (!overwrite) keepOld(this.path);
    this.write(first);
  }

  /** @throws Error with the sentence; a full disk must not end the run, so that is the caller's. */
  write(record: RunRecord): void {
    const fresh = path.join(path.dirname(this.path), `.run.${String(process.pid)}.json`);
    const fd = createFile(fresh, true, this.#owner);
    try {
      fs.writeFileSync(fd, `${JSON.stringify(record, undefined, 2)}\n`); // all of it, or an error
    } catch (error) {
      fs.rmSync(fresh, { force: true });
      throw new Error(`run.json cannot be written: ${reasonOf(error)}.`, { cause: error });
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(fresh, this.path);
  }
}
