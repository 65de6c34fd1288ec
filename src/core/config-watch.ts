/**
 * Owns: noticing that config.json changed. A bad edit is reported once and changes nothing.
 */
import { watch } from "chokidar";
import { readConfig, type Config } from "./config.js";
import { describe, RunError } from "./errors.js";
import type { Log } from "./log.js";
import type { Module } from "./contract.js";

export class ConfigWatch {
  readonly #watcher: ReturnType<typeof watch>;
  #fresh: Config | undefined;
  #lastProblem = "";

  constructor(file: string, modules: readonly Module[], log: Log) {
    // Editors write in steps or swap the file: wait until it has kept its size for a moment.
    this.#watcher = watch(file, {
      ignoreInitial: true,
      awaitWriteFinish: { stabilityThreshold: 100, pollInterval: 25 },
    });
    const read = (): void => {
      try {
        this.#fresh = readConfig(file, modules);
        this.#lastProblem = "";
      } catch (error) {
        const problem = describe(error);
        if (problem === this.#lastProblem) return;
        this.#lastProblem = problem;
        log.error(problem, `${error instanceof RunError ? `${error.hint} ` : ""}The run goes on as before.`.trim());
      }
    };
    this.#watcher.on("change", read).on("add", read);
  }

  /** The edited configuration, once. */
  take(): Config | undefined {
    const fresh = this.#fresh;
    this.#fresh = undefined;
    return fresh;
  }

  close(): Promise<void> {
    return this.#watcher.close();
  }
}
