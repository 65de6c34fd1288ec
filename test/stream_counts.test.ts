// Every system call has its rows, none is lost, and each thread's stand in order: against what the programs
// themselves count. Owns: programs that make very many calls, live very shortly, change their names, are broken
// off or move between CPUs. Does not own: loss (stream_loss.test.ts), the files (stream_output.test.ts), strace's
// view of ordinary programs (syscall.test.ts).
import assert from "node:assert/strict";
import { readFileSync, symlinkSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { eachEvent, readEvents, type EventRow } from "./support/events.js";
import { scratch, workload } from "./support/paths.js";
import { execute, Run, type Outcome } from "./support/run.js";

const config = { snoop_syscall: "bpf", syscall_output_file: "syscall.csv", interval: 0.2 };

/** Runs with only these calls wanted, and nothing lost. */
async function watch(
  t: TestContext,
  calls: readonly string[],
  command: readonly string[],
  directory = scratch(t),
): Promise<{ run: Run; outcome: Outcome }> {
  const run = new Run(t, { config: { ...config, syscall_filter: calls }, command, directory });
  const outcome = await run.quietly();
  const { events_lost: lost, events_seen: seen, events_written: written } = run.record().modules.syscall ?? {};
  assert.deepEqual({ lost, written }, { lost: 0, written: seen });
  return { run, outcome };
}

/** The lines of the workload's output that begin with this word, the numbers behind it. */
function said(outcome: Outcome, word: string): number[][] {
  const lines = [...outcome.stdout.matchAll(new RegExp(`^${word} (.*)$`, "gm"))].map((match) => match[1] ?? "");
  assert.ok(lines.length > 0, `${word}: ${outcome.stdout}`);
  return lines.map((line) => line.split(" ").map(Number));
}

/** Checks a thread's rows as they come: entry and return in turn, time not backwards. */
class Thread {
  entries = 0;
  returns = 0;
  #ticks = 0;

  take(row: EventRow): void {
    if (row.ticks < this.#ticks || row.entry !== (this.entries === this.returns))
      assert.fail(`entry and return in turn, time forward; after ${this.entries} entries: ${JSON.stringify(row)}`);
    this.#ticks = row.ticks;
    if (row.entry) this.entries++;
    else this.returns++;
  }
}

/** Reads a table: each thread is checked, `take` gets the events, and END is each process's last row. */
function follow(path: string, take?: (row: EventRow, thread: Thread) => void): Map<number, Thread> {
  const threads = new Map<number, Thread>();
  const ended = new Set<number>();
  eachEvent(path, (row) => {
    if (ended.has(row.pid) || row.kind === "lost") assert.fail(`behind END, or lost: ${JSON.stringify(row)}`);
    if (row.kind === "end") {
      ended.add(row.pid);
      return;
    }
    let thread = threads.get(row.tid);
    if (thread === undefined) threads.set(row.tid, (thread = new Thread()));
    thread.take(row);
    take?.(row, thread);
  });
  return threads;
}

/** `ENTRY` for an entry, `=RESULT` for a return: one thread's calls, short enough to compare whole. */
function brief(row: EventRow): string {
  return row.entry ? `${row.name} ${row.first}` : `= ${row.result}`;
}

test("dd, two million blocks of one byte: every read and write", async (t) => {
  const folder = scratch(t);
  const dd = (count: number): string[] => ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", `count=${count}`, "status=none"];
  // What dd reads and writes besides its blocks (the C library is read, for one), strace tells.
  const trace = join(folder, "trace");
  await execute(t, ["strace", "-e", "trace=read,write", "-e", "signal=none", "-o", trace, ...dd(1)]);
  const besides = [...readFileSync(trace, "utf8").matchAll(/^(read|write)\(/gm)].length - 2;
  const count = 2_000_000;
  const { run } = await watch(t, ["read", "write"], dd(count), folder);
  // dd has its input as 0, its output as 1.
  const blocks = { "read 0": 0, "write 1": 0 };
  let others = 0;
  const threads = follow(run.path("syscall.csv"), (row) => {
    const call = brief(row);
    if (call === "read 0" || call === "write 1") blocks[call]++;
    else if (row.entry) others++;
  });
  assert.deepEqual({ ...blocks, others }, { "read 0": count, "write 1": count, others: besides });
  assert.equal(threads.size, 1);
  for (const { entries, returns } of threads.values()) assert.equal(returns, entries);
});

describe("64 threads calling getppid at once", () => {
  const command = [workload("stream_threads"), "64", "4000"];

  test("events: each thread's calls, in order", async (t) => {
    const { run, outcome } = await watch(t, ["getppid"], command);
    const threads = follow(run.path("syscall.csv"));
    assert.deepEqual(
      [...threads].map(([tid, { entries, returns }]) => [tid, entries, returns]).sort(),
      said(outcome, "thread")
        .map(([tid, calls]) => [tid, calls, calls])
        .sort(),
    );
  });

  test("summary: the same number, added up in the kernel", async (t) => {
    const run = new Run(t, {
      config: { ...config, syscall_filter: ["getppid"], syscall_mode: "summary" },
      command,
    });
    const calls = said(await run.quietly(), "thread").reduce((sum, [, each = 0]) => sum + each, 0);
    const table = run.table("syscall.csv");
    const rows = table.rows.filter((row) => row.text("SYSCALL") === "getppid");
    assert.deepEqual({ calls: table.sum("CALLS", rows), errors: table.sum("ERRORS", rows) }, { calls, errors: 0 });
  });
});

test("500 processes that are gone at once, made by fork, vfork with exec, and two kinds of clone", async (t) => {
  const calls = ["clone", "clone3", "fork", "vfork", "execve", "getpriority", "exit_group"];
  const { run, outcome } = await watch(t, calls, [workload("stream_lives"), "500"]);
  const rows = new Map<number, EventRow[]>();
  for (const row of readEvents(run.path("syscall.csv"))) {
    const own = rows.get(row.pid);
    if (own === undefined) rows.set(row.pid, [row]);
    else own.push(row);
  }
  const made = [...outcome.stdout.matchAll(/^(\S+) (\d+) (\d+)$/gm)].map(([, how, number, pid]) => ({
    how,
    number: Number(number),
    pid: Number(pid),
  }));
  assert.equal(made.length, 500);
  for (const { how, number, pid } of made) {
    const own = rows.get(pid);
    assert.ok(own !== undefined, `${how} ${number}, process ${pid}, has no rows`);
    const seen = own.map((row) => (row.kind === "event" ? brief(row) : row.kind));
    if (how === "exec") assert.match(seen.shift() ?? "", /^execve \d+$/);
    assert.deepEqual(
      seen,
      [
        ...(how === "exec" ? ["= 0"] : []),
        ...[0, 1, 2, 3, 4].flatMap((j) => [`getpriority ${1000 * (number + 1) + j}`, "= -22"]),
        "exit_group 0",
        "end",
      ],
      `${how} ${number}, process ${pid}`,
    );
    for (const row of own) assert.equal(row.comm, "stream_lives", JSON.stringify(row));
    for (const row of own) if (row.kind === "event") assert.equal(row.tid, pid);
  }
  // Whoever made them is the one process that is left; what its calls returned are their pids.
  const [[parent, its] = [], ...strangers] = [...rows].filter(([pid]) => made.every((child) => child.pid !== pid));
  assert.ok(parent !== undefined && its !== undefined && strangers.length === 0);
  assert.deepEqual(
    its.filter((row) => row.kind === "event" && !row.entry && Number(row.result) > 0).map((row) => Number(row.result)),
    made.map((child) => child.pid),
  );
});

test("a program that executes itself 200 times: its name changes where it did", async (t) => {
  const folder = scratch(t);
  for (const name of ["even", "odd"]) symlinkSync(workload("stream_execs"), join(folder, name));
  const { run } = await watch(t, ["execve", "getpriority"], [join(folder, "even"), folder, "200"], folder);
  const rows = readEvents(run.path("syscall.csv"));
  const shown = rows.slice(1).map((row) => {
    const what = row.kind === "end" ? "end" : row.name === "execve" && row.entry ? "execve" : brief(row);
    return `${row.comm}: ${what}`;
  });
  const name = (number: number): string => (number % 2 === 1 ? "odd" : "even");
  const expected = Array.from({ length: 201 }, (_, number) => [
    `${name(number)}: = 0`, // of the execve that made it
    `${name(number)}: getpriority ${1000 + number}`,
    `${name(number)}: = -22`,
    `${name(number)}: ${number < 200 ? "execve" : "end"}`,
  ]).flat();
  assert.equal(rows[0]?.name, "execve");
  assert.deepEqual(shown, expected);
  assert.equal(new Set(rows.map((row) => row.pid)).size, 1);
});

test("calls that signals break off: what came back, and what was called again", async (t) => {
  const calls = ["read", "ppoll", "futex", "restart_syscall", "rt_sigreturn"];
  const { run, outcome } = await watch(t, calls, [workload("stream_signals")]);
  const [[pid = 0] = []] = said(outcome, "process");
  const rows = readEvents(run.path("syscall.csv")).filter((row) => row.kind === "event" && row.tid === pid);
  // The first read is the dynamic linker's; of what is below, the arguments are addresses or accidental.
  const seen = rows.map((row) => (row.entry ? row.name : row.result));
  const [ERESTARTSYS, ERESTARTNOHAND, ERESTART_RESTARTBLOCK, EINTR] = ["-512", "-514", "-516", "-4"];
  const back = (result: string | undefined): (string | undefined)[] => ["rt_sigreturn", result];
  // With SA_RESTART the registers are put back to before the call: what that "returns" differs by architecture.
  const restarted = seen[seen.indexOf("rt_sigreturn") + 1];
  assert.deepEqual(seen.slice(seen.indexOf(ERESTARTSYS) - 1), [
    ...["read", ERESTARTSYS, ...back(restarted), "read", "1"],
    ...["read", ERESTARTSYS, ...back(EINTR)],
    ...["ppoll", ERESTARTNOHAND, "ppoll", ERESTARTNOHAND, ...back(EINTR)],
    ...["futex", ERESTART_RESTARTBLOCK, "restart_syscall", "0"],
  ]);
});

test("exit_group with threads in the middle of calls", async (t) => {
  const { run, outcome } = await watch(t, ["getppid", "read", "exit_group"], [workload("stream_exits")]);
  const [[pid = 0] = []] = said(outcome, "process");
  const [[blocked = 0] = []] = said(outcome, "blocked");
  const own: string[] = [];
  const threads = follow(run.path("syscall.csv"), (row) => {
    if (row.tid === blocked || (row.tid === pid && row.name === "exit_group")) own.push(`${row.name} ${row.result}`);
  });
  assert.deepEqual(own.sort(), ["exit_group ", "read ", "read -512"], "the one entry, the read broken off");
  for (const [tid = 0, begun = 0, returned = 0] of said(outcome, "caller")) {
    const { entries, returns } = threads.get(tid) ?? new Thread();
    // It may have been stopped between its count and the call, and between the call and its count.
    assert.ok(entries === begun || entries === begun - 1, `thread ${tid}: ${entries} entries, ${begun} begun`);
    assert.equal(returns, entries, `thread ${tid}`);
    assert.ok(returns >= returned, `thread ${tid}: ${returns} returns, ${returned} counted`);
  }
});

test("threads that never stay on one CPU: each one's calls in order", async (t) => {
  const command = [workload("stream_migrate"), "20000"];
  const { run, outcome } = await watch(t, ["getpriority", "sched_setaffinity"], command);
  const made = new Map(said(outcome, "thread").map(([tid = 0, base = 0, calls = 0]) => [tid, { base, calls }]));
  const [[moves = 0] = []] = said(outcome, "moves");
  if (availableParallelism() > 1) assert.ok(moves >= 2 * 19_999, `they moved: ${moves}`);
  const next = new Map([...made].map(([tid, { base }]) => [tid, base]));
  follow(run.path("syscall.csv"), (row) => {
    const expected = next.get(row.tid);
    if (row.name !== "getpriority" || !row.entry || expected === undefined) return;
    if (row.first !== String(expected)) assert.fail(`${expected} is next: ${JSON.stringify(row)}`);
    next.set(row.tid, expected + 1);
  });
  for (const [tid, { base, calls }] of made) assert.equal(next.get(tid), base + calls, `thread ${tid}`);
});

test("summary: percentiles and the longest of sleeps of known length", async (t) => {
  // One row, at the end: percentiles of several ticks cannot be put together.
  const run = new Run(t, {
    config: { ...config, interval: 60, syscall_filter: ["nanosleep"], syscall_mode: "summary" },
    command: [workload("stream_sleeps")],
  });
  const slept = said(await run.quietly(), "slept");
  const sorted = (column: number): number[] =>
    slept.map((line) => (line[column] ?? NaN) / 1e3).sort((a, b) => a - b);
  const least = sorted(0);
  const most = sorted(1);
  const total = (of: readonly number[]): number => of.reduce((sum, each) => sum + each, 0);
  const [row, ...more] = run.table("syscall.csv").rows.filter((each) => each.text("SYSCALL") === "nanosleep");
  assert.ok(row !== undefined && more.length === 0);
  assert.equal(row.number("CALLS"), 100);
  // A percentile is the middle of its bucket, whose edges are at most an eighth away.
  for (const [column, from, to, share] of [
    ["P50", least[49], most[49], 1 / 8],
    ["P99", least[98], most[98], 1 / 8],
    ["MAX", least[99], most[99], 0],
    ["TOTAL", total(least), total(most), 0],
    ["MEAN", total(least) / 100, total(most) / 100, 0],
  ] as const) {
    assert.ok(from !== undefined && to !== undefined);
    const value = row.number(column);
    // Printed with three decimals.
    assert.ok(
      value >= from * (1 - share) - 0.001 && value <= to * (1 + share) + 0.001,
      `${column} ${value} is of calls that took ${from} to ${to} µs`,
    );
  }
});
