// Function probes against a workload that states every call it makes. Owns: that each entry and return has its row, paired within
// its thread, with the process's heap at that moment and the parameters as declared; and what is refused. Does not own: the
// heap's own exactness (mem.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test, type TestContext } from "node:test";
import { codeOf, libraryOf, untouched } from "./support/code.js";
import type { Row, Table } from "./support/csv.js";
import { scratch, workload } from "./support/paths.js";
import { Command, refused, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const probed = workload("leak_probes");

interface Probes {
  readonly probes: readonly string[];
  readonly parameters?: string;
  readonly mode: string;
}

function configuration(probes: readonly string[], parameters?: string): object {
  return {
    memleak_probes: { probes, output_file: "leak.csv", ...(parameters === undefined ? {} : { additional_var: parameters }) },
    interval: 0.1,
  };
}

async function rowsOf(t: TestContext, { probes, parameters, mode }: Probes): Promise<{ table: Table; stdout: string; run: Run }> {
  const run = new Run(t, { config: configuration(probes, parameters), command: [probed, mode] });
  const { stdout } = await run.quietly();
  const record = run.record().modules.memleak_probes ?? run.record().modules.memleak;
  assert.equal(record?.events_lost ?? 0, 0, "nothing lost");
  return { table: run.table("leak.csv"), stdout, run };
}

/** The workload's statements, in the order it made them. */
interface Statement {
  readonly kind: "call" | "back";
  readonly name: string;
  readonly tid: number;
  readonly bytes: number;
  readonly blocks: number;
  readonly value: bigint;
}

function statements(stdout: string, ...names: string[]): Statement[] {
  return [...stdout.matchAll(/^(call|back) (\S+) (\d+) (-?\d+) (-?\d+)(?: (-?\d+))?$/gm)]
    .map(([, kind, name, tid, bytes, blocks, value]) => ({
      kind: kind === "call" ? ("call" as const) : ("back" as const),
      name: name ?? "",
      tid: Number(tid),
      bytes: Number(bytes),
      blocks: Number(blocks),
      value: BigInt(value ?? 0),
    }))
    .filter((statement) => names.length === 0 || names.includes(statement.name));
}

function functionOf(row: Row): string {
  return row.text("PROBE").replace(/^.*:/, "");
}

/**
 * Row for statement: same order, same thread, same function, same heap. The workload allocates nothing but what it counts, so
 * even the absolute values agree once a thread's start (`base`) is subtracted.
 */
function compare(rows: readonly Row[], expected: readonly Statement[], base = { bytes: 0, blocks: 0 }): void {
  assert.deepEqual(
    rows.map((row) => [row.number("ACTION"), functionOf(row), row.number("TID"), row.number("Size") - base.bytes, row.number("Times") - base.blocks]),
    expected.map((statement) => [statement.kind === "call" ? 0 : 1, statement.name, statement.tid, statement.bytes, statement.blocks]),
  );
}

/** Pairs returns with entries as a stack per thread; `abandoned` entries have no return. */
function pairs(rows: readonly Row[]): { entry: Row; exit: Row }[] {
  const stacks = new Map<number, Row[]>();
  const found: { entry: Row; exit: Row }[] = [];
  for (const row of rows) {
    const tid = row.number("TID");
    const stack = stacks.get(tid) ?? [];
    stacks.set(tid, stack);
    if (row.number("ACTION") === 0) {
      stack.push(row);
      continue;
    }
    const entry = stack.pop();
    assert.ok(entry !== undefined, `a return without an entry: ${row.toString()}`);
    assert.equal(functionOf(entry), functionOf(row));
    found.push({ entry, exit: row });
  }
  return found;
}

/** What a return row says of its call: the changes are exact, the duration is a time. */
function changes(found: readonly { entry: Row; exit: Row }[]): void {
  for (const { entry, exit } of found) {
    assert.equal(exit.number("SIZE_CHANGE"), exit.number("Size") - entry.number("Size"), exit.toString());
    assert.equal(exit.number("TIMES_CHANGE"), exit.number("Times") - entry.number("Times"), exit.toString());
    assert.ok(exit.number("DURATION") >= 0, exit.toString());
    // Both stamps come from the same clock; 2 µs for their rounding.
    const elapsed = (exit.ticks - entry.ticks) * 1e6;
    assert.ok(Math.abs(exit.number("DURATION") - elapsed) <= 2, `duration ${exit.text("DURATION")}, between the rows ${elapsed} µs`);
  }
  for (const { entry } of found)
    for (const column of ["DURATION", "SIZE_CHANGE", "TIMES_CHANGE", "RETURN"]) assert.ok(entry.isEmpty(column), `${column} at entry: ${entry.toString()}`);
}

test("memleak: recursion 60 deep and an unexported function", async (t) => {
  const { table, stdout } = await rowsOf(t, { probes: [`${probed}:recurse`, `${probed}:static_leaf`], mode: "recursion" });
  assert.deepEqual(table.header, [
    ...["Ticks", "PID", "COMM", "PROBE", "ACTION", "Size", "Times"],
    ...["TID", "DURATION", "SIZE_CHANGE", "TIMES_CHANGE", "RETURN"],
  ]);
  const calls = table.rows.filter((row) => !row.isEnd);
  assert.equal(calls.length, 2 * 61);
  compare(calls, statements(stdout));
  const found = pairs(calls);
  assert.equal(found.length, 61);
  changes(found);
  const back = statements(stdout).filter((statement) => statement.kind === "back");
  assert.deepEqual(
    found.map(({ exit }) => (functionOf(exit) === "recurse" ? BigInt.asIntN(32, exit.integer("RETURN")) : exit.integer("RETURN"))),
    back.map((statement) => statement.value),
  );
  for (const row of calls) assert.equal(row.text("COMM"), "leak_probes");
});

test("memleak: longjmp out of three probed calls leaves no false pair", async (t) => {
  const { table, stdout } = await rowsOf(t, { probes: [`${probed}:jumper`, `${probed}:survivor`], mode: "longjmp" });
  const calls = table.rows.filter((row) => !row.isEnd);
  compare(calls, statements(stdout));
  // Per round: survivor in, four jumpers in that never return, one more in and out, survivor out.
  assert.deepEqual(
    calls.map((row) => `${functionOf(row)} ${row.text("ACTION")}`),
    [1, 2, 3].flatMap(() => ["survivor 0", ...Array.from({ length: 5 }, () => "jumper 0"), "jumper 1", "survivor 1"]),
  );
  for (const round of [0, 1, 2]) {
    const rows = calls.slice(round * 8, round * 8 + 8);
    const [outer, , , , , entry, exit, last] = rows;
    assert.ok(outer !== undefined && entry !== undefined && exit !== undefined && last !== undefined);
    changes([
      { entry, exit },
      { entry: outer, exit: last },
    ]);
    assert.equal(exit.number("SIZE_CHANGE"), 50, "what jumper(0) itself allocates");
    assert.equal(last.number("SIZE_CHANGE"), round + 1 + 5 * 50, "what survivor and all five jumpers left");
    assert.equal(BigInt.asIntN(32, exit.integer("RETURN")), 4n);
  }
});

test("memleak: four threads, each return with its own thread's entry", async (t) => {
  const { table, stdout } = await rowsOf(t, { probes: [`${probed}:worker`, `${probed}:overlapping`], mode: "threads" });
  const calls = table.rows.filter((row) => !row.isEnd);
  assert.equal(calls.length, 2 * 2 * 4 * 50);
  const found = pairs(calls);
  assert.equal(found.length, 400);
  assert.equal(new Set(found.map(({ entry }) => entry.number("TID"))).size, 4);
  changes(found);
  // Sizes are the workload's own while it holds the lock, above what starting the threads cost.
  const workers = calls.filter((row) => functionOf(row) === "worker");
  const said = statements(stdout, "worker");
  const base = Math.min(...workers.map((row) => row.number("Size")));
  const baseBlocks = Math.min(...workers.map((row) => row.number("Times")));
  for (const tid of new Set(said.map((statement) => statement.tid)))
    compare(
      workers.filter((row) => row.number("TID") === tid),
      said.filter((statement) => statement.tid === tid),
      { bytes: base, blocks: baseBlocks },
    );
  assert.deepEqual(
    workers.filter((row) => row.number("ACTION") === 1).map((row) => row.integer("RETURN")).sort(),
    said.filter((statement) => statement.kind === "back").map((statement) => statement.value).sort(),
  );
  for (const { exit } of found.filter(({ entry }) => functionOf(entry) === "overlapping"))
    assert.ok([-1n, -2n, -3n, -4n].includes(BigInt.asIntN(32, exit.integer("RETURN"))), exit.toString());
});

test("memleak: in a child process, with the heap it inherited", async (t) => {
  const { table, stdout } = await rowsOf(t, { probes: [`${probed}:static_leaf`], mode: "child" });
  const calls = table.rows.filter((row) => !row.isEnd);
  compare(calls, statements(stdout));
  changes(pairs(calls));
  const [parent, child] = [...new Set(calls.map((row) => row.pid))];
  assert.ok(parent !== undefined && child !== undefined && parent !== child);
  assert.deepEqual(calls.map((row) => row.pid), [parent, parent, child, child, parent, parent]);
});

test("memleak: a library's function", async (t) => {
  const { table, stdout } = await rowsOf(t, { probes: [`${libraryOf(probed, "libc.so")}:strdup`], parameters: "char *text", mode: "library" });
  const pid = Number(/^end main (\d+)/m.exec(stdout)?.[1]);
  const calls = table.of(pid).filter((row) => !row.isEnd);
  compare(calls, statements(stdout));
  const found = pairs(calls);
  changes(found);
  assert.deepEqual(found.map(({ exit }) => exit.number("SIZE_CHANGE")), [1, 2, 42]);
  assert.deepEqual(found.map(({ entry }) => entry.text("text")), ["", "a", "a longer text of forty-one characters...."]);
  assert.deepEqual(
    found.map(({ exit }) => BigInt.asUintN(64, exit.integer("RETURN"))),
    statements(stdout).flatMap((statement) => (statement.kind === "back" ? [BigInt.asUintN(64, statement.value)] : [])),
  );
});

test("memleak: bin:0xOFFSET, and a path relative to the working directory", async (t) => {
  const folder = scratch(t);
  copyFileSync(probed, join(folder, "copy of it"));
  const offset = `0x${codeOf(probed, "static_leaf").offset.toString(16)}`;
  const run = new Run(t, { directory: folder, config: configuration([`./copy of it:${offset}`]), command: ["./copy of it", "recursion"] });
  const { stdout } = await run.quietly();
  const calls = run.table("leak.csv").rows.filter((row) => !row.isEnd);
  assert.equal(calls.length, 2);
  assert.deepEqual(
    calls.map((row) => [row.number("Size"), row.number("Times")]),
    statements(stdout, "static_leaf").map((statement) => [statement.bytes, statement.blocks]),
  );
  assert.equal(calls[1]?.number("SIZE_CHANGE"), 444);
  assert.equal(calls[1].integer("RETURN"), -42n);
});

/** A cell as the file has it: text that a spreadsheet would run is neutralised, in whatever way keeps the text readable. */
function neutralised(text: string): RegExp {
  return new RegExp(`^['\\t ]${text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
}

test("memleak: parameters of every kind, whatever the upper half of a register holds", async (t) => {
  const names = ["n", "s", "c", "l", "p", "t", "b"];
  const { table } = await rowsOf(t, {
    probes: [`${probed}:parameters`],
    parameters: "int n, char[10] s, unsigned char c, long l, void *p, char *t, bool b",
    mode: "parameters",
  });
  assert.deepEqual(table.header.slice(12), names);
  const entries = table.rows.filter((row) => !row.isEnd && row.number("ACTION") === 0);
  const exits = table.rows.filter((row) => !row.isEnd && row.number("ACTION") === 1);
  assert.equal(entries.length, 5);
  assert.equal(exits.length, 5);
  for (const row of exits) for (const name of names) assert.ok(row.isEmpty(name), `${name} at return: ${row.toString()}`);
  const integers = (row: Row): bigint[] => ["n", "c", "l"].map((name) => row.integer(name));
  assert.deepEqual(entries.map(integers), [
    [5n, 200n, -1n],
    [-5n, 0n, -(2n ** 63n)],
    [2n ** 31n - 1n, 0n, 2n ** 63n - 1n],
    [-(2n ** 31n), 255n, 0n],
    [0n, 1n, 1n],
  ]);
  const pointers = entries.map((row) => row.text("p"));
  assert.deepEqual(pointers, ["0x1000", "0x0", "0xffffffffffffffff", "0xffff800000000000", "0x1"]);
  // On x86-64 the seventh argument is on the stack: read from there, as 1 and 0 or as true and false.
  assert.deepEqual(entries.map((row) => row.text("b").replace("true", "1").replace("false", "0")), ["1", "0", "1", "0", "1"]);
  const text = 'say "hi", then\nleave';
  const [first, second, third, fourth, fifth] = entries;
  assert.ok(first !== undefined && second !== undefined && third !== undefined && fourth !== undefined && fifth !== undefined);
  assert.equal(first.text("s"), text.slice(0, 10), "char[10]: at most ten bytes");
  assert.equal(first.text("t"), text, "char*: the whole text, with its quotes and its line end");
  assert.equal(second.text("s"), "0123456789", "ten bytes without an end are ten bytes");
  assert.equal(second.text("t"), "", "NULL");
  assert.match(third.text("s"), neutralised("=HYPERLINK(1)".slice(0, 10)));
  assert.match(third.text("t"), neutralised("=HYPERLINK(1)"));
  assert.equal(fourth.text("s"), "", "NULL");
  assert.equal(fourth.text("t"), "", "an address that cannot be read");
  assert.equal(fifth.text("s"), "");
  assert.equal(fifth.text("t"), "grüße");
});

test("memleak: integers of every width and sign", async (t) => {
  const { table } = await rowsOf(t, {
    probes: [`${probed}:widths`],
    parameters: "short a, unsigned short b, signed char c, unsigned int d, unsigned long e, long long f",
    mode: "parameters",
  });
  const entries = table.rows.filter((row) => !row.isEnd && row.number("ACTION") === 0);
  assert.deepEqual(
    entries.map((row) => ["a", "b", "c", "d", "e", "f"].map((name) => row.integer(name))),
    [
      [-32768n, 65535n, -128n, 2n ** 32n - 1n, 2n ** 64n - 1n, -(2n ** 63n)],
      [32767n, 1n, 127n, 0n, 0n, -1n],
    ],
  );
});

test("memleak: the same in the words of stdint.h, const and all", async (t) => {
  const { table } = await rowsOf(t, {
    probes: [`${probed}:widths`],
    parameters: "int16_t a, uint16_t b, int8_t c, uint32_t d, const size_t e, int64_t f",
    mode: "parameters",
  });
  const entries = table.rows.filter((row) => !row.isEnd && row.number("ACTION") === 0);
  assert.deepEqual(
    entries.map((row) => ["a", "b", "c", "d", "e", "f"].map((name) => row.integer(name))),
    [
      [-32768n, 65535n, -128n, 2n ** 32n - 1n, 2n ** 64n - 1n, -(2n ** 63n)],
      [32767n, 1n, 127n, 0n, 0n, -1n],
    ],
  );
});

test("memleak: what is no register's content is refused, with the reason", async (t) => {
  for (const [parameters, ...words] of [
    ["float value", "float"],
    ["int n, double d", "double"],
    ["struct point p", "struct"],
    ["int n, nonsense x", "nonsense"],
    ["int", "int"],
    ["int n, int n", "n"],
    ["char[0] s", "char[0]"],
  ] as const) {
    const run = new Run(t, { config: configuration([`${probed}:real`], parameters), command: [probed, "parameters"] });
    const outcome = await run.finished;
    refused(outcome, 2, ...words);
    assert.equal(outcome.stdout, "", "nothing was launched");
  }
});

test("memleak: an unknown function or binary names the closest", async (t) => {
  const cases: [string, ...string[]][] = [
    [`${probed}:recurze`, "recurze", "recurse"],
    [`${probed}:static_lef`, "static_lef", "static_leaf"],
    [`${probed}:0x7fffffff`, "0x7fffffff"],
    [`${probed}x:recurse`, `${basename(probed)}x`],
    [probed, basename(probed)],
  ];
  for (const [probe, ...words] of cases) {
    const run = new Run(t, { config: configuration([probe]), command: [probed, "recursion"] });
    const outcome = await run.finished;
    refused(outcome, outcome.code === 3 ? 3 : 2, ...words);
    assert.equal(outcome.stdout, "", "nothing was launched");
  }
});

test("memleak: probes and mem together count the same heap", async (t) => {
  const run = new Run(t, {
    config: { ...configuration([`${probed}:static_leaf`]), snoop_mem: "bpf", mem_output_file: "mem.csv" },
    command: [probed, "child"],
  });
  const { stdout } = await run.quietly();
  compare(run.table("leak.csv").rows.filter((row) => !row.isEnd), statements(stdout));
  for (const [, pid, bytes, blocks] of stdout.matchAll(/^end \S+ (\d+) (\d+) (\d+)/gm)) {
    const ends = run.table("mem.csv").ends(Number(pid));
    assert.deepEqual(ends.map((row) => [row.number("size(B)"), row.number("times")]), [[Number(bytes), Number(blocks)]]);
  }
});

test("memleak: functions that end in a jump to another share a frame and each have their pair", async (t) => {
  const names = ["tail_outer", "tail_inner", "wrapped_malloc", "wrapped_free"];
  const { table, stdout } = await rowsOf(t, { probes: names.map((name) => `${probed}:${name}`), mode: "tail" });
  const calls = table.rows.filter((row) => !row.isEnd);
  compare(calls, statements(stdout));
  const found = pairs(calls);
  changes(found);
  assert.deepEqual(
    found.map(({ exit }) => [functionOf(exit), exit.number("SIZE_CHANGE"), exit.number("TIMES_CHANGE")]),
    [
      ["tail_inner", 41, 1],
      ["tail_outer", 41, 1],
      ["wrapped_malloc", 555, 1],
      ["wrapped_free", -555, -1],
    ],
  );
});

test("memleak: one function under its name and its offset is refused: its two returns could not be told apart", async (t) => {
  const offset = `0x${codeOf(probed, "static_leaf").offset.toString(16)}`;
  const run = new Run(t, { config: configuration([`${probed}:static_leaf`, `${probed}:${offset}`]), command: [probed, "recursion"] });
  const outcome = await run.finished;
  refused(outcome, 2, "static_leaf", offset);
  assert.equal(outcome.stdout, "", "nothing was launched");
});

test("memleak: a fork inside a probed function: one entry, two returns, in two processes", async (t) => {
  const run = new Run(t, { config: configuration([`${probed}:forking`, `${probed}:static_leaf`]), command: [probed, "fork"] });
  const { stdout } = await run.quietly();
  const parent = Number(/^end main (\d+)/m.exec(stdout)?.[1]);
  const child = Number(/^end child (\d+)/m.exec(stdout)?.[1]);
  const table = run.table("leak.csv");
  const story = (pid: number): string[] =>
    table
      .of(pid)
      .filter((row) => !row.isEnd)
      .map((row) => `${functionOf(row)} ${row.text("ACTION")} ${row.text("Size")} ${row.text("SIZE_CHANGE")}`);
  assert.deepEqual(story(parent), ["forking 0 0 ", "forking 1 70 70", "static_leaf 0 70 ", "static_leaf 1 514 444"]);
  // It entered in no row of its own, so it may leave without one; if it has one, nothing in it is wrong.
  const after = ["static_leaf 0 77 ", "static_leaf 1 521 444"];
  const seen = story(child);
  assert.ok(
    [[], ["forking 1 77 77"], ["forking 1 77 "]].some((left) => JSON.stringify([...left, ...after]) === JSON.stringify(seen)),
    seen.join("\n"),
  );
});

test("memleak: deeper than the kernel follows returns, nothing is lost silently", async (t) => {
  const run = new Run(t, { config: configuration([`${probed}:recurse`, `${probed}:static_leaf`]), command: [probed, "deep"] });
  const { stdout } = await run.quietly();
  const said = statements(stdout);
  const calls = run.table("leak.csv").rows.filter((row) => !row.isEnd);
  const lost = run.record().modules["memleak_probes"]?.events_lost ?? 0;
  const same = (row: Row, statement: Statement | undefined): boolean =>
    row.number("Size") === statement?.bytes && row.number("Times") === statement.blocks;
  const exact = calls.length === said.length && calls.every((row, index) => same(row, said[index]));
  assert.ok(exact || lost > 0, `${calls.length} rows for ${said.length} statements, and run.json says that nothing was lost`);
  // 150 entries are seen however deep; and afterwards the program is followed as before.
  assert.equal(calls.filter((row) => functionOf(row) === "recurse" && row.number("ACTION") === 0).length, 150);
  const leaf = calls.filter((row) => functionOf(row) === "static_leaf");
  assert.deepEqual(leaf.map((row) => row.text("SIZE_CHANGE")), ["", "444"]);
});

test("memleak: text at the end of what is mapped, half letters, control characters", async (t) => {
  const { table } = await rowsOf(t, { probes: [`${probed}:parameters`], parameters: "int n, char[10] s", mode: "awkward" });
  const texts = table.rows.filter((row) => !row.isEnd && row.number("ACTION") === 0).map((row) => row.text("s"));
  assert.equal(texts.length, 3);
  assert.equal(texts[0], "abcdefghij", "the eleventh byte cannot be read, and need not be");
  // The file is UTF-8 (the reader insists): half a letter is left out or replaced.
  assert.ok(texts[1] === "123456789" || texts[1] === "123456789\ufffd", JSON.stringify(texts[1]));
  assert.match(texts[2] ?? "", /^\ufffd*.?\t\r$/s);
});

test("memleak: a long text is there as declared, or refused with the limit", async (t) => {
  for (const [type, length] of [
    ["char[100]", 100],
    ["char[200]", 200],
    ["char*", 300],
  ] as const) {
    const run = new Run(t, { config: configuration([`${probed}:parameters`], `int n, ${type} s`), command: [probed, "long"] });
    const outcome = await run.finished;
    if (outcome.code === 2) {
      refused(outcome, 2, "char", /\d+/);
      assert.notEqual(length, 100);
      continue;
    }
    assert.equal(outcome.stderr, "");
    const [entry] = run.table("leak.csv").rows.filter((row) => !row.isEnd && row.number("ACTION") === 0);
    const text = entry?.text("s") ?? "";
    if (type === "char*") assert.ok(text.length >= 100 && "L".repeat(300).startsWith(text), `${type}: ${text.length} characters`);
    else assert.equal(text, "L".repeat(length), type);
  }
});

test("memleak: a function that the loader chooses an implementation of is refused", async (t) => {
  const libc = libraryOf(probed, "libc.so");
  const run = new Run(t, { config: configuration([`${libc}:strlen`]), command: [probed, "recursion"] });
  const outcome = await run.finished;
  refused(outcome, 2, "strlen");
  assert.equal(outcome.stdout, "", "nothing was launched");
});

test("memleak: a name that two functions have: both are probed, or neither", async (t) => {
  const folder = scratch(t);
  // The two return different things, so that the rows tell them apart.
  const source = (name: string, value: number): string =>
    `static __attribute__((noinline)) int twin(void) { __asm__ volatile(""); return ${value}; } int ${name}(void) { return twin(); }\n`;
  writeFileSync(join(folder, "one.c"), source("one", 11));
  writeFileSync(join(folder, "two.c"), `${source("two", 22)}int one(void); int main(void) { return one() + two() == 33 ? 0 : 1; }\n`);
  execFileSync("cc", ["-O2", "-fno-optimize-sibling-calls", "-o", "twins", "one.c", "two.c"], { cwd: folder });
  const run = new Run(t, { directory: folder, config: configuration(["./twins:twin"]), command: ["./twins"] });
  const outcome = await run.finished;
  if (outcome.code === 2) {
    refused(outcome, 2, "twin", /0x[0-9a-f]+.*0x[0-9a-f]+/s);
    return;
  }
  assert.deepEqual({ code: outcome.code, stderr: outcome.stderr }, { code: 0, stderr: "" });
  const returned = run.table("leak.csv").rows.filter((row) => !row.isEnd && row.number("ACTION") === 1);
  assert.deepEqual(returned.map((row) => BigInt.asIntN(32, row.integer("RETURN"))), [11n, 22n]);
});

test("memleak: malloc itself as the probed function", async (t) => {
  const { table } = await rowsOf(t, { probes: [`${libraryOf(probed, "libc.so")}:malloc`, `${libraryOf(probed, "libc.so")}:free`], mode: "tail", parameters: "size_t size" });
  const found = pairs(table.rows.filter((row) => !row.isEnd));
  changes(found);
  assert.deepEqual(
    found.map(({ entry, exit }) => [functionOf(exit), functionOf(exit) === "malloc" ? entry.integer("size") : 0n, exit.number("SIZE_CHANGE")]),
    [
      ["malloc", 41n, 41],
      ["malloc", 555n, 555],
      ["free", 0n, -555],
    ],
  );
});

/** A probed program that waits to be let go. */
async function waiting(t: TestContext, mode: string): Promise<{ target: Command; pid: number }> {
  const target = new Command(t, [probed, mode, "hold"]);
  const [, pid] = await target.says(/^hold ready (\d+) /m);
  return { target, pid: Number(pid) };
}

test("memleak: attached to a running process and its children to come", async (t) => {
  const { target, pid } = await waiting(t, "child");
  const run = new Run(t, { config: configuration([`${probed}:static_leaf`]), options: ["-p", pid.toString()] });
  await until("the probes", () => !untouched(pid, codeOf(probed, "static_leaf")));
  await until("the run", () => run.growing("leak.csv") !== undefined && run.record().state === "running");
  process.kill(pid, "SIGUSR1");
  const { stdout } = await target.finished;
  await run.quietly();
  const calls = run.table("leak.csv").rows.filter((row) => !row.isEnd);
  compare(calls, statements(stdout));
  changes(pairs(calls));
});

test("memleak: the target alone, when children are not to be followed", async (t) => {
  const run = new Run(t, { config: { ...configuration([`${probed}:static_leaf`]), trace_multiprocess: false }, command: [probed, "child"] });
  const { stdout } = await run.quietly();
  const pid = Number(/^end main (\d+)/m.exec(stdout)?.[1]);
  const table = run.table("leak.csv");
  assert.deepEqual(table.pids(), new Set([pid]));
  compare(table.rows.filter((row) => !row.isEnd), statements(stdout).filter(({ tid }) => tid === pid));
});

test("memleak: no breakpoint outside the tree, and none anywhere afterwards", async (t) => {
  const places = [codeOf(probed, "static_leaf"), ...["malloc", "free"].map((name) => codeOf(libraryOf(probed, "libc.so"), name, true))];
  const whole = (pid: number): boolean[] => places.map((place) => untouched(pid, place));
  for (const end of ["its time is over", "it is interrupted", "it is killed"] as const) {
    const outside = await waiting(t, "child");
    const inside = await waiting(t, "child");
    assert.deepEqual(whole(inside.pid), [true, true, true]);
    const run = new Run(t, {
      config: configuration([`${probed}:static_leaf`]),
      options: ["-p", inside.pid.toString(), ...(end === "its time is over" ? ["-d", "2"] : [])],
    });
    await until("the probes", () => whole(inside.pid).every((is) => !is));
    assert.deepEqual(whole(outside.pid), [true, true, true], "outside the tree, while it runs");
    if (end !== "its time is over") {
      await until("the run", () => run.growing("leak.csv") !== undefined);
      run.child.kill(end === "it is killed" ? "SIGKILL" : "SIGINT");
    }
    await run.finished;
    if (end !== "it is interrupted") {
      // The kernel clears up after a killed monitor on its own time.
      await until(`the probes to go when ${end}`, () => whole(inside.pid).every((is) => is));
      process.kill(inside.pid, "SIGUSR1");
      assert.equal((await inside.target.finished).code, 0);
    }
    process.kill(outside.pid, "SIGUSR1");
    assert.equal((await outside.target.finished).code, 0);
  }
});
