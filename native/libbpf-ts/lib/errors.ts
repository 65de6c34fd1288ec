// SPDX-License-Identifier: MIT
// How a failure in the kernel or in libbpf reads to a person.
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { native } from "./native.js";

/** The kernel's ENOTSUPP, which the C library does not know. */
const ENOTSUPP = 524;

function describe(errno: number): { code: string; text: string } {
  if (errno === ENOTSUPP) return { code: "ENOTSUPP", text: "operation is not supported" };
  const entry = getSystemErrorMap().get(-errno);
  if (entry) return { code: entry[0], text: entry[1] };
  for (const [code, value] of Object.entries(constants.errno)) {
    if (value === errno) return { code, text: code };
  }
  return { code: `E${String(errno)}`, text: `error ${String(errno)}` };
}

function hintFor(operation: string, errno: number, code: string): string {
  switch (code) {
    case "EPERM":
    case "EACCES":
      return typeof process.geteuid === "function" && process.geteuid() === 0
        ? "already root: a lockdown mode, a container's seccomp filter or a missing capability forbids it"
        : "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN";
    case "ENOENT":
      if (operation.startsWith("attach")) {
        return "the tracepoint, function or file to attach to does not exist on this kernel";
      }
      return operation === "open" ? "check the path of the object file" : "";
    case "ESRCH":
      return operation === "load"
        ? "a type or function the object needs is not in this kernel's BTF"
        : "the process is gone";
    case "EBADF":
      return "it was closed before this call";
    case "E2BIG":
      return operation === "update" ? "raise maxEntries before loading" : "";
    case "EBUSY":
      return operation === "load" || operation.startsWith("set")
        ? "configure the object before load()"
        : operation === "attach to netfilter"
          ? "another BPF program has this priority there: choose the next one"
          : "something else is attached there already";
    case "EINVAL":
      return operation.startsWith("attach")
        ? "the program's type does not fit this kind of attachment, or the kernel is too old for it"
        : "";
    case "ENOTSUPP":
    case "EOPNOTSUPP":
    case "ENOTSUP":
      return "this map or program type does not have the operation on this kernel";
    case "ENOMEM":
      return "maps are allocated at load: lower maxEntries, or raise the memory limit of the cgroup";
    case "EMFILE":
      return "raise the limit of open files (ulimit -n)";
    case "ERANGE":
      return operation === "attach to netfilter"
        ? "the kernel keeps priorities -2147483648 and 2147483647 for itself"
        : "";
    case "EEXIST":
      return operation === "update" ? 'the key exists already: use mode "any"' : "";
    default:
      return "";
  }
}

/** libbpf's first line is usually the cause; what follows is its consequences. */
function firstLine(log: string): string {
  for (const line of log.split("\n")) {
    const text = line.replace(/^libbpf: /, "").trim();
    if (text !== "") return text;
  }
  return "";
}

/**
 * A native operation that failed.
 *
 * `errno` is positive; `code` is its name ("EPERM"); `hint` is one sentence on what to do, or "".
 */
export class BpfError extends Error {
  override readonly name: string = "BpfError";
  /** What was tried, as a verb: "attach uprobe". */
  readonly operation: string;
  /** The program, map, file or type it was about. */
  readonly object: string;
  readonly errno: number;
  readonly code: string;
  readonly hint: string;
  /** Everything libbpf printed during the operation. */
  declare readonly log: string;

  constructor(operation: string, object: string, errno: number, message = "", log = "") {
    const { code, text } = describe(errno);
    const detail = message !== "" ? message : text;
    const cause = message === "" ? firstLine(log) : "";
    super(
      `cannot ${operation}${object === "" ? "" : ` ${object}`}: ${detail} (${code})` +
        (cause === "" ? "" : `: ${cause}`),
    );
    this.operation = operation;
    this.object = object;
    this.errno = errno;
    this.code = code;
    this.hint = hintFor(operation, errno, code);
    // Not enumerable: printing the error should not print pages.
    Object.defineProperty(this, "log", { value: log });
  }
}

const BEGIN = "-- BEGIN PROG LOAD LOG --";
const END = "-- END PROG LOAD LOG --";

/** Lines the verifier ends with that say nothing about the reason. */
const STATISTICS = /^(processed \d+ insns|verification time|stack depth|max_states|mark_precise)/;

/** Splits what libbpf printed into the failing program and the verifier's own log. */
function verifierLog(log: string): { program: string; text: string; last: string } | undefined {
  const begin = log.lastIndexOf(BEGIN);
  if (begin < 0) return undefined;
  const end = log.indexOf(END, begin);
  const text = log.slice(begin + BEGIN.length, end < 0 ? undefined : end).trim();
  const program = /prog '([^']*)': *$/.exec(log.slice(0, begin))?.[1] ?? "";
  const lines = text.split("\n").map((line) => line.trim());
  const last = lines.filter((line) => line !== "" && !STATISTICS.test(line)).at(-1) ?? "";
  return { program, text, last };
}

/**
 * The kernel's verifier refused a program. `message` has the last meaningful line of its log,
 * `log` is all of it.
 */
export class VerifierError extends BpfError {
  override readonly name = "VerifierError";
  /** The refused program. */
  readonly program: string;

  constructor(program: string, errno: number, reason: string, log: string) {
    super("load", `program ${program}`, errno, `the verifier says: ${reason}`, log);
    this.program = program;
  }
}

export function makeError(
  operation: string,
  object: string,
  errno: number,
  message: string,
  log: string,
): Error {
  const verifier = operation === "load" ? verifierLog(log) : undefined;
  if (verifier && verifier.last !== "") {
    return new VerifierError(verifier.program, errno, verifier.last, verifier.text);
  }
  return new BpfError(operation, object, errno, message, log);
}

/** An error of our own making, in the same clothes. */
export function failure(operation: string, object: string, code: string, message: string): BpfError {
  const errno = (constants.errno as Record<string, number>)[code] ?? constants.errno.EINVAL;
  return new BpfError(operation, object, errno, message);
}

native.setErrorFactory(makeError);
