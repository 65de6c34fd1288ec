/**
 * Owns: one run from the first check to the exit code: prepare, start, tick, stop, in reverse order and
 * through the same code however it ends.
 * Owns not: what each step does.
 */
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CsvWriter } from "libbpf-ts";
import type { Bpf } from "./bpf.js";
import { CostWindows } from "./bpf-cost.js";
import type { Invocation } from "./cli.js";
import { monotonicNs } from "./clock.js";
import { ConfigWatch, sameHttp, takenOver } from "./config-watch.js";
import { type Config, effective } from "./config.js";
import { describe } from "./errors.js";
import { ringBytes } from "./event-rings.js";
import type { Log } from "./log.js";
import type { Module } from "./contract.js";
import { ModuleSet } from "./module-set.js";
import type { Onlooker, OpenOnlooker } from "./onlooker.js";
import { Folder } from "./output.js";
import { invokingUser, makeFolder } from "./output-file.js";
import { aim, checkHost, configure, loadObject, numberStreams, type Aim } from "./prepare.js";
import { newRecord, RunFile, type RunRecord } from "./run-record.js";
import { TreeScope } from "./scope.js";
import { Interruptions } from "./signals.js";
import { statusLine, summary } from "./status.js";
import { Streams } from "./streams.js";
import { Attached, Launched } from "./target.js";
import { until } from "./until.js";
import { lifeKinds, Tree } from "./tree.js";

/** A tick waits so long for its rows to be in the files; where the disk stalls it goes on without, ms. */
const patienceMs = 200;

export async function runSession(
  invocation: Invocation,
  modules: readonly Module[],
  log: Log,
  openOnlooker: OpenOnlooker,
): Promise<number> {
  const config = configure(invocation, modules);
  checkHost(config);
  const onlooker = config.http && (await openOnlooker(config.http));
  let session: Session | undefined;
  let bpf: Bpf | undefined;
  let aimed: Aim | undefined;
  try {
    aimed = await aim(invocation);
    const numbers = numberStreams(modules);
    bpf = loadObject(invocation, config, numbers);
    session = new Session(invocation, config, modules, numbers, aimed, bpf, log, onlooker);
    await session.start();
    return await session.watch();
  } finally {
    if (aimed?.target instanceof Launched) aimed.target.abandon();
    await session?.close();
    await onlooker?.stop();
    bpf?.close();
  }
}

class Session {
  readonly #invocation: Invocation;
  readonly #modules: readonly Module[];
  readonly #aim: Aim;
  readonly #log: Log;
  readonly #folder: Folder;
  readonly #runFile: RunFile;
  readonly #record: RunRecord;
  readonly #tree: Tree;
  readonly #writer = new CsvWriter();
  readonly #streams: Streams;
  readonly #scope: TreeScope;
  readonly #runs: ModuleSet;
  readonly #cost: CostWindows;
  readonly #interruptions: Interruptions;
  readonly #watch: ConfigWatch;
  readonly #onlooker: Onlooker | undefined;
  #config: Config;
  #started = 0;
  #runFileProblem = false;

