// Which processes are the tree. Owns: every way a process can come to be, change itself and go, in launch,
// attach and host mode, and that the target is run as the user's shell would have run it. Does not own: the
// numbers in the rows.
//
// The witness is the workload: each one prints the pids (and thread ids) it made.
import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Table } from "./support/csv.js";
import { close, growth, readSamples, readWitness, within } from "./support/cpu_witness.js";
import { root, scratch, workload } from "./support/paths.js";
import { bpfObjects } from "./support/kernel.js";
import { asNobody, Command, execute, program, refused, Run } from "./support/run.js";
import { delay, until } from "./support/wait.js";

const config = { snoop_cpu: "bpf", cpu_output_file: "cpu.csv", interval: 0.1 };
const both = {
  ...config,
  snoop_syscall: "bpf",
  syscall_output_file: "syscall.csv",
  syscall_filter: ["getpriority", "getppid"],
};

/** The pids a workload printed after a word, in order. */
function said(stdout: string, word: string, field = 1): number[] {
  return stdout
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([first]) => first === word)
    .map((fields) => Number(fields[field]));
}

function onlyThese(table: Table, pids: readonly number[]): void {
  assert.deepEqual(
    [...table.pids()].sort((a, b) => a - b),
    [...pids].sort((a, b) => a - b),
  );
}

function oneEndEach(table: Table): void {
  for (const pid of table.pids()) {
    const rows = table.of(pid);
    assert.equal(rows.filter((row) => row.isEnd).length, 1, `one END row of ${pid}`);
    assert.equal(rows.at(-1)?.isEnd, true, `END is the last row of ${pid}`);
  }
}

