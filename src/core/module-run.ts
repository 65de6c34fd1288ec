/**
 * Owns: one module that is switched on: its file, its sampler or stream, its entry in run.json. A module
 * that throws is switched off with one message; the others go on.
 * Owns not: when ticks come, which modules are on (session.ts).
 */
import type { EventTap, Program } from "libbpf-ts";
import { monotonicNs, unixSeconds } from "./clock.js";
import type { AnyRow, Column, Context, Module, Process, Request, Sampler, Stream, Tick } from "./contract.js";
import { describe } from "./errors.js";
import { keptRows, Latest } from "./latest.js";
import type { Log } from "./log.js";
import type { TableView } from "./onlooker.js";
import { type Folder, Outputs } from "./output.js";
import type { ModuleRecord } from "./run-record.js";
import type { Streams } from "./streams.js";
import { Table } from "./table.js";

/** Processes named in run.json for what was lost of them; the rest is in the sum. */
const namedLosses = 1000;

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
  /** Name that an older file of the same name has now. */
  readonly kept: string | undefined;
  readonly #columns: readonly Column[];
  readonly #table: Table;
  readonly #log: Log;
  readonly #folder: Folder;
  readonly #streams: Streams;
  readonly #number: number;
  readonly #outputs: Outputs;
  /** There when somebody looks on. */
  #latest: Latest | undefined;
  #work: Sampler | Stream | undefined;
  #programs: readonly Program[] = [];
  /** Problems of writing a user has been told of, once each. */
  readonly #reported = new Set<string>();
  /** When the module was last read, CLOCK_MONOTONIC ns. */
  #read = monotonicNs();
  /** Records of the stream's number lost before this run of the module. */
  readonly #lostBefore: number;

  /** `overwrite`: whether an older file may go. */
  constructor(
    module: Module,
    request: Request<unknown>,
    folder: Folder,
    overwrite: boolean,
    streams: Streams,
    number: number,
    log: Log,
  ) {
    this.module = module;
    this.request = request;
    this.#columns = module.columns(request.options);
    this.#table = new Table(this.#columns);
    this.#log = log;
    this.#folder = folder;
    this.#streams = streams;
    this.#number = number;
    this.#lostBefore = streams.lost(number);
    const { file, kept } = folder.open(request.file, this.#table.header(), overwrite);
    this.#outputs = new Outputs(file);
    this.kept = kept;
    this.record = {
      backend: "",
      state: "running",
      file: request.file,
      files: 1,
      rows: 0,
      events_seen: 0,
      events_written: 0,
      events_lost: 0,
      bpf_run_ns: 0,
      bpf_runs: 0,
    };
  }

  async start(context: Context, processes: () => readonly Process[]): Promise<void> {
    const { options } = this.request;
    const { stream, programs } = this.module.bpf(options);
    if (stream) {
      this.#streams.add(this.#number, stream.record, this.#columns, this.#outputs.file, processes);
    }
    try {
      this.#work = await this.module.start(context, options);
    } finally {
      if (stream && !this.#work) this.#streams.remove(this.#number);
    }
    this.record.backend = this.#work.backend;
    this.#programs = programs
      .filter((name) => context.object.hasProgram(name))
      .map((name) => context.object.program(name));
  }

  /** It could not be started. */
  discard(error: unknown): void {
    this.record.state = "failed";
    this.record.reason = describe(error);
    this.#work?.stop();
    this.#outputs.close();
  }

  begin(): void {
    if (this.#work?.kind === "sampler") this.#work.begin?.();
    this.#read = monotonicNs();
  }

  /** Each module's interval ends when that module is read, not when the tick began. */
  async tick(processes: readonly Process[]): Promise<void> {
    const work = this.#work;
    if (work?.kind !== "sampler") return;
    try {
      const now = work.read?.() ?? monotonicNs();
      const elapsed = (now - this.#read) / 1e9;
      this.#read = now;
      const time = unixSeconds(now);
      const identify = identifier(time);
      this.#write(time, [...(await work.sample({ elapsed, time, processes, identify }))]);
    } catch (error) {
      await this.fail(error);
    }
  }

  async forget(ended: readonly Process[]): Promise<void> {
    const work = this.#work;
    if (work?.kind !== "sampler") return;
    try {
      work.forget?.(ended);
    } catch (error) {
      await this.fail(error);
    }
  }

  #write(time: number, table: readonly AnyRow[]): void {
    const lines = this.#table.rows(table);
    if (table.length > 0) this.#outputs.file.append(lines, table.length);
    this.#latest?.sampled(time, lines, table.length);
  }

  /** Somebody looks on from now on. */
  show(): void {
    const openTap = (onRows: (rows: readonly string[], skipped: number) => void): EventTap<string> | undefined =>
      this.#streams.tapRows(this.#number, { perSecond: keptRows, onRows });
    this.#latest = this.#work?.kind === "stream" ? new Latest(openTap) : new Latest();
  }

  /** The rows of the tick are in the file. */
  publish(): void {
    this.#latest?.publish();
  }

  view(): TableView | undefined {
    const latest = this.#latest;
    if (!latest || !this.#work) return undefined;
    return {
      module: this.module.name,
      summary: this.module.summary,
      columns: this.#columns,
      header: this.#table.header(),
      file: this.record.file,
      rows: this.record.rows,
      latest: () => latest.latest(),
      subscribe: (listener) => latest.subscribe(listener),
    };
  }

  /** The same counts, from now on into another file. */
  moveTo(request: Request<unknown>): void {
    const { file } = this.#folder.open(request.file, this.#table.header(), false);
    if (this.#work?.kind === "stream") this.#streams.moveTo(this.#number, file);
    this.#outputs.moveTo(file);
    this.request = request;
    this.record.file = request.file;
  }

  /** Brings the entry in run.json up to date. */
  account(): void {
    const { record } = this;
    const work = this.#work;
    if (!work) return;
    const figures = this.#outputs.figures();
    const lost = work.lost?.() ?? 0;
    record.rows = figures.rows;
    record.files = figures.files;
    if (work.kind === "stream") {
      record.events_written = figures.events;
      record.events_lost =
        this.#streams.lost(this.#number) - this.#lostBefore + figures.eventsLost + lost;
      record.events_seen = record.events_written + record.events_lost;
      const losses = this.#streams.lossesByProcess(this.#number).slice(0, namedLosses);
      if (losses.length > 0) {
        record.lost_by_process = losses.map(({ pid, name, count }) => ({ pid, comm: name, lost: count }));
      }
    } else {
      record.events_written = figures.rows;
      record.events_seen = figures.rows + figures.rowsLost;
      record.events_lost = figures.rowsLost + lost;
    }
    const runs = this.#programs.map((program) => program.stats());
    record.bpf_run_ns = runs.reduce((sum, each) => sum + Number(each.runTimeNs), 0);
    record.bpf_runs = runs.reduce((sum, each) => sum + Number(each.runCount), 0);
    this.#report(figures.problem);
  }

  #report(problem: string): void {
    if (!problem || this.#reported.has(problem)) return;
    this.#reported.add(problem);
    this.#log.error(
      `${this.module.name}: rows cannot be written to ${this.request.file}: ${problem}.`,
      "They are counted as lost in run.json; writing goes on when there is room again.",
    );
  }

  async fail(error: unknown): Promise<void> {
    this.record.state = "failed";
    this.record.reason = describe(error);
    this.#log.error(`${this.module.name} is switched off: ${describe(error)}.`);
    await this.stop("failed");
  }

  async stop(state: "stopped" | "failed"): Promise<void> {
    const work = this.#work;
    if (!work) return;
    this.#latest?.close();
    try {
      work.stop(); // first: nothing new comes while the rest is written
      await this.#streams.finish(work.kind === "stream" ? this.#number : undefined);
      this.#outputs.close();
      await this.#streams.finish(); // what a pipe did not take by then is lost
      this.account();
    } catch (error) {
      state = "failed";
      this.record.reason = describe(error);
    }
    this.#work = undefined;
    if (work.kind === "stream") this.#streams.remove(this.#number);
    this.record.state = state;
  }
}
