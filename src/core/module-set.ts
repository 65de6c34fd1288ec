/**
 * Owns: which modules are on, and the difference a new configuration makes to that.
 * Owns not: what one of them does (module-run.ts), when ticks come (session.ts).
 */
import type { Bpf } from "./bpf.js";
import { describe } from "./errors.js";
import { host } from "./host.js";
import type { Log } from "./log.js";
import type { BpfParts, Module, Process, Request, Scope } from "./contract.js";
import { ModuleRun } from "./module-run.js";
import type { Loan, TableView } from "./onlooker.js";
import type { Folder } from "./output.js";
import type { RunRecord } from "./run-record.js";
import { Shared } from "./shared.js";
import type { Streams } from "./streams.js";
import type { Tree } from "./tree.js";

/** What every module of the run is given. */
export interface Surroundings {
  readonly modules: readonly Module[];
  /** Numbers of the streams. */
  readonly numbers: ReadonlyMap<Module, number>;
  readonly bpf: Bpf;
  readonly tree: Tree;
  readonly streams: Streams;
  readonly scope: Scope;
  readonly folder: Folder;
  readonly record: RunRecord;
  readonly log: Log;
  /** Somebody looks on. */
  readonly shown: boolean;
}

export class ModuleSet {
  readonly #around: Surroundings;
  readonly #shared = new Shared();
  readonly #running = new Map<Module, { run: ModuleRun; release: () => void }>();
  readonly #lent = new Set<() => void>();

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** Switches a module on at the beginning of the run; its failure ends the run. */
  async start(module: Module, request: Request<unknown>): Promise<void> {
    await this.#switchOn(module, request, this.#around.folder.overwrite);
  }

  /** Goes over to other requests. What is asked for as before keeps running; a failure is reported. */
  async change(requests: ReadonlyMap<Module, Request<unknown>>): Promise<void> {
    const { modules, bpf, log } = this.#around;
    for (const module of modules) {
      const request = requests.get(module);
      const run = this.#running.get(module)?.run;
      if (request && run && sameOptions(run.request, request)) {
        if (run.request.file !== request.file) run.moveTo(request);
        continue;
      }
      await this.#switchOff(module);
      if (!request) continue;
      try {
        const missing = host.missing(module.needs(request.options));
        if (missing) throw new Error(missing.reason);
        bpf.object.add(module.bpf(request.options));
        // Never over the file this run has written before.
        await this.#switchOn(module, request, false);
      } catch (error) {
        log.error(`${module.name} cannot be switched on: ${describe(error)}`);
      }
    }
  }

  async #switchOn(module: Module, request: Request<unknown>, overwrite: boolean): Promise<void> {
    const { numbers, tree, streams, folder, record, log, shown } = this.#around;
    const number = numbers.get(module) ?? 0;
    const run = new ModuleRun(module, request, folder, overwrite, streams, number, log);
    const { context, release } = this.#contextOf();
    const before = record.modules[module.name];
    if (before) {
      record.modules[`${module.name} until ${new Date().toISOString()}`] = before;
      if (run.kept !== undefined && before.file === request.file) before.file = run.kept;
    }
    record.modules[module.name] = run.record;
    try {
      await run.start(context, () => tree.read());
      this.#running.set(module, { run, release });
      if (shown) run.show();
    } catch (error) {
      run.discard(error);
      release();
      throw error;
    }
  }

  /** For one who looks on. What is not given back by then is taken back at the end. */
  lend(parts: BpfParts): Loan {
    this.#around.bpf.object.add(parts);
    const { context, release } = this.#contextOf();
    this.#lent.add(release);
    return {
      context,
      release: () => {
        if (this.#lent.delete(release)) release();
      },
    };
  }

  /** The context of one user of the run's BPF. */
  #contextOf(): Loan {
    const { bpf, scope, record, log } = this.#around;
    return this.#shared.contextFor(bpf, scope, (sentence) => {
      record.warnings.push(sentence);
      log.note(sentence);
    });
  }

  async #switchOff(module: Module): Promise<void> {
    const entry = this.#running.get(module);
    if (!entry) return;
    await entry.run.stop("stopped");
    entry.release();
    this.#running.delete(module);
  }

  begin(): void {
    for (const { run } of this.#running.values()) run.begin();
  }

  async tick(processes: readonly Process[]): Promise<void> {
    this.#shared.tick();
    await Promise.all([...this.#running.values()].map(({ run }) => run.tick(processes)));
  }

  async forget(ended: readonly Process[]): Promise<void> {
    for (const { run } of this.#running.values()) await run.forget(ended);
    this.#shared.forget(ended);
  }

  /** The rows of the tick are in the files. */
  publish(): void {
    for (const { run } of this.#running.values()) run.publish();
  }

  /** Tables of what is on, for who looks on. */
  views(): TableView[] {
    return [...this.#running.values()].flatMap(({ run }) => run.view() ?? []);
  }

  /** Brings run.json's entries up to date. */
  account(): void {
    for (const { run } of this.#running.values()) run.account();
  }

  /** All off, in reverse order. */
  async stop(): Promise<void> {
    for (const module of [...this.#running.keys()].reverse()) await this.#switchOff(module);
    for (const release of this.#lent) release();
    this.#lent.clear();
  }
}

function sameOptions(a: Request<unknown>, b: Request<unknown>): boolean {
  return JSON.stringify(a.options) === JSON.stringify(b.options);
}