describe("launch", () => {
  test("threads are not processes", async (t) => {
    const run = new Run(t, { config: both, command: [workload("tree_threads"), "5"] });
    const { stdout } = await run.quietly();
    const [pid = 0] = said(stdout, "process");
    const table = run.table("cpu.csv");
    onlyThese(table, [pid]);
    oneEndEach(table);
    assert.ok(
      table.of(pid).some((row) => !row.isEnd && row.number("THREADS") === 6),
      "six threads while they were there",
    );
    const calls = run.table("syscall.csv");
    for (const line of stdout.split("\n").filter((one) => one.startsWith("thread "))) {
      const [, tid, number] = line.split(" ").map(Number);
      const rows = calls.rows.filter(
        (row) => !row.isEnd && row.text("PARM1") === (1000 + (number ?? NaN)).toString(),
      );
      assert.deepEqual(
        rows.map((row) => [row.pid, row.number("TID")]),
        [[pid, tid]],
        line,
      );
    }
  });

  test("exec from a thread that is not the leader", async (t) => {
    const folder = scratch(t);
    const run = new Run(t, {
      config: both,
      directory: folder,
      command: [
        workload("witness"),
        join(folder, "rusage"),
        workload("tree_exec_thread"),
        "/bin/sh",
        "-c",
        `echo shell $$; exec ${workload("spin")} 2 200`,
      ],
    });
    const { stdout } = await run.quietly();
    const [pid = 0] = said(stdout, "process");
    assert.deepEqual(said(stdout, "shell"), [pid], "the process keeps its pid");
    assert.notDeepEqual(said(stdout, "execs"), [pid]);
    const [rusage] = readWitness(join(folder, "rusage"));
    assert.equal(rusage?.pid, pid);
    const table = run.table("cpu.csv");
    assert.equal(table.pids().size, 2, "the witness and this one");
    oneEndEach(table);
    close("Σ ON CPU over both images", table.sum("ON CPU", table.of(pid)), rusage.cpu, 0.01, 2);
    assert.equal(table.of(pid).at(-1)?.text("COMM"), "spin");
    for (const row of run
      .table("syscall.csv")
      .of(pid)
      .filter((one) => !one.isEnd && one.text("COMM") === "sh"))
      assert.equal(
        row.number("TID"),
        pid,
        `after the exec the thread has the leader's id: ${row.toString()}`,
      );
    assert.ok(
      run
        .table("syscall.csv")
        .of(pid)
        .some((row) => !row.isEnd && row.text("COMM") === "sh"),
      "the new image is followed",
    );
  });

  test("a leader that ends before its threads: the process lives on, and ends once", async (t) => {
    const folder = scratch(t);
    const run = new Run(t, {
      config: both,
      directory: folder,
      input: "open",
      command: [workload("witness"), join(folder, "rusage"), workload("tree_leaderless"), "250"],
    });
    await run.says(/process \d+\n[^]*thread \d+\n[^]*thread \d+\n/);
    const seen = (await run.ticked("cpu.csv", 3)).ticks().length;
    run.write("\n");
    const { stdout } = await run.quietly();
    const [pid = 0] = said(stdout, "process");
    const [rusage] = readWitness(join(folder, "rusage"));
    assert.equal(rusage?.pid, pid);
    const table = run.table("cpu.csv");
    assert.equal(table.pids().size, 2, "the witness and this one");
    oneEndEach(table);
    assert.ok(table.of(pid).length > seen, "rows go on after the leader's end");
    close("Σ ON CPU", table.sum("ON CPU", table.of(pid)), rusage.cpu, 0.01, 2);
    const callers = run
      .table("syscall.csv")
      .rows.filter((row) => !row.isEnd && row.text("PARM1") === "1000" && row.text("ACTION") === "0")
      .map((row) => [row.pid, row.number("TID")]);
    assert.deepEqual(
      callers.sort(),
      said(stdout, "thread")
        .map((tid) => [pid, tid])
        .sort(),
    );
  });

  test("a process with threads killed from outside: one END row, nothing lost", async (t) => {
    const folder = scratch(t);
    const run = new Run(t, {
      config,
      directory: folder,
      input: "open",
      command: [workload("witness"), join(folder, "rusage"), workload("spin"), "4", "9000", "wait"],
    });
    const pid = Number((await run.says(/process (\d+)\n/))[1]);
    run.write("\n");
    await run.ticked("cpu.csv", 3);
    process.kill(pid, "SIGKILL");
    await run.quietly(137);
    const table = run.table("cpu.csv");
    oneEndEach(table);
    const [rusage] = readWitness(join(folder, "rusage"));
    assert.equal(rusage?.pid, pid);
    close("Σ ON CPU", table.sum("ON CPU", table.of(pid)), rusage.cpu, 0.01, 2);
  });

  test("a pid given out twice within a tick is two processes", async (t) => {
    // In a pid namespace of our own nobody else takes pids, and ns_last_pid says which one comes next.
    const run = new Run(t, {
      config: { ...config, interval: 5 },
      through: ["unshare", "--pid", "--fork", "--mount-proc", ...program],
      command: [
        "sh",
        "-c",
        "for i in 1 2 3; do echo 999 >/proc/sys/kernel/ns_last_pid; sh -c 'echo again $$'; done; true",
      ],
    });
    const { stdout } = await run.quietly();
    assert.deepEqual(said(stdout, "again"), [1000, 1000, 1000]);
    assert.equal(run.table("cpu.csv").ends(1000).length, 3);
  });

  test("double fork: orphans and their children", async (t) => {
    const run = new Run(t, { config, command: [workload("tree_orphans"), "follow"] });
    const { stdout } = await run.quietly();
    const roles = ["target", "middle", "orphan", "great-grandchild"];
    const table = run.table("cpu.csv");
    onlyThese(
      table,
      roles.flatMap((role) => said(stdout, role)),
    );
    oneEndEach(table);
    for (const role of ["orphan", "great-grandchild"]) {
      const [pid = 0] = said(stdout, role);
      const [used = 0] = said(stdout, role, 2);
      close(`ON CPU of the ${role}`, table.sum("ON CPU", table.of(pid)), used / 1000, 0.01, 2);
    }
  });

  test("an orphan that outlives the target: the run ends with the target and the orphan is left alone", async (t) => {
    const run = new Run(t, { config, command: [workload("tree_orphans"), "outlive", "6000"] });
    const { stdout } = await run.quietly();
    const [orphan = 0] = said(stdout, "orphan");
    assert.ok(existsSync(`/proc/${orphan}`), "it still runs");
    assert.doesNotMatch(readFileSync(`/proc/${orphan}/status`, "utf8"), /^State:\s+[ZTt]/m);
    const table = run.table("cpu.csv");
    assert.ok(table.of(orphan).length > 0, "what it did so far has a row");
    for (const role of ["target", "middle"]) assert.equal(table.ends(said(stdout, role)[0] ?? 0).length, 1);
    process.kill(orphan, "SIGKILL");
  });

  test("ten generations", async (t) => {
    const run = new Run(t, { config, command: [workload("tree_chain"), "10"] });
    const { stdout } = await run.quietly();
    const pids = said(stdout, "generation", 2);
    assert.equal(pids.length, 11);
    onlyThese(run.table("cpu.csv"), pids);
    oneEndEach(run.table("cpu.csv"));
  });

  test("vfork, posix_spawn, clone", async (t) => {
    const run = new Run(t, { config, command: [workload("tree_spawns")] });
    const { stdout } = await run.quietly();
    const table = run.table("cpu.csv");
    onlyThese(
      table,
      ["target", "vfork-exit", "vfork-exec", "spawn", "clone"].flatMap((word) => said(stdout, word)),
    );
    oneEndEach(table);
    assert.equal(table.ends(said(stdout, "vfork-exec")[0] ?? 0)[0]?.text("COMM"), "true");
  });

  test("a process that lives for less than a millisecond has its row in every table that has one per process", async (t) => {
    const run = new Run(t, { config: { ...config, interval: 5 }, command: [workload("forkstorm"), "20"] });
    const { stdout } = await run.quietly();
    const pids = stdout
      .trim()
      .split("\n")
      .map((line) => Number(line.split(" ")[0]));
    const table = run.table("cpu.csv");
    assert.equal(table.pids().size, 21);
    for (const pid of pids) assert.equal(table.ends(pid).length, 1);
  });

  test("a process that renames itself is shown under its new name", async (t) => {
    const run = new Run(t, { config, command: [workload("tree_rename"), "another name"] });
    const { stdout } = await run.quietly();
    const rows = run.table("cpu.csv").of(said(stdout, "process")[0] ?? 0);
    assert.equal(rows.at(-1)?.text("COMM"), "another name");
  });

  test("trace_multiprocess false: the target alone, in both spellings", async (t) => {
    for (const value of [false, "false"]) {
      const run = new Run(t, {
        config: { ...both, trace_multiprocess: value },
        command: [workload("tree_chain"), "3"],
      });
      const { stdout } = await run.quietly();
      const [target = 0] = said(stdout, "generation", 2);
      onlyThese(run.table("cpu.csv"), [target]);
      for (const pid of run.table("syscall.csv").pids()) assert.equal(pid, target);
    }
  });

  test("trace_multiprocess false follows the target's threads", async (t) => {
    const run = new Run(t, {
      config: { ...both, trace_multiprocess: false },
      command: [workload("tree_threads"), "3"],
    });
    const { stdout } = await run.quietly();
    const seen = run
      .table("syscall.csv")
      .rows.filter((row) => !row.isEnd && row.text("SYSCALL") === "getpriority" && row.text("ACTION") === "0")
      .map((row) => row.number("TID"));
    assert.deepEqual(seen.sort(), said(stdout, "thread").sort());
  });

  test("--duration ends the watching; the target goes on, and its exit code is still the run's", async (t) => {
    const run = new Run(t, {
      config,
      input: "open",
      options: ["-d", "0.5"],
      command: ["sh", "-c", "echo ready; read line; echo later; exit 4"],
    });
    await until("the watching to end", () => {
      const path = run.path("cpu.csv");
      return existsSync(path) && run.stdout !== "" && !bpfObjects(run.pid).includes("link");
    });
    const rows = run.table("cpu.csv").rows.length;
    run.write("\n");
    const { code, stdout, stderr } = await run.finished;
    assert.deepEqual({ code, stdout, stderr }, { code: 4, stdout: "ready\nlater\n", stderr: "" });
    assert.equal(run.table("cpu.csv").rows.length, rows, "nothing is written after it");
    assert.equal(run.record().exit_code, 4);
  });

  test("pids are those of the monitor's pid namespace", async (t) => {
    const run = new Run(t, {
      config,
      through: ["unshare", "--pid", "--fork", "--mount-proc", ...program],
      command: ["sh", "-c", "echo outer $$; sh -c 'echo inner $$; sleep 0.3'; true"],
    });
    const { stdout } = await run.quietly();
    const table = run.table("cpu.csv");
    const [outer = 0, inner = 0] = [...said(stdout, "outer"), ...said(stdout, "inner")];
    assert.ok(outer > 0 && outer < 200, "pids of a young namespace");
    assert.ok(
      table.of(outer).length > 0 && table.of(inner).length > 0,
      `rows of ${outer} and ${inner}, not only ${[...table.pids()].join(" ")}`,
    );
  });
  test("a target in a pid namespace of its own has the outer pids", async (t) => {
    const run = new Run(t, {
      config,
      command: ["unshare", "--pid", "--fork", "sh", "-c", "readlink /proc/self; sleep 0.3; true"],
    });
    const { stdout } = await run.quietly();
    const pid = Number(stdout.trim()); // /proc is the outer one: readlink's own pid as seen from there
    oneEndEach(run.table("cpu.csv"));
    assert.ok(run.table("cpu.csv").of(pid).length > 0);
  });
});

