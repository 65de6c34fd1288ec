// strace as a second pair of eyes. Owns: running it, parsing its raw output into numbers, and comparing a
// thread's calls with treesnoop's rows. Does not own: running treesnoop.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname, join } from "node:path";
import type { Row } from "./csv.js";

export interface Call {
  readonly number: number;
  readonly name: string;
  /** First argument, as the signed value of the whole register; undefined for a call without arguments. */
  readonly first: bigint | undefined;
  /** What the kernel returned (−errno for a failure); undefined when strace never saw the call return. */
  readonly result: bigint | undefined;
}

/** Options for one file per thread, raw arguments, and the call's number before each line. */
export function straceOptions(prefix: string): string[] {
  return ["-ff", "-n", "-q", "-e", "raw=all", "-e", "signal=none", "-o", prefix];
}

/** Results that only exist inside the kernel; strace names them, os.constants does not. */
const restarts: Readonly<Record<string, number>> = {
  ERESTARTSYS: 512,
  ERESTARTNOINTR: 513,
  ERESTARTNOHAND: 514,
  ERESTART_RESTARTBLOCK: 516,
};
const errnos: Readonly<Record<string, number>> = { ...constants.errno, ...restarts };

const line =
  /^\[\s*(?<number>\d+)\] (?<name>\w+)\((?<args>[^)]*)\)?\s*(?:=\s*(?<result>\?|-?(?:0x)?[0-9a-f]+)(?: (?<error>E[A-Z_0-9]+))?.*|(?<unfinished><unfinished \.\.\.>.*))?$/;

function signed(text: string): bigint {
  return BigInt.asIntN(64, BigInt(text));
}

/**
 * Parses one thread's file. Lines that are no call (`+++ exited`, `--- SIGCHLD`) are passed over; any other
 * line must parse.
 */
export function parseStrace(text: string): Call[] {
  const calls: Call[] = [];
  for (const one of text.split("\n")) {
    if (one === "" || /^(\[[\s\d?]+\] )?(\+\+\+|---)/.test(one)) continue;
    const groups = line.exec(one)?.groups;
    assert.ok(groups !== undefined, `cannot read strace's line: ${one}`);
    const { number, name, args, result, error } = groups;
    assert.ok(number !== undefined && name !== undefined);
    let returned: bigint | undefined;
    if (error !== undefined) {
      const errno = errnos[error];
      assert.ok(errno !== undefined, `unknown error in strace's line: ${one}`);
      returned = BigInt(-errno);
    } else if (result !== undefined && result !== "?") {
      returned = result.startsWith("-") ? BigInt(result) : signed(result);
    }
    const first = /^-?(?:0x)?[0-9a-f]+/.exec(args ?? "")?.[0];
    calls.push({
      number: Number(number),
      name,
      first: first === undefined ? undefined : signed(first),
      result: returned,
    });
  }
  return calls;
}

/** All threads of a finished `strace -ff -o prefix`, by thread id. */
export function readStrace(prefix: string): Map<number, Call[]> {
  const found = new Map<number, Call[]>();
  for (const name of readdirSync(dirname(prefix))) {
    if (!name.startsWith(`${basename(prefix)}.`)) continue;
    found.set(
      Number(name.slice(basename(prefix).length + 1)),
      parseStrace(readFileSync(join(dirname(prefix), name), "utf8")),
    );
  }
  assert.ok(found.size > 0, "strace wrote nothing");
  return found;
}

/**
 * The same shape from a thread's rows of syscall.csv. Rows must alternate entry, return; a return without its
 * entry or a second entry is an error, except where the call never returns to this thread.
 */
export function callsOf(rows: readonly Row[]): Call[] {
  const calls: Call[] = [];
  let open: { number: number; name: string; first: bigint } | undefined;
  const close = (result: bigint | undefined): void => {
    if (open !== undefined) calls.push({ ...open, result });
    open = undefined;
  };
  for (const row of rows) {
    const number = row.number("SYSCALL_ID");
    if (row.text("ACTION") === "0") {
      assert.ok(open === undefined, `two entries without a return between them: ${row.toString()}`);
      assert.ok(
        row.isEmpty("RET") && row.isEmpty("DURATION"),
        `an entry has no result yet: ${row.toString()}`,
      );
      open = { number, name: row.text("SYSCALL"), first: row.integer("PARM1") };
    } else {
      assert.equal(row.text("ACTION"), "1", row.toString());
      assert.ok(open?.number === number, `a return without its entry: ${row.toString()}`);
      assert.ok(row.isEmpty("PARM1"), `PARM1 is empty on return: ${row.toString()}`);
      assert.ok(row.number("DURATION") >= 0, `a duration: ${row.toString()}`);
      close(row.integer("RET"));
    }
  }
  close(undefined);
  return calls;
}

export function show(call: Call | undefined): string {
  if (call === undefined) return "(nothing)";
  return `${call.name}#${call.number}(${call.first?.toString() ?? ""}) = ${call.result?.toString() ?? "?"}`;
}

/**
 * Asserts that two sequences are the same calls. Where strace saw no return (`?`: the thread ended in the
 * call, or was killed in it) the result is not compared; where strace prints no argument the call takes none
 * and the register's content is accidental. Names are compared where strace knows one.
 */
export function sameCalls(what: string, seen: readonly Call[], expected: readonly Call[]): void {
  const length = Math.max(seen.length, expected.length);
  for (let at = 0; at < length; at++) {
    const ours = seen[at];
    const theirs = expected[at];
    const same =
      theirs !== undefined &&
      ours?.number === theirs.number &&
      (theirs.name.startsWith("syscall_0x") || ours.name === theirs.name) &&
      (theirs.first === undefined || ours.first === theirs.first) &&
      (theirs.result === undefined || ours.result === theirs.result);
    if (!same)
      assert.fail(
        `${what}: call ${at} of ${seen.length} seen, ${expected.length} expected: ` +
          `seen ${show(ours)}, strace has ${show(theirs)}; before it ${show(expected[at - 1])}, after it seen ${show(seen[at + 1])}, strace ${show(expected[at + 1])}`,
      );
  }
}
