// Runs treesnoop (and plain commands) in a scratch folder. Owns: the configuration file, the child process,
// its output, a deadline after which a hanging run is killed by its own pid. Does not own: what a test
// expects of the files.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { TestContext } from "node:test";
import { readTable, type Table } from "./csv.js";
import { root, scratch } from "./paths.js";
import { until } from "./wait.js";

/** What a process left behind. A shell's view: 128 + n for death by signal n. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly directory?: string;
  readonly environment?: NodeJS.ProcessEnv;
  /** Text for stdin, which is then closed; "open" leaves it open for `write`. Default: no input. */
  readonly input?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds after which the process is killed and the test fails. */
  readonly deadline?: number;
}

/** A running command, its output collected as it comes. */
export class Command {
  readonly child: ChildProcess;
  /** Its end and the end of its output: as long as something it started holds the pipes, this waits. */
  readonly finished: Promise<Outcome>;
  /** Its end alone. */
  readonly gone: Promise<void>;
  #stdout = "";
  #stderr = "";

  constructor(t: TestContext, command: readonly string[], options: CommandOptions = {}) {
    const [file, ...args] = command;
    assert.ok(file !== undefined, "a command");
    this.child = spawn(file, args, {
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
      ...(options.environment === undefined ? {} : { env: options.environment }),
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
    });
    const deadline = options.deadline ?? 60;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.child.kill("SIGKILL");
      // What the killed process started may still hold its pipes: without this, "close" would wait for it.
      this.child.stdout?.destroy();
      this.child.stderr?.destroy();
    }, deadline * 1000);
    t.after(() => {
      if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGKILL");
    });
    const collect = (stream: Readable | null, add: (text: string) => void): void => {
      stream?.setEncoding("utf8").on("data", add);
    };
    collect(this.child.stdout, (text) => {
      this.#stdout += text;
    });
    collect(this.child.stderr, (text) => {
      this.#stderr += text;
    });
    this.gone = new Promise((resolve) => {
      this.child.on("exit", () => {
        resolve();
      });
    });
    this.finished = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => {
        clearTimeout(timer);
        if (late)
          reject(
            new Error(
              `${command.join(" ")}: still running after ${deadline} s\n${this.#stdout}\n${this.#stderr}`,
            ),
          );
        else resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
    // A test may fail before it awaits the end; the rejection is then not the news.
    this.finished.catch(() => undefined);
    if (options.input !== undefined && options.input !== "open") this.child.stdin?.end(options.input);
  }

  get pid(): number {
    assert.ok(this.child.pid !== undefined, "the command did not start");
    return this.child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  write(text: string): void {
    this.child.stdin?.write(text);
  }

  endInput(): void {
    this.child.stdin?.end();
  }

  /** Waits until the output matches; gives the match. */
  async says(pattern: RegExp, seconds = 30): Promise<RegExpExecArray> {
    return until(
      `${pattern} on stdout`,
      () => {
        const match = pattern.exec(this.#stdout);
        if (match === null && this.child.exitCode !== null)
          throw new Error(
            `ended with ${this.child.exitCode} before ${pattern}: ${this.#stdout}${this.#stderr}`,
          );
        return match ?? undefined;
      },
      seconds,
    );
  }
}

/** Runs a plain command to its end. */
export async function execute(
  t: TestContext,
  command: readonly string[],
  options: CommandOptions = {},
): Promise<Outcome> {
  return new Command(t, command, options).finished;
}

/** A module's part of run.json; which further fields there are depends on the module. */
export interface ModuleRecord {
  readonly backend?: string;
  readonly state?: string;
  readonly file?: string;
  readonly rows?: number;
  readonly events_seen?: number;
  readonly events_written?: number;
  readonly events_lost?: number;
  /** There when something was lost. */
  readonly lost_by_process?: readonly { readonly pid: number; readonly comm: string; readonly lost: number }[];
  readonly bpf_run_ns?: number;
  readonly bpf_runs?: number;
}

export interface RunRecord {
  readonly version: string;
  readonly kernel: string;
  readonly command: readonly string[];
  readonly config: Readonly<Record<string, unknown>>;
  readonly start: unknown;
  readonly end: unknown;
  readonly state: string;
  readonly exit_code: number | null;
  readonly modules: Readonly<Record<string, ModuleRecord>>;
  readonly monitor: {
    readonly cpu_ms: number;
    readonly peak_rss_kb: number;
    readonly max_tick_late_ms: number;
    readonly bpf_measured_ms: number;
  };
  /** There when the HTTP server is. */
  readonly http?: { readonly url: string; readonly clients_dropped: number };
}

export interface RunOptions extends CommandOptions {
  /** The configuration, or the exact text of its file. */
  readonly config: object | string;
  /** Options before the command; `-c` is added. */
  readonly options?: readonly string[];
  readonly command?: readonly string[];
  /** What runs treesnoop: by default node on the built program (run.sh itself has tests of its own). */
  readonly through?: readonly string[];
}

/** treesnoop itself, without run.sh's look at whether set-up is due. */
export const program: readonly string[] = [process.execPath, join(root, "dist", "main.js")];

/**
 * What runs a command as nobody, in a mount namespace of its own and after `preparation` (shell lines run as
 * root). A clone may lie below a folder that only its owner can enter: there the project is shown to
 * everybody.
 */
export function asNobody(preparation = ""): string[] {
  const project = root.replace(/\/$/, "");
  const script = `set -e
    blocked= folder='${project}'
    while [ "$folder" != / ]; do
      folder=$(dirname "$folder")
      setpriv --reuid=nobody --regid=nogroup --clear-groups test -x "$folder" || blocked=$folder
    done
    if [ "$blocked" ]; then
      aside=$(mktemp -d)
      mount --bind '${project}' "$aside"
      mount -t tmpfs -o mode=755 none "$blocked"
      mkdir -p '${project}'
      mount --move "$aside" '${project}'
    fi
    ${preparation}
    exec setpriv --reuid=nobody --regid=nogroup --init-groups "$@"`;
  return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
}

export class Run extends Command {
  readonly directory: string;

  constructor(t: TestContext, options: RunOptions) {
    const directory = options.directory ?? scratch(t);
    const file = join(directory, "config.json");
    writeFileSync(file, typeof options.config === "string" ? options.config : JSON.stringify(options.config));
    const command = options.command === undefined ? [] : ["--", ...options.command];
    super(t, [...(options.through ?? program), "-c", file, ...(options.options ?? []), ...command], {
      ...options,
      directory,
    });
    this.directory = directory;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  table(name: string, unfinished = false): Table {
    return readTable(this.path(name), unfinished);
  }

  /** The table as far as it is written, or undefined while there is none. */
  growing(name: string): Table | undefined {
    return existsSync(this.path(name)) && readFileSync(this.path(name)).includes(0x0a)
      ? this.table(name, true)
      : undefined;
  }

  record(): RunRecord {
    return JSON.parse(readFileSync(this.path("run.json"), "utf8")) as RunRecord;
  }

  /** Waits until a table has rows of `count` different ticks. */
  async ticked(name: string, count: number): Promise<Table> {
    return until(`${count} ticks in ${name}`, () => {
      if (this.child.exitCode !== null)
        throw new Error(`treesnoop ended with ${this.child.exitCode}: ${this.stderr}`);
      const table = this.growing(name);
      return table !== undefined && table.ticks().length >= count ? table : undefined;
    });
  }

  /** The usual end: the given exit code, and nothing said on stderr. */
  async quietly(code = 0): Promise<Outcome> {
    const outcome = await this.finished;
    assert.deepEqual(
      { code: outcome.code, signal: outcome.signal, stderr: outcome.stderr },
      { code, signal: null, stderr: "" },
    );
    return outcome;
  }
}

/**
 * Asserts an error as the command line promises it: one or two lines, no stack trace, all the given words,
 * exit code.
 */
export function refused(outcome: Outcome, code: number, ...words: (string | RegExp)[]): void {
  const lines = outcome.stderr.replace(/\n$/, "").split("\n");
  assert.equal(outcome.code, code, `exit code; stderr: ${outcome.stderr}`);
  assert.ok(
    outcome.stderr !== "" && lines.length <= 2,
    `one or two lines, not ${lines.length}: ${outcome.stderr}`,
  );
  assert.doesNotMatch(outcome.stderr, /^\s+at |node:internal|Error:.*\n\s+at/m, "a stack trace");
  for (const word of words)
    if (typeof word === "string")
      assert.ok(outcome.stderr.includes(word), `stderr names ${word}: ${outcome.stderr}`);
    else assert.match(outcome.stderr, word);
}
