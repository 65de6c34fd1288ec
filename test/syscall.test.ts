// The syscall module against strace and against a program whose calls are known. Owns: that every call of
// every thread has its rows, in order, with the right number, first argument and result; filters; the
// summary. Does not own: the file format (files.test.ts) or the tree (tree.test.ts).
//
// Two kinds of comparison. *Same run*: treesnoop's target is `strace -ff program`, so both watch the very
// same calls of the very same processes and nothing at all needs to be masked: pids, addresses, times and
// races are equal because they are the same ones. (strace stops the program around each call, but a call
// stopped is still that call.) *Two runs*: the program alone under treesnoop and alone under strace, so that
// nobody else holds it; only for programs that do the same thing twice.
// Runs beside others.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import type { Row, Table } from "./support/csv.js";
import { scratch, workload } from "./support/paths.js";
import { execute, Run } from "./support/run.js";
import { until } from "./support/wait.js";
import { callsOf, readStrace, sameCalls, show, straceOptions, type Call } from "./support/strace.js";

const config = { snoop_syscall: "bpf", syscall_output_file: "syscall.csv", interval: 0.2 };

/** Call numbers by name, from the C compiler's headers: neither treesnoop's table nor strace's. */
async function numbers(t: TestContext): Promise<ReadonlyMap<string, number>> {
  const { stdout } = await execute(t, ["cc", "-E", "-dM", "-x", "c", "-"], {
    input: "#include <sys/syscall.h>\n",
  });
  const found = new Map<string, number>();
  for (const match of stdout.matchAll(/^#define __NR_(\w+) (\d+)$/gm))
    found.set(match[1] ?? "", Number(match[2]));
  assert.ok(found.size > 300, "the headers name the calls");
  return found;
}

function events(table: Table): Row[] {
  return table.rows.filter((row) => !row.isEnd && !row.isLost);
}

function byThread(table: Table): Map<number, Row[]> {
  const threads = new Map<number, Row[]>();
  for (const row of events(table)) {
    const rows = threads.get(row.number("TID")) ?? [];
    rows.push(row);
    threads.set(row.number("TID"), rows);
  }
  return threads;
}

/**
 * The program of the known list, without the first execve (whose argument is an address of whoever execs it).
 */
const known: readonly (readonly [string, bigint | undefined, bigint | undefined])[] = [
  ["getppid", undefined, undefined],
  ["close", 0xffffffffn, -9n],
  ["close", -1n, -9n],
  ["openat", -100n, -2n],
  ["memfd_create", undefined, 3n],
  ["lseek", 3n, 9007199254740993n],
  ["dup", 3n, 4n],
  ["getpriority", 9007199254740993n, undefined],
  ["getpriority", 9007199254740994n, undefined],
  ["getpriority", 9007199254740995n, -22n],
  ["getpriority", 9007199254740996n, -22n],
  ["getpriority", 9007199254740997n, -22n],
  ["write", 3n, 5n],
  ["munmap", 0x7fffffffffffffffn, -22n],
  ["", -7n, -38n],
  ["close", 4n, 0n],
  ["exit_group", 5n, undefined],
];

describe("syscall/events", () => {
  test("a static binary's known calls, from its execve to exit_group", async (t) => {
    const number = await numbers(t);
    const run = new Run(t, { config, command: [workload("syscalls_known")] });
    const { code, stderr } = await run.finished;
    assert.deepEqual({ code, stderr }, { code: 5, stderr: "" });
    const table = run.table("syscall.csv");
    const first = table.rows[0];
    assert.ok(first !== undefined);
    assert.equal(first.text("SYSCALL"), "execve", "the first row is the target's execve");
    assert.equal(first.text("ACTION"), "0");
    assert.equal(table.pids().size, 1);
    const rows = events(table);
    const last = rows.at(-1);
    assert.equal(last?.text("SYSCALL"), "exit_group");
    assert.equal(last.text("ACTION"), "0", "exit_group has an entry only");
    const [execve, ...calls] = callsOf(rows);
    assert.equal(execve?.number, number.get("execve"));
    assert.equal(execve?.result, 0n);
    sameCalls(
      "known list",
      calls,
      known.map(([name, argument, result]): Call => ({
        number: name === "" ? 999 : (number.get(name) ?? -1),
        name: name === "" ? "syscall_0x3e7" : name,
        first: argument,
        result,
      })),
    );
    for (const row of rows) {
      assert.equal(row.number("TID"), row.pid);
      if (row.number("SYSCALL_ID") !== 999)
        assert.equal(number.get(row.text("SYSCALL")), row.number("SYSCALL_ID"), row.toString());
    }
    assert.equal(run.record().modules.syscall?.events_lost, 0);
    assert.equal(run.record().modules.syscall?.events_seen, rows.length);
  });

  test("two runs: what treesnoop sees alone is what strace sees alone", async (t) => {
    // `setarch -R` switches address randomisation off for what it executes, which is where the comparison
    // begins; so addresses agree. Masked, for each a reason:
    const masks: readonly [string, (call: Call) => Call][] = [
      // execve's argument lies in the memory of setarch, which is still randomised.
      ["execve", (call) => ({ ...call, first: undefined })],
      // Process and thread ids are given out by the kernel in order of creation on the whole machine.
      ["set_tid_address", (call) => ({ ...call, result: undefined })],
      ["getppid", (call) => ({ ...call, result: undefined })],
      ["getpid", (call) => ({ ...call, result: undefined })],
      ["gettid", (call) => ({ ...call, result: undefined })],
    ];
    const mask = (calls: readonly Call[]): Call[] =>
      calls
        .slice(calls.findLastIndex((call) => call.name === "execve"))
        .map((call) => masks.find(([name]) => name === call.name)?.[1](call) ?? call);
    const folder = scratch(t);
    mkdirSync(join(folder, "listed"));
    for (const name of ["one", "two", "three"]) writeFileSync(join(folder, "listed", name), name);
    for (const command of [
      ["setarch", "-R", "ls", "-l", join(folder, "listed")],
      ["setarch", "-R", workload("syscalls_known")],
    ]) {
      const output = { LC_ALL: "C", PATH: process.env.PATH ?? "" };
      const run = new Run(t, { config, command, environment: output });
      const outcome = await run.finished;
      assert.equal(outcome.stderr, "");
      const prefix = join(folder, "alone");
      const alone = await execute(t, ["strace", ...straceOptions(prefix), ...command], {
        environment: output,
        directory: run.directory,
      });
      assert.equal(outcome.code, alone.code);
      assert.equal(outcome.stdout, alone.stdout);
      const [theirs, ...more] = readStrace(prefix).values();
      assert.ok(theirs !== undefined && more.length === 0, "one thread");
      const table = run.table("syscall.csv");
      assert.equal(table.pids().size, 1);
      sameCalls(command.join(" "), mask(callsOf(events(table))), mask(theirs));
      await execute(t, ["sh", "-c", `rm -f '${prefix}'.*`]);
    }
  });

  /** Runs `strace -ff command` under treesnoop and compares every thread strace followed. */
  async function sameRun(
    t: TestContext,
    command: readonly string[],
    directory?: string,
  ): Promise<{ calls: number; threads: number; stdout: string }> {
    const folder = directory ?? scratch(t);
    const prefix = join(folder, "strace");
    const run = new Run(t, {
      config,
      directory: folder,
      deadline: 120,
      command: ["strace", ...straceOptions(prefix), ...command],
    });
    const { stdout } = await run.quietly();
    const table = run.table("syscall.csv");
    const theirs = readStrace(prefix);
    const ours = byThread(table);
    let calls = 0;
    // strace's first child has made calls of strace's own before it became the program: its account starts at
    // the execve.
    const program = Math.min(...theirs.keys());
    for (const [thread, expected] of theirs) {
      const rows = ours.get(thread);
      assert.ok(rows !== undefined, `thread ${thread} of strace has no rows`);
      let seen = callsOf(rows);
      if (thread === program) seen = seen.slice(seen.findIndex((call) => call.name === "execve"));
      sameCalls(`${command.join(" ")}, thread ${thread}`, seen, expected);
      calls += expected.length;
    }
    // Processes of the tree that strace does not know are strace itself and what it started for itself.
    const strangers = [...ours.keys()].filter((thread) => !theirs.has(thread));
    for (const stranger of strangers)
      assert.ok(
        ours.get(stranger)?.some((row) => row.text("COMM").startsWith("strace")),
        `thread ${stranger} is unknown to strace`,
      );
    assert.equal(run.record().modules.syscall?.events_lost, 0);
    return { calls, threads: theirs.size, stdout };
  }

  test("same run: ls", async (t) => {
    assert.ok((await sameRun(t, ["ls", "-lR", "/usr/share/doc/strace", "/etc/ssl"])).calls > 100);
  });

  test("same run: git log", async (t) => {
    const folder = scratch(t);
    const git = ["git", "-C", folder, "-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"];
    for (const step of [
      ["init", "-q"],
      ["commit", "-q", "--allow-empty", "-m", "one"],
      ["commit", "-q", "--allow-empty", "-m", "two"],
    ])
      assert.equal((await execute(t, [...git, ...step])).code, 0);
    const { stdout, calls } = await sameRun(
      t,
      ["git", "-C", folder, "--paginate", "-c", "core.pager=cat", "log"],
      folder,
    );
    assert.match(stdout, /two[^]*one/);
    assert.ok(calls > 100);
  });

  test("same run: python3 with a thread and a child process", async (t) => {
    const script =
      "import subprocess, threading, time; a = threading.Thread(target=time.sleep, args=(0.05,)); a.start(); print(subprocess.run(['echo', 'hi'], capture_output=True).stdout); a.join()";
    const { threads, stdout } = await sameRun(t, ["/usr/bin/python3", "-c", script]);
    assert.match(stdout, /hi/);
    assert.ok(threads >= 3);
  });

  test("same run: node, all of its threads", async (t) => {
    const { threads, stdout } = await sameRun(t, [
      process.execPath,
      "-e",
      "require('fs').readFile('/etc/hostname', () => setTimeout(() => console.log('read'), 20))",
    ]);
    assert.equal(stdout, "read\n");
    assert.ok(threads > 5, `node has threads: ${threads}`);
  });

  test("same run: threads and a child process making calls at once, a call a signal interrupts, a read that never returns", async (t) => {
    const { threads } = await sameRun(t, [workload("syscalls_threads")]);
    assert.equal(threads, 7);
  });

  test("same run: calls that signals break off, and that are called again", async (t) => {
    const { threads } = await sameRun(t, [workload("stream_signals")]);
    assert.equal(threads, 2);
  });

  test("same run: processes made by fork, vfork with exec, and two kinds of clone", async (t) => {
    const { threads } = await sameRun(t, [workload("stream_lives"), "40"]);
    assert.equal(threads, 41);
  });

  test("threads without anybody's help: each one's 200 calls in order", async (t) => {
    const run = new Run(t, { config, command: [workload("syscalls_threads")] });
    await run.quietly();
    const table = run.table("syscall.csv");
    const bases = new Map<number, { thread: number; pid: number }>();
    for (const [thread, rows] of byThread(table)) {
      const own = callsOf(rows).filter((call) => call.name === "getpriority");
      const start = own[0]?.first;
      if (start === undefined) continue;
      assert.deepEqual(
        own.map((call) => call.first),
        Array.from({ length: 200 }, (_, i) => start + BigInt(i)),
        `thread ${thread}`,
      );
      bases.set(Number(start), { thread, pid: rows[0]?.pid ?? 0 });
    }
    assert.deepEqual(
      [...bases.keys()].sort((a, b) => a - b),
      [1000, 2000, 3000, 4000, 51000],
    );
    const parent = bases.get(1000)?.pid;
    for (const base of [2000, 3000, 4000])
      assert.equal(bases.get(base)?.pid, parent, "threads belong to one process");
    const child = bases.get(51000);
    assert.ok(
      child !== undefined && child.pid === child.thread && child.pid !== parent,
      "the child is its own process",
    );
  });

  test("an execve that fails, then one that works", async (t) => {
    const run = new Run(t, { config, command: ["sh", "-c", "/nonexistent/program; exec /bin/true"] });
    await run.finished;
    const calls = callsOf(
      events(run.table("syscall.csv")).filter((row) => row.pid === run.table("syscall.csv").rows[0]?.pid),
    );
    const execs = [...byThread(run.table("syscall.csv")).values()]
      .flatMap((rows) => callsOf(rows))
      .filter((call) => call.name === "execve");
    assert.ok(calls.length > 0);
    assert.ok(
      execs.some((call) => call.result === 0n),
      execs.map(show).join("; "),
    );
    assert.ok(execs.filter((call) => call.result === 0n).length === 2, execs.map(show).join("; "));
  });
});

test("what the ring could not hold is counted, to the event", async (t) => {
  // The monitor is stopped while dd makes its calls: some hundred thousand records more than any ring holds.
  const calls = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000", "status=none"];
  const only = { ...config, syscall_filter: ["read", "write"] };
  const reference = new Run(t, { config: { ...only, syscall_mode: "summary" }, command: calls });
  await reference.quietly();
  const table = reference.table("syscall.csv");
  const made = table.rows
    .filter((row) => row.text("SYSCALL") !== "")
    .reduce((sum, row) => sum + row.number("CALLS"), 0);
  assert.ok(made >= 600_000);
  const run = new Run(t, {
    config: only,
    input: "open",
    command: ["sh", "-c", `echo ready $$; read line; exec ${calls.join(" ")}`],
  });
  const target = Number((await run.says(/ready (\d+)\n/))[1]);
  run.child.kill("SIGSTOP");
  run.write("go\n");
  await until("dd to be done", () => /^State:\s+Z/m.test(readFileSync(`/proc/${target}/status`, "utf8")));
  run.child.kill("SIGCONT");
  await run.finished;
  const record = run.record().modules.syscall;
  assert.ok(record?.events_seen !== undefined && record.events_lost !== undefined);
  assert.ok(record.events_lost > 0, "some were lost");
  assert.equal(
    events(run.table("syscall.csv")).length,
    record.events_seen - record.events_lost,
    "the others are rows",
  );
  // The shell's own read of the line, and what its start-up read, come on top: an entry and a return each.
  const extra = record.events_seen - 2 * made;
  assert.ok(extra >= 0 && extra <= 60, `seen ${record.events_seen}, made ${2 * made}`);
});

describe("syscall_filter", () => {
  const cases: readonly [string, readonly (string | number)[], (name: string, number: number) => boolean][] =
    [
      ["names", ["openat", "close"], (name) => name === "openat" || name === "close"],
      ["numbers", [999], (_, number) => number === 999],
      ["names and numbers as text", ["dup", "999"], (name, number) => name === "dup" || number === 999],
      ["exclusion", ["!getpriority", "!close"], (name) => name !== "getpriority" && name !== "close"],
    ];
  for (const [what, filter, wanted] of cases)
    test(what, async (t) => {
      const everything = new Run(t, { config, command: [workload("syscalls_known")] });
      await everything.finished;
      const run = new Run(t, {
        config: { ...config, syscall_filter: filter },
        command: [workload("syscalls_known")],
      });
      const { code, stderr } = await run.finished;
      assert.deepEqual({ code, stderr }, { code: 5, stderr: "" });
      const brief = (table: Table): string[] =>
        events(table).map((row) =>
          ["ACTION", "SYSCALL_ID", "SYSCALL"].map((column) => row.text(column)).join(" "),
        );
      const expected = brief(everything.table("syscall.csv")).filter((text) => {
        const [, number, name = ""] = text.split(" ");
        return wanted(name, Number(number));
      });
      assert.ok(expected.length > 0);
      assert.deepEqual(brief(run.table("syscall.csv")), expected);
    });

  test("inclusion and exclusion together: included, less the excluded", async (t) => {
    const run = new Run(t, {
      config: { ...config, syscall_filter: ["openat", "close", "!close"] },
      command: [workload("syscalls_known")],
    });
    await run.finished;
    assert.deepEqual(
      new Set(events(run.table("syscall.csv")).map((row) => row.text("SYSCALL"))),
      new Set(["openat"]),
    );
  });

  test("an unknown name is refused and the nearest one named", async (t) => {
    const marker = join(scratch(t), "launched");
    const run = new Run(t, {
      config: { ...config, syscall_filter: ["opennat"] },
      command: ["touch", marker],
    });
    const { code, stderr } = await run.finished;
    assert.equal(code, 2, stderr);
    assert.match(stderr, /opennat/);
    assert.match(stderr, /openat/);
    assert.equal((await execute(t, ["test", "-e", marker])).code, 1, "nothing was launched");
  });
});

describe("syscall_mode summary", () => {
  const summary = { ...config, syscall_mode: "summary" };

  test("counts and errors equal strace -c", async (t) => {
    const folder = scratch(t);
    const counts = join(folder, "counts");
    await execute(t, ["strace", "-c", "-o", counts, workload("syscalls_known")]);
    const { stdout } = await execute(t, ["cat", counts]);
    const expected = new Map<string, string>();
    for (const match of stdout.matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?([a-z_]\w*)$/gm))
      if (match[3] !== "total" && match[3] !== undefined)
        expected.set(match[3], `${match[1] ?? ""} ${match[2] ?? "0"}`);
    assert.ok(expected.size >= 9, stdout);
    const run = new Run(t, { config: summary, command: [workload("syscalls_known")] });
    await run.finished;
    const rows = run.table("syscall.csv").rows.filter((row) => row.text("SYSCALL") !== "");
    const seen = new Map<string, [number, number]>();
    for (const row of rows) {
      const [calls, errors] = seen.get(row.text("SYSCALL")) ?? [0, 0];
      seen.set(row.text("SYSCALL"), [calls + row.number("CALLS"), errors + row.number("ERRORS")]);
    }
    // strace -c leaves out numbers without a name and counts at return, so exit_group, which has none, is not
    // in its table.
    for (const name of [
      "exit_group",
      ...[...seen.keys()].filter((key) => !/^[a-z]/.test(key) || key.includes("999")),
    ])
      seen.delete(name);
    assert.deepEqual(
      Object.fromEntries([...seen].sort().map(([name, [calls, errors]]) => [name, `${calls} ${errors}`])),
      Object.fromEntries([...expected].sort()),
    );
  });

  test("counts per process equal strace's lines, whole tree", async (t) => {
    const folder = scratch(t);
    const prefix = join(folder, "strace");
    const run = new Run(t, {
      config: summary,
      directory: folder,
      command: ["strace", ...straceOptions(prefix), workload("syscalls_threads")],
    });
    await run.quietly();
    const table = run.table("syscall.csv");
    const theirs = readStrace(prefix);
    const program = Math.min(...theirs.keys());
    const inProcess = (name: string): { calls: number; errors: number } => {
      // All threads but the child process, which is the one whose first call is fork's second return: it
      // alone has rows of its own.
      const all = [...theirs]
        .filter(([thread]) => table.of(thread).length === 0 || thread === program)
        .flatMap(([, calls]) => calls)
        .filter((call) => call.name === name);
      return {
        calls: all.length,
        errors: all.filter((call) => call.result !== undefined && call.result < 0n && call.result >= -4095n)
          .length,
      };
    };
    const rows = table.of(program);
    // Calls strace's child made before its execve were strace's own: these four it never makes.
    for (const name of ["getpriority", "madvise", "pipe2", "clock_nanosleep"]) {
      const own = rows.filter((row) => row.text("SYSCALL") === name);
      assert.deepEqual(
        { calls: table.sum("CALLS", own), errors: table.sum("ERRORS", own) },
        inProcess(name),
        name,
      );
    }
    const getpriority = rows.filter((row) => row.text("SYSCALL") === "getpriority");
    assert.equal(table.sum("CALLS", getpriority), 800);
    for (const row of table.rows.filter(
      (one) => one.text("SYSCALL") !== "" && one.number("CALLS") > 0 && one.text("SYSCALL") !== "exit_group",
    )) {
      if (row.isEmpty("TOTAL") || row.number("TOTAL") === 0) continue;
      const [total, mean, half, most, max] = [
        row.number("TOTAL"),
        row.number("MEAN"),
        row.number("P50"),
        row.number("P99"),
        row.number("MAX"),
      ];
      assert.ok(half <= most && mean <= max && max <= total, `in order: ${row.toString()}`);
    }
  });

  for (const [processes, threads, calls] of [
    [1, 4, 100_000],
    [4, 64, 500],
    [400, 2, 50],
  ] as const)
    test(`${processes} processes with ${threads} threads and ${calls} calls each: none missing, ticks or not`, async (t) => {
      const run = new Run(t, {
        config: { ...summary, interval: 0.05 },
        deadline: 120,
        command: [workload("syscalls_many"), ...[processes, threads, calls].map(String)],
      });
      await run.quietly();
      const table = run.table("syscall.csv");
      const sums = (name: string, column: string): number[] => {
        const rows = table.rows.filter((row) => row.text("SYSCALL") === name);
        return [...new Set(rows.map((row) => row.pid))]
          .map((pid) => table.sum(column, rows.filter((row) => row.pid === pid)))
          .filter((sum) => sum >= calls);
      };
      const expected = new Array<number>(processes).fill(threads * calls);
      assert.deepEqual(sums("getppid", "CALLS"), expected);
      assert.deepEqual(sums("close", "ERRORS"), expected);
      assert.equal(run.record().modules.syscall?.events_lost, 0);
    });
});

test("a 32-bit call is not given the name a 64-bit call of that number has", async (t) => {
  if (process.arch !== "x64") return;
  const folder = scratch(t);
  const source = join(folder, "compat.c");
  // int 0x80 with 20 is getpid by the 32-bit table; 20 by the 64-bit table is writev.
  writeFileSync(
    source,
    'int main(void) { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L), "b"(0L) : "memory", "r8", "r9", "r10", "r11"); return r <= 0; }\n',
  );
  assert.equal((await execute(t, ["cc", "-o", join(folder, "compat"), source])).code, 0);
  const alone = await execute(t, [join(folder, "compat")]);
  if (alone.signal === "SIGSEGV") {
    t.diagnostic("this kernel takes no 32-bit calls (CONFIG_IA32_EMULATION)");
    return;
  }
  assert.equal(alone.code, 0);
  const run = new Run(t, { config, directory: folder, command: [join(folder, "compat")] });
  await run.quietly();
  const rows = events(run.table("syscall.csv")).filter(
    (row) => row.number("SYSCALL_ID") === 20 && row.text("ACTION") === "1",
  );
  assert.equal(rows.length, 1);
  assert.notEqual(rows[0]?.text("SYSCALL"), "writev");
});