describe("attach", () => {
  test("-p: the process, its children, their threads, and what comes later; until it exits", async (t) => {
    const folder = scratch(t);
    const standing = new Command(t, [workload("tree_standing"), "3", "2"], { input: "open" });
    await standing.says(/ready\n/);
    const [pid = 0] = said(standing.stdout, "process");
    const children = said(standing.stdout, "child");
    const neighbour = new Command(t, [workload("tree_standing"), "1", "1"], { input: "open" });
    await neighbour.says(/ready\n/);
    const run = new Run(t, { config: both, directory: folder, options: ["-p", pid.toString()] });
    await run.ticked("cpu.csv", 2);
    const sampler = new Command(t, [
      workload("cpusample"),
      String(children[0]),
      "3000",
      join(folder, "samples"),
    ]);
    await run.ticked("cpu.csv", 7);
    standing.write("one\ntwo\n");
    await standing.says(/late \d+\n[^]*late \d+\n/);
    await run.ticked("cpu.csv", 10);
    standing.endInput();
    const { stdout } = await standing.finished;
    await run.finished;
    await sampler.finished;
    assert.equal(run.stderr, "");
    const late = said(stdout, "late");
    assert.equal(late.length, 2);
    const table = run.table("cpu.csv");
    onlyThese(table, [pid, ...children, ...late]);
    oneEndEach(table);
    for (const child of children)
      assert.equal(table.of(child)[0]?.text("THREADS"), "3", "its main thread and two more");
    // Every thread that stood before has its calls seen, under the right process.
    const seen = new Set(
      run
        .table("syscall.csv")
        .rows.filter((row) => !row.isEnd && row.text("SYSCALL") === "getpriority")
        .map((row) => `${row.text("PID")} ${row.text("TID")}`),
    );
    for (const [, ...ids] of stdout
      .split("\n")
      .map((line) => line.split(" "))
      .filter(([word]) => word === "thread"))
      assert.ok(seen.has(ids.join(" ")), `thread ${ids.join(" ")}`);
    // The children's CPU time, tick by tick.
    const samples = readSamples(join(folder, "samples"));
    const ticks = table.ticks();
    let compared = 0;
    for (const row of table.of(children[0] ?? 0).filter((one) => !one.isEnd)) {
      const from = ticks[ticks.indexOf(row.ticks) - 1];
      const bounds =
        from === undefined ? undefined : growth(samples, (sample) => sample.clock, from, row.ticks);
      if (bounds === undefined) continue;
      within(row.toString(), row.number("ON CPU"), bounds, 0.01, 1);
      compared++;
    }
    assert.ok(compared >= 2);
    neighbour.endInput();
    await neighbour.finished;
  });

  test("-p of a process whose leader has ended", async (t) => {
    const folder = scratch(t);
    const lonely = new Command(t, [workload("tree_leaderless"), "600"], { input: "open" });
    await lonely.says(/process \d+\n[^]*thread \d+\n[^]*thread \d+\n/);
    const [pid = 0] = said(lonely.stdout, "process");
    await until("the leader to be a zombie", () =>
      /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8")),
    );
    const run = new Run(t, { config: both, directory: folder, options: ["-p", pid.toString()] });
    await run.ticked("cpu.csv", 2);
    lonely.write("\n");
    await lonely.finished;
    assert.equal((await run.finished).stderr, "");
    const table = run.table("cpu.csv");
    onlyThese(table, [pid]);
    oneEndEach(table);
    const used = table.sum("ON CPU", table.of(pid));
    assert.ok(used > 1190 && used < 1230, `two threads of 600 ms: ${used}`);
    const callers = new Set(
      run
        .table("syscall.csv")
        .rows.filter((row) => !row.isEnd && row.text("PARM1") === "1000")
        .map((row) => row.number("TID")),
    );
    assert.deepEqual(callers, new Set(said(lonely.stdout, "thread")));
  });

  test("-p: ends with the process also where a tick has just written its END", async (t) => {
    const standing = new Command(t, [workload("tree_standing"), "1", "1"], { input: "open" });
    await standing.says(/ready\n/);
    const [pid = 0] = said(standing.stdout, "process");
    // Ticks that are nearly always under way, and more of them than processors.
    const runs = Array.from(
      { length: 6 },
      () => new Run(t, { config: { ...config, interval: 0.001 }, options: ["-p", pid.toString()] }),
    );
    for (const run of runs) await run.ticked("cpu.csv", 2);
    standing.endInput();
    await standing.finished;
    for (const run of runs) {
      await run.quietly();
      oneEndEach(run.table("cpu.csv"));
    }
  });

  test("-p with trace_multiprocess false: that process only", async (t) => {
    const standing = new Command(t, [workload("tree_standing"), "2", "1"], { input: "open" });
    await standing.says(/ready\n/);
    const [pid = 0] = said(standing.stdout, "process");
    const run = new Run(t, {
      config: { ...config, trace_multiprocess: false },
      options: ["-p", pid.toString()],
    });
    await run.ticked("cpu.csv", 3);
    standing.write("one\n");
    await standing.says(/late \d+\n/);
    await run.ticked("cpu.csv", 5);
    standing.endInput();
    await run.finished;
    onlyThese(run.table("cpu.csv"), [pid]);
  });

  test("-p of a thread id, of nobody, of nonsense", async (t) => {
    const nobody = Number(readFileSync("/proc/sys/kernel/pid_max", "utf8")) - 1;
    const run = new Run(t, { config, options: ["-p", nobody.toString()] });
    const outcome = await run.finished;
    refused(outcome, outcome.code === 2 ? 2 : 3, nobody.toString());
    for (const value of ["", "abc", "-5", "0", "1.5", "99999999999"])
      refused(await new Run(t, { config, options: ["-p", value] }).finished, 2);
  });

  test("interrupting an attached run leaves the process alive", async (t) => {
    const standing = new Command(t, [workload("tree_standing"), "1", "1"], { input: "open" });
    await standing.says(/ready\n/);
    const [pid = 0] = said(standing.stdout, "process");
    const run = new Run(t, { config, options: ["-p", pid.toString(), "-d", "60"] });
    await run.ticked("cpu.csv", 2);
    run.child.kill("SIGINT");
    await run.finished;
    await delay(100);
    assert.equal(standing.child.exitCode, null, "the process we were only looking at lives on");
    assert.equal(standing.child.signalCode, null, "the process we were only looking at lives on");
    assert.equal(run.record().state === "running", false);
    standing.endInput();
    await standing.finished;
  });

  test("--duration ends an attached run and leaves the process alive", async (t) => {
    const standing = new Command(t, [workload("tree_standing"), "1", "1"], { input: "open" });
    await standing.says(/ready\n/);
    const [pid = 0] = said(standing.stdout, "process");
    const run = new Run(t, { config, options: ["-p", pid.toString(), "-d", "0.5"] });
    await run.quietly();
    assert.equal(standing.child.exitCode, null);
    assert.ok(run.table("cpu.csv").ticks().length >= 1);
    standing.endInput();
    await standing.finished;
  });
});

