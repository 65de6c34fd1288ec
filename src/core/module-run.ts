/**
 * Owns: one module that is switched on: its file, its sampler or stream, its entry in run.json. A module
 * that throws is switched off with one message; the others go on.
 * Owns not: when ticks come, which modules are on (session.ts).
 */
import * as path from "node:path";
import type { Program } from "libbpf-ts";
import { monotonicNs, unixSeconds } from "./clock.js";
import { describe } from "./errors.js";
import type { Log } from "./log.js";
import type {
  AnyRow,
  Context,
  Module,
  Process,
  Request,
  Sampler,
  Stream,
  Tick,
} from "./contract.js";
import { OutputFile, type Owner } from "./output-file.js";
import type { ModuleRecord } from "./run-record.js";
import type { StreamCount, Streams } from "./streams.js";
import { Table } from "./table.js";

export interface Folder {
  readonly dir: string;
  readonly overwrite: boolean;
  readonly owner: Owner | undefined;
}

/** The cells Ticks, PID and COMM of rows read at this time. */
function identifier(seconds: number): Tick["identify"] {
  return (process) => ({
    Ticks: process.ended ? "END" : seconds,
    PID: process.pid,
    COMM: process.comm,
  });
}

export class ModuleRun {
  readonly module: Module;
  request: Request<unknown>;
  readonly record: ModuleRecord;
  readonly #table: Table;
  readonly #log: Log;
  readonly #folder: Folder;
  readonly #streams: Streams;
  readonly #number: number;
  #file: OutputFile;
  /** Rows and losses of files this run has finished with. */
  #earlier = { rows: 0, lost: 0 };
  #work: Sampler | Stream | undefined;
  #programs: readonly Program[] = [];
  /** Problems of writing a user has been told of, once each. */
  readonly #reported = new Set<string>();
  /** When the module was last read, CLOCK_MONOTONIC ns. */
  #read = monotonicNs();
  /** Rows of a stream that are no events: one as each process ends. */
  #endRows = 0;

  constructor(
    module: Module,
    request: Request<unknown>,
    folder: Folder,
    streams: Streams,
    number: number,
    log: Log,
  ) {
    this.module = module;
    this.request = request;
    this.#table = new Table(module.columns(request.options));
    this.#log = log;
    this.#folder = folder;
    this.#streams = streams;
    this.#number = number;
    this.#file = this.#create(request.file);
    this.record = {
      backend: "",
      state: "running",
      file: request.file,
      rows: 0,
      events_seen: 0,
      events_written: 0,
      events_lost: 0,
      bpf_run_ns: 0,
      bpf_runs: 0,
    };
  }

  #create(name: string): OutputFile {
    const { dir, overwrite, owner } = this.#folder;
    const file = new OutputFile(path.join(dir, name), overwrite, owner);
    file.append(this.#table.header(), 0);
    return file;
  }

  async start(context: Context, processes: readonly Process[]): Promise<void> {
    const before = this.#streams.countSoFar(this.#number);
    const work = await this.module.start(context, this.request.options);
    this.#work = work;
    this.record.backend = work.backend;
    this.#programs = this.module
      .bpf(this.request.options)
      .programs.filter((name) => context.object.hasProgram(name))
      .map((name) => context.object.program(name));
    if (work.kind === "stream") {
      this.#streams.add(this.#number, work, processes, before, (table) => {
        this.#write(table);
      });
    }
  }

  /** Name that an older file of the same name has now. */
  get kept(): string | undefined {
    return this.#file.kept;
  }

  /** It could not be started. */
  discard(error: unknown): void {
    this.record.state = "failed";
    this.record.reason = describe(error);
    this.#file.close();
  }

  begin(): void {
    if (this.#work?.kind === "sampler") this.#work.begin?.();
    this.#read = monotonicNs();
  }

  /** Each module's interval ends when that module is read, not when the tick began. */
  async tick(processes: readonly Process[]): Promise<void> {
    const work = this.#work;
    if (!work) return;
    try {
      const now = (work.kind === "sampler" ? work.read?.() : undefined) ?? monotonicNs();
      const elapsed = (now - this.#read) / 1e9;
      this.#read = now;
      const identify = identifier(unixSeconds(now));
      if (work.kind === "sampler") {
        this.#write([...(await work.sample({ elapsed, processes, identify }))]);
      } else {
        const ended = processes.filter((process) => process.ended);
        this.#write(ended.map(identify));
        this.#endRows += ended.length;
      }
    } catch (error) {
      this.fail(error);
    }
  }

  forget(ended: readonly Process[]): void {
    const work = this.#work;
    if (work?.kind !== "sampler") return;
    try {
      work.forget?.(ended);
    } catch (error) {
      this.fail(error);
    }
  }

  #write(table: readonly AnyRow[]): void {
    if (table.length === 0) return;
    this.#file.append(this.#table.rows(table), table.length);
    const problem = this.#file.problem;
    if (problem && !this.#reported.has(problem)) {
      this.#reported.add(problem);
      this.#log.error(
        `${this.module.name}: rows cannot be written to ${this.request.file}: ${problem}.`,
        "They are counted as lost in run.json; writing goes on when there is room again.",
      );
    }
  }

  /** The same counts, from now on into another file. */
  moveTo(request: Request<unknown>): void {
    const next = this.#create(request.file);
    this.#closeFile();
    this.#file = next;
    this.request = request;
    this.record.file = request.file;
  }

  #closeFile(): void {
    this.#earlier.rows += this.#file.rows;
    this.#earlier.lost += this.#file.lost;
    this.#file.close();
  }

  /** Brings the entry in run.json up to date; `last` is the final count of a stream. */
  account(last?: StreamCount): void {
    const { record } = this;
    if (!this.#work) return;
    const unwritten = this.#earlier.lost + this.#file.lost;
    record.rows = this.#earlier.rows + this.#file.rows;
    const lost = this.#work.lost?.() ?? 0;
    if (this.#work.kind === "stream") {
      const { seen, lost: dropped } = last ?? this.#streams.count(this.#number);
      record.events_seen = seen;
      record.events_lost = dropped + lost + unwritten;
    } else {
      record.events_seen = record.rows + unwritten;
      record.events_lost = lost + unwritten;
    }
    record.events_written = record.rows - this.#endRows;
    const runs = this.#programs.map((program) => program.stats());
    record.bpf_run_ns = runs.reduce((sum, each) => sum + Number(each.runTimeNs), 0);
    record.bpf_runs = runs.reduce((sum, each) => sum + Number(each.runCount), 0);
  }

  fail(error: unknown): void {
    this.record.state = "failed";
    this.record.reason = describe(error);
    this.#log.error(`${this.module.name} is switched off: ${describe(error)}.`);
    this.stop("failed");
  }

  stop(state: "stopped" | "failed"): void {
    const work = this.#work;
    if (!work) return;
    try {
      work.stop(); // first: nothing new comes while the rest is read
      this.account(work.kind === "stream" ? this.#streams.remove(this.#number) : undefined);
    } catch (error) {
      state = "failed";
      this.record.reason = describe(error);
    }
    this.#work = undefined;
    this.#closeFile();
    this.record.state = state;
  }
}
