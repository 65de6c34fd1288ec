/**
 * Owns: the process the run is about: launched and held before its first instruction, or found running.
 * Its signals, its end, its exit code.
 * Owns not: its descendants (tree.ts).
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import type { Duplex } from "node:stream";
import { exitCodes, errors } from "./errors.js";

const launcher = new URL("../../build/launcher", import.meta.url).pathname;

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** A user with all groups, as the system's own name service sees it. */
export function findUser(name: string): User {
  const id = (option: string): string =>
    execFileSync("id", [option, "--", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  try {
    return {
      uid: Number(id("-u")),
      gid: Number(id("-g")),
      groups: id("-G").trim().split(/\s+/).map(Number),
    };
  } catch {
    throw errors.noSuchUser(name);
  }
}

export interface Target {
  readonly pid: number;
  /** Resolves with the exit code treesnoop returns, once the target is gone. */
  readonly exited: Promise<number>;
  go(): Promise<void>;
  /** Passes a signal on. */
  signal(signal: NodeJS.Signals): void;
}

function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return signal === null ? (code ?? exitCodes.cannotRun) : 128 + os.constants.signals[signal];
}

/** Options of the launcher that undo what Node.js changed in itself and its children would inherit. */
function restoring(inherited: string | undefined): string[] {
  const [, files, signals] = /^(\d+|unlimited),([0-9a-f]*)$/.exec(inherited ?? "") ?? [];
  return [
    ...(files !== undefined && files !== "unlimited" ? ["-n", files] : []),
    ...(signals ? ["-i", signals] : []),
  ];
}

/** What the launcher says on its status pipe: "R" ready, or "E errno operation detail". */
function launchError(message: string, command: string): Error {
  const [, number = "", operation = "", ...detail] = message.trim().split(" ");
  const errno = Number(number);
  const reason = Object.entries(os.constants.errno).find(([, value]) => value === errno)?.[0] ?? number;
  if (operation === "find" || operation === "execve") {
    return errno === os.constants.errno.ENOENT || errno === os.constants.errno.ENOTDIR
      ? errors.notFound(command)
      : errors.notExecutable(command, reason === "EACCES" ? "permission denied" : reason);
  }
  return errors.launcher(`${operation} ${detail.join(" ")} failed with ${reason}`.replace(/ +/g, " "));
}

export class Launched implements Target {
  readonly pid: number;
  readonly exited: Promise<number>;
  readonly #child: ChildProcess;
  readonly #command: string;
  readonly #status: Duplex;
  #said = "";
  readonly #closed: Promise<void>;

  private constructor(child: ChildProcess, command: string) {
    this.#child = child;
    this.#command = command;
    this.pid = child.pid ?? 0;
    this.#status = child.stdio[4] as Duplex;
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        resolve(exitCode(code, signal));
      });
    });
    this.#closed = new Promise((resolve) => {
      this.#status.once("close", resolve).on("error", () => undefined);
    });
    this.#status.setEncoding("utf8").on("data", (text: string) => {
      this.#said += text;
    });
    (child.stdio[3] as Duplex).on("error", () => undefined);
  }

  /** Starts the launcher, which finds the command as the user would and then waits. */
  static async start(
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    user: User | undefined,
    inherited: string | undefined,
  ): Promise<Launched> {
    const identity = user
      ? [String(user.uid), String(user.gid), user.groups.join(",") || "-"]
      : ["-1", "-1", "-"];
    const child = spawn(launcher, [...restoring(inherited), "3", "4", ...identity, "--", ...command], {
      stdio: ["inherit", "inherit", "inherit", "pipe", "pipe"],
      env,
    });
    await new Promise((resolve, reject) => {
      child.once("spawn", resolve).once("error", (error) => {
        reject(errors.launcher(error.message));
      });
    });
    const launched = new Launched(child, command[0] ?? "");
    await new Promise<void>((resolve) => {
      launched.#status.on("data", resolve);
      void launched.#closed.then(resolve);
    });
    if (!launched.#said.startsWith("R")) throw launchError(launched.#said, launched.#command);
    return launched;
  }

  /** Lets it execute; a failing exec is reported by the launcher, success by the pipe closing with exec. */
  async go(): Promise<void> {
    (this.#child.stdio[3] as Duplex).end("x");
    await this.#closed;
    const failure = this.#said.split("\n").find((line) => line.startsWith("E"));
    if (failure !== undefined) throw launchError(failure, this.#command);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Never let go: the pipe's end makes the launcher leave silently. */
  abandon(): void {
    (this.#child.stdio[3] as Duplex).destroy();
  }
}

/** A process that runs already. Its end is heard from the kernel's process table. */
export class Attached implements Target {
  readonly exited: Promise<number>;
  end: (waitStatus: number) => void = () => undefined;

  constructor(readonly pid: number) {
    if (!fs.existsSync(`/proc/${String(pid)}/status`)) throw errors.noSuchProcess(pid);
    this.exited = new Promise((resolve) => {
      this.end = (status) => {
        resolve((status & 0x7f) === 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f));
      };
    });
  }

  go(): Promise<void> {
    return Promise.resolve();
  }

  /** Watched, not ours: it gets no signal from us. */
  signal(): void {
    return;
  }
}