describe("host", () => {
  test("--host with --duration: processes that nobody of ours started, their CPU time, and those that come and go meanwhile", async (t) => {
    const folder = scratch(t);
    const standing = new Command(t, [workload("tree_standing"), "1", "2"], { input: "open" });
    await standing.says(/ready\n/);
    const [child = 0] = said(standing.stdout, "child");
    const sampler = new Command(t, [
      workload("cpusample"),
      child.toString(),
      "3000",
      join(folder, "samples"),
    ]);
    const run = new Run(t, {
      config: { ...config, interval: 0.3 },
      directory: folder,
      options: ["--host", "-d", "2.5"],
    });
    await run.ticked("cpu.csv", 2);
    const passing = await execute(t, ["sh", "-c", "echo $$"]);
    await run.quietly();
    standing.endInput();
    await standing.finished;
    await sampler.finished;
    const table = run.table("cpu.csv");
    assert.equal(table.ends(Number(passing.stdout)).length, 1, "a passing process has its END row");
    assert.ok(table.of(process.pid).length > 0, "so has the test itself, which was there before");
    assert.equal(table.of(0).length, 0, "the idle task is no process");
    const samples = readSamples(join(folder, "samples"));
    const ticks = table.ticks();
    let compared = 0;
    for (const row of table.of(child).filter((one) => !one.isEnd)) {
      const from = ticks[ticks.indexOf(row.ticks) - 1];
      const bounds =
        from === undefined ? undefined : growth(samples, (sample) => sample.clock, from, row.ticks);
      if (bounds === undefined) continue;
      within(row.toString(), row.number("ON CPU"), bounds, 0.01, 1);
      compared++;
    }
    assert.ok(compared >= 3);
  });

  test("two host runs that feed each other with events still tick, end at a signal, end by --duration", async (t) => {
    // Every row one of them writes is a system call the other one writes a row about: a flood without end.
    const events = { ...config, snoop_syscall: "bpf", syscall_output_file: "syscall.csv" };
    const first = new Run(t, { config: events, options: ["--host"], deadline: 30 });
    const second = new Run(t, { config: events, options: ["--host", "-d", "2"], deadline: 30 });
    await first.ticked("cpu.csv", 3);
    assert.equal((await second.finished).code, 0);
    assert.ok(second.table("cpu.csv").ticks().length >= 2);
    first.child.kill("SIGINT");
    assert.equal((await first.finished).code, 0);
    for (const run of [first, second]) {
      const { state, modules } = run.record();
      assert.notEqual(state, "running");
      assert.ok(modules.syscall?.events_seen !== undefined && modules.syscall.events_lost !== undefined);
      const rows = run.table("syscall.csv").rows.filter((row) => !row.isEnd);
      assert.equal(rows.length, modules.syscall.events_seen - modules.syscall.events_lost);
    }
  });

  test("--host ends at Ctrl-C with its files whole", async (t) => {
    const run = new Run(t, { config, options: ["--host"] });
    await run.ticked("cpu.csv", 3);
    run.child.kill("SIGINT");
    const { stderr } = await run.finished;
    assert.equal(stderr, "");
    assert.ok(run.table("cpu.csv").ticks().length >= 3);
    assert.notEqual(run.record().state, "running");
  });
});

