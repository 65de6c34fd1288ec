/**
 * Owns: noticing that config.json changed, and what of an edit a run takes over that goes on. A bad edit is
 * reported once and changes nothing.
 */
import type { FSWatcher } from "chokidar";
import { readConfig, type Config } from "./config.js";
import { describe, RunError } from "./errors.js";
import type { Log } from "./log.js";
import type { Module } from "./contract.js";

/** `interval`: the command line's, which goes before the file's. */
export function takenOver(now: Config, fresh: Config, interval: number | undefined): Config {
  return {
    ...fresh,
    interval: interval ?? fresh.interval,
    // What the BPF object was loaded with, where the files are and what listens stays for the run.
    outputDir: now.outputDir,
    ringKib: now.ringKib,
    maxFileSize: now.maxFileSize,
    traceMultiprocess: now.traceMultiprocess,
    http: now.http,
  };
}

export function sameHttp(a: Config, b: Config): boolean {
  return JSON.stringify(a.http) === JSON.stringify(b.http);
}

export class ConfigWatch {
  readonly #file: string;
  readonly #modules: readonly Module[];
  readonly #log: Log;
  #watcher: FSWatcher | undefined;
  #fresh: Config | undefined;
  #lastProblem = "";

  constructor(file: string, modules: readonly Module[], log: Log) {
    this.#file = file;
    this.#modules = modules;
    this.#log = log;
  }

  /** The watching library is loaded only now: the target need not wait for it. */
  async start(): Promise<void> {
    const { watch } = await import("chokidar");
    // Editors write in steps or swap the file: wait until it has kept its size for a moment.
    this.#watcher = watch(this.#file, {
      ignoreInitial: true,
      awaitWriteFinish: { stabilityThreshold: 100, pollInterval: 25 },
    });
    const read = (): void => {
      this.#read();
    };
    this.#watcher.on("change", read).on("add", read);
  }

  #read(): void {
    try {
      this.#fresh = readConfig(this.#file, this.#modules);
      this.#lastProblem = "";
    } catch (error) {
      const problem = describe(error);
      if (problem === this.#lastProblem) return;
      this.#lastProblem = problem;
      const hint = error instanceof RunError ? error.hint : "";
      this.#log.error(problem, `${hint} The run goes on as before.`.trim());
    }
  }

  /** The edited configuration, once. */
  take(): Config | undefined {
    const fresh = this.#fresh;
    this.#fresh = undefined;
    return fresh;
  }

  async close(): Promise<void> {
    await this.#watcher?.close();
  }
}
