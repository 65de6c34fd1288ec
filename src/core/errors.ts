/**
 * Owns: the form of every failure a user sees, and the sentences core itself says: what failed, the value
 * seen, the fix. One or two lines, never a stack trace.
 * Owns not: a module's own sentences (it throws a RunError of its own).
 */
import { printable } from "./log.js";

export const exitCodes = { badRequest: 2, cannotRun: 3, notExecutable: 126, notFound: 127 } as const;

/** A failure that ends the run: a sentence, a hint (may be empty) and the exit code. */
export class RunError extends Error {
  constructor(
    readonly exitCode: number,
    sentence: string,
    readonly hint = "",
  ) {
    super(sentence);
    this.name = "RunError";
  }
}

const bad = (sentence: string, hint?: string): RunError =>
  new RunError(exitCodes.badRequest, sentence, hint);
const cannot = (sentence: string, hint?: string): RunError =>
  new RunError(exitCodes.cannotRun, sentence, hint);

export const errors = {
  option: (message: string) => bad(message, "run.sh --help lists the options."),
  configUnreadable: (file: string, reason: string) =>
    bad(`config ${printable(file)} cannot be read: ${reason}.`, "Name another file with -c FILE."),
  configSyntax: (file: string, line: number, column: number, problem: string) =>
    bad(`config ${printable(file)}, line ${String(line)}, column ${String(column)}: ${problem}.`),
  configValue: (file: string, sentence: string, hint?: string) =>
    bad(`config ${printable(file)}: ${sentence}`, hint),
  cannotListen: (host: string, port: number, reason: string, hint: string) =>
    bad(`http: cannot listen on ${printable(host)}, port ${String(port)}: ${reason}.`, hint),
  noToken: (host: string) =>
    bad(
      `http.host is ${printable(JSON.stringify(host))}, which others can reach, and there is no http.token.`,
      'Set http.token (openssl rand -hex 16 makes one), or let http.host be "127.0.0.1".',
    ),
  noSuchProcess: (pid: number) =>
    bad(`-p ${String(pid)}: there is no such process.`, "ps -e lists the running ones."),
  noSuchUser: (user: string) => bad(`-u ${printable(user)}: there is no such user.`),
  outputFolder: (folder: string, reason: string) =>
    cannot(
      `output folder ${printable(folder)} cannot be used: ${reason}.`,
      "Name another one with -o DIR.",
    ),
  outputFile: (file: string, reason: string) =>
    cannot(`output file ${printable(file)} cannot be created: ${reason}.`),
  outputInTheWay: (file: string, kind: string) =>
    cannot(
      `output file ${printable(file)} cannot be created: a ${kind} of that name is in the way.`,
      "Remove it, or name another file in the config.",
    ),
  pipeWithoutReader: (file: string) =>
    cannot(`nobody reads the pipe ${printable(file)}.`, "Start its reader first, or remove the pipe."),
  pipeOfOthers: (file: string, uid: number) =>
    cannot(
      `the pipe ${printable(file)} is not yours: it belongs to uid ${String(uid)}.`,
      "Remove it, or make one of your own with mkfifo.",
    ),
  privileges: () =>
    cannot(
      "eBPF needs root (or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN).",
      "Run it as root, or install sudo.",
    ),
  noBtf: () =>
    cannot(
      "this kernel shows no type information (/sys/kernel/btf/vmlinux).",
      "It needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are since 2021.",
    ),
  unavailable: (module: string, reason: string) =>
    cannot(`${module} cannot run here: ${reason}`, "run.sh modules shows what this host offers."),
  load: (message: string, hint: string) => cannot(`the kernel refused the BPF object: ${message}`, hint),
  notFound: (command: string) =>
    new RunError(exitCodes.notFound, `${printable(command)}: command not found.`),
  notExecutable: (command: string, reason: string) =>
    new RunError(exitCodes.notExecutable, `${printable(command)}: cannot be executed: ${reason}.`),
  launcher: (reason: string) => cannot(`the target could not be launched: ${reason}.`),
};

/** The sentence of anything thrown, for a line of output. */
export function describe(error: unknown): string {
  if (error instanceof Error) return error.message;
  return String(error);
}