describe("the target is what the user's shell would have run", () => {
  // What a program can see of how it was started: arguments, environment, folder, identity, signals, open
  // files, limits, umask.
  const portrait = [
    "sh",
    "-c",
    `printf '%s\\n' "$@"; tr '\\0' '\\n' </proc/self/environ | sort; pwd; id; grep -E '^(Sig(Blk|Ign|Cgt)|Seccomp|NoNewPrivs|Cap|Uid|Gid|Groups|Umask)' /proc/self/status; ls /proc/self/fd | sort -n; cat /proc/self/limits; nice`,
    "portrait",
    "",
    "a b",
    "new\nline",
    "naïve €",
    "--help",
    "-p",
    "--",
  ];

  test("arguments, environment, folder, identity, signals, open files, limits", async (t) => {
    const folder = scratch(t);
    mkdirSync(join(folder, "cwd"));
    const environment = {
      PATH: process.env.PATH ?? "",
      EMPTY: "",
      LINES: "a\nb",
      "odd-name.x": "1",
      HOME: "/nonexistent",
    };
    // Started with settings of its own, so that what treesnoop's runtime changes for itself (limits, ignored
    // signals) shows. Through run.sh: some of them are gone as soon as node has started.
    const wrapper = [
      "sh",
      "-c",
      'umask 027; exec "$@"',
      "sh",
      "env",
      "--ignore-signal=HUP",
      "prlimit",
      "--nofile=500:4096",
      "nice",
      "-n",
      "3",
    ];
    const bare = await execute(t, [...wrapper, ...portrait], { environment, directory: folder });
    const run = new Run(t, {
      config,
      directory: folder,
      environment,
      through: [...wrapper, join(root, "run.sh")],
      command: portrait,
    });
    const { stdout } = await run.quietly();
    assert.equal(stdout, bare.stdout);
  });

  test("without privileges, through sudo: it runs as who typed the command", async (t) => {
    const folder = scratch(t);
    await execute(t, ["chown", "nobody:", folder]);
    // nobody may use sudo in a mount namespace of this test's own only.
    const wrapper = [
      ...asNobody(`
        mount -t tmpfs -o mode=755 none /etc/sudoers.d
        (umask 337; echo 'nobody ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/nobody)`),
      "prlimit",
      "--nofile=500:4096",
    ];
    const environment = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", SECRET: "a b\nc" };
    const bare = await execute(t, [...wrapper, ...portrait], { environment, directory: folder });
    assert.equal(bare.stderr, "");
    const run = new Run(t, {
      config,
      directory: folder,
      environment,
      through: [...wrapper, join(root, "run.sh")],
      command: portrait,
    });
    const { stdout } = await run.quietly();
    // sudo itself closes what the caller has open beyond stderr, and allows no core files.
    const spared = (text: string): string => text.replaceAll(/^(\d+|Max core file size.*)\n/gm, "");
    assert.equal(spared(stdout), spared(bare.stdout));
    for (const name of ["cpu.csv", "run.json"])
      assert.equal(lstatSync(run.path(name)).uid, 65534, `${name} is that user's`);
  });

  test("what follows the command is the command's, without -- too", async (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    const words = ["-p", "1", "--host", "--", "-c", "x", "modules"];
    const command = ["sh", "-c", 'printf "%s\\n" "$@"', "sh", ...words];
    const { code, stdout, stderr } = await execute(t, [...program, "-c", "config.json", ...command], {
      directory: folder,
    });
    assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: `${words.join("\n")}\n`, stderr: "" });
  });

  test("stdin reaches it, stdout and stderr are its own", async (t) => {
    const run = new Run(t, {
      config,
      input: "one\ntwo\n",
      command: ["sh", "-c", "cat; echo err >&2; exit 3"],
    });
    const outcome = await run.finished;
    assert.deepEqual(
      { code: outcome.code, stdout: outcome.stdout, stderr: outcome.stderr },
      { code: 3, stdout: "one\ntwo\n", stderr: "err\n" },
    );
  });

  test("-u runs it as somebody else, with that one's groups", async (t) => {
    const bare = await execute(t, ["runuser", "-u", "nobody", "--", "id"]);
    const run = new Run(t, { config, options: ["-u", "nobody"], command: ["id"] });
    assert.equal((await run.quietly()).stdout, bare.stdout);
    refused(
      await new Run(t, { config, options: ["-u", "no-such-user"], command: ["id"] }).finished,
      2,
      "no-such-user",
    );
  });

  test("on a terminal it has that terminal, and Ctrl-C reaches it exactly once", async (t) => {
    // python3's pty module gives the run a terminal of its own and types into it.
    const folder = scratch(t);
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    const driver = join(folder, "driver.py");
    writeFileSync(
      driver,
      `
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
typed = 0
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    seen += data
    if typed == 0 and b"ready" in seen:
        time.sleep(0.3)
        os.write(terminal, b"\\x03")
        typed = 1
    if typed == 1 and b"got 02" in seen:
        time.sleep(0.5)
        first = seen.count(b"got 02")
        os.write(terminal, b"\\x03")
        typed = 2
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen)
print("first", first, "code", os.waitstatus_to_exitcode(status))
`,
    );
    const outcome = await execute(
      t,
      [
        "/usr/bin/python3",
        driver,
        ...program,
        "-c",
        join(folder, "config.json"),
        "-o",
        folder,
        "--",
        "sh",
        "-c",
        `tty; exec ${workload("signals")}`,
      ],
      { directory: folder },
    );
    assert.match(outcome.stdout, /\/dev\/pts\/\d+/, "tty names the terminal");
    assert.match(outcome.stdout, /ready \d+/);
    assert.match(outcome.stdout, /\d+ rows/, "the status line");
    assert.match(outcome.stdout, /cpu\.csv/, "the summary names the file");
    assert.match(outcome.stdout, /first 1 code 137\n$/, "the first Ctrl-C arrives once, the second kills");
  });
});