  constructor(
    invocation: Invocation,
    config: Config,
    modules: readonly Module[],
    numbers: ReadonlyMap<Module, number>,
    aimed: Aim,
    bpf: Bpf,
    log: Log,
    onlooker: Onlooker | undefined,
  ) {
    this.#invocation = invocation;
    this.#config = config;
    this.#modules = modules;
    this.#aim = aimed;
    this.#log = log;
    const dir = path.resolve(config.outputDir);
    const { overwrite } = invocation;
    const owner = invokingUser();
    makeFolder(dir, owner);
    this.#folder = new Folder(dir, overwrite, owner, this.#writer, config.maxFileSize);
    this.#record = newRecord(invocation, effective(config, modules));
    this.#onlooker = onlooker;
    if (onlooker) this.#record.http = onlooker.record;
    this.#runFile = new RunFile(dir, overwrite, owner, this.#record);
    this.#cost = new CostWindows(() => bpf.object.programs());
    this.#tree = new Tree(bpf);
    this.#streams = new Streams(bpf, this.#writer, ringBytes(config.ringKib));
    this.#scope = new TreeScope(this.#tree, {
      host: invocation.mode === "host",
      follow: config.traceMultiprocess,
      anchorPid: aimed.target?.pid ?? process.pid,
      launch:
        invocation.mode === "launch"
          ? { command: invocation.command[0] ?? "", env: aimed.env }
          : undefined,
    });
    this.#runs = new ModuleSet({
      modules,
      numbers,
      bpf,
      tree: this.#tree,
      streams: this.#streams,
      scope: this.#scope,
      folder: this.#folder,
      record: this.#record,
      log,
      shown: onlooker !== undefined,
    });
    this.#interruptions = new Interruptions(aimed.target);
    this.#watch = new ConfigWatch(invocation.config, modules, log);
  }

  async start(): Promise<void> {
    this.#tree.mark(this.#aim.target?.pid);
    for (const [module, request] of this.#config.requests) await this.#runs.start(module, request);
    this.#tree.goLast();
    const target = this.#aim.target;
    if (target instanceof Attached) {
      this.#tree.listen([lifeKinds.end], (event) => {
        if (event.process === this.#tree.root) this.#heed(target);
      });
      this.#heed(target);
      if (this.#tree.root === 0) target.end(0);
    }
    this.#save();
    this.#runs.begin();
    this.#cost.start();
    this.#started = monotonicNs();
    await target?.go();
    this.#show();
    await this.#watch.start();
  }

  /** Whether it has ended is the kernel's table to say; the event only says when to look. */
  #heed(target: Attached): void {
    const status = this.#tree.rootEnd();
    if (status !== undefined) target.end(status);
  }

  #show(): void {
    if (!this.#onlooker) return;
    this.#log.note(this.#onlooker.note);
    this.#onlooker.begin({
      run: () => this.#record,
      tables: () => this.#runs.views(),
      lend: (parts) => this.#runs.lend(parts),
    });
  }

  /** Ticks until the target ends, the duration is over or somebody interrupts. */
  async watch(): Promise<number> {
    const { target } = this.#aim;
    const exited = target?.exited ?? new Promise<number>(() => undefined);
    const over = Promise.race([
      exited.then(() => "exited" as const),
      this.#interruptions.stop.then(() => "stopped" as const),
    ]);
    const { duration } = this.#invocation;
    const end = duration === undefined ? Infinity : this.#started + duration * 1e9;
    let next = this.#started;
    let reason: "time" | "exited" | "stopped" = "time";
    while (monotonicNs() < end) {
      next = Math.min(Math.max(next + this.#config.interval * 1e9, monotonicNs()), end);
      reason = await until(next, over);
      if (reason !== "time") break;
      if (next >= end) break;
      const { monitor } = this.#record;
      monitor.max_tick_late_ms = Math.max(monitor.max_tick_late_ms, (monotonicNs() - next) / 1e6);
      await this.#reconfigure();
      await this.#tick();
      if (target instanceof Attached) this.#heed(target);
    }
    if (reason === "exited") await this.#settled();
    await this.#tick();
    await this.#onlooker?.stop();
    await this.#runs.stop();
    if (reason === "time" && target instanceof Launched) {
      // The duration is over, the target is not: it goes on unwatched, and its exit code is awaited.
      await this.#detach();
    }
    const awaited = reason === "exited" || target instanceof Launched;
    const code = awaited ? await exited : 0;
    this.#record.exit_code = code;
    this.#finish();
    return code;
  }

  /** wait(2) reports an exit a moment before the last switch away, with which the figures are final. */
  async #settled(): Promise<void> {
    if (this.#tree.root === 0) return;
    for (let waited = 0; waited < 500 && this.#tree.rootEnd() === undefined; waited++) {
      await sleep(1);
    }
  }

  /** Takes over an edited config.json: what stayed the same keeps running, with its counts. */
  async #reconfigure(): Promise<void> {
    const fresh = this.#watch.take();
    if (!fresh) return;
    if (!sameHttp(fresh, this.#config)) {
      const sentence = "http was edited: that is taken at the next start, the server goes on as it is.";
      this.#record.warnings.push(sentence);
      this.#log.note(sentence);
    }
    this.#config = takenOver(this.#config, fresh, this.#invocation.interval);
    this.#record.config = effective(this.#config, this.#modules);
    await this.#runs.change(fresh.requests);
    this.#tree.goLast();
  }

  async #tick(): Promise<void> {
    const processes = this.#tree.read();
    const ended = processes.filter((process) => process.ended);
    await this.#runs.tick(processes);
    // An ended process is in the table only after its last event is in the rings.
    this.#streams.end(ended);
    await Promise.race([this.#writer.sync(), sleep(patienceMs, undefined, { ref: false })]);
    // The table first: from then on no program makes a new entry for them.
    this.#tree.forget(ended);
    await this.#runs.forget(ended);
    this.#record.ticks++;
    this.#save();
    this.#runs.publish();
    this.#log.status(
      statusLine(
        (monotonicNs() - this.#started) / 1e9,
        processes.length - ended.length,
        Object.values(this.#record.modules),
      ),
    );
  }

  #save(): void {
    this.#runs.account();
    this.#record.processes_lost = this.#tree.lost();
    const { user, system } = process.cpuUsage();
    this.#record.monitor.cpu_ms = (user + system) / 1e3;
    this.#record.monitor.bpf_measured_ms = this.#cost.measuredMs;
    this.#record.monitor.peak_rss_kb = process.resourceUsage().maxRSS;
    try {
      this.#runFile.write(this.#record);
    } catch (error) {
      if (!this.#runFileProblem) this.#log.error(describe(error));
      this.#runFileProblem = true;
    }
  }

  #finish(): void {
    this.#record.state = "finished";
    this.#record.end = new Date().toISOString();
    this.#save();
    const files = new Map(Object.entries(this.#record.modules));
    for (const line of summary(this.#folder.dir, files)) this.#log.note(line);
  }

  async #detach(): Promise<void> {
    await this.#onlooker?.stop();
    await this.#runs.stop();
    this.#tree.close();
    this.#cost.close();
    await this.#watch.close();
  }

  async close(): Promise<void> {
    await this.#detach();
    if (this.#record.state === "running") {
      this.#record.state = "failed"; // an error is on its way to the user
      this.#record.end = new Date().toISOString();
      this.#save();
    }
    this.#interruptions.close();
    this.#writer.close();
    this.#folder.close();
  }
}
