// The cpu module against the kernel's own accounts. Owns: whether ON CPU, OFF CPU, CPU% and the switch counts
// are true, for each backend. Does not own: which processes have rows (tree.test.ts) or what the file looks
// like (files.test.ts).
//
// Witnesses: wait4()'s rusage for a whole life (workloads/witness.c), and the process's CPU clock and
// schedstat read from outside every few milliseconds for single ticks (workloads/cpusample.c).
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { describe, type TestContext } from "node:test";
import { test } from "./support/attempts.js";
import type { Row, Table } from "./support/csv.js";
import {
  close,
  growth,
  readSamples,
  readWitness,
  within,
  type Rusage,
  type Sample,
} from "./support/cpu_witness.js";
import { scratch, workload } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";

const bpf = { snoop_cpu: "bpf", cpu_output_file: "cpu.csv", interval: 0.3 };
const stat = { ...bpf, snoop_cpu: "stat" };
const top = { ...bpf, snoop_cpu: "top" };

/**
 * The kernel's timer interrupt: how far schedstat may lag behind a running thread, in ms. 100 Hz is the
 * slowest there is.
 */
const timerPeriod = 10;

interface Measured {
  readonly table: Table;
  readonly rows: readonly Row[];
  readonly samples: readonly Sample[];
  readonly rusage: Rusage;
}

/**
 * treesnoop → witness → a program that says `process PID` and starts at a line of input; sampled from outside
 * meanwhile.
 */
async function measure(t: TestContext, config: object, command: readonly string[]): Promise<Measured> {
  const folder = scratch(t);
  const run = new Run(t, {
    config,
    directory: folder,
    input: "open",
    command: [workload("witness"), join(folder, "rusage"), ...command],
  });
  const pid = Number((await run.says(/process (\d+)\n/))[1]);
  const sampler = new Command(t, [workload("cpusample"), pid.toString(), "3000", join(folder, "samples")]);
  run.write("\n");
  await run.quietly();
  await sampler.finished;
  const table = run.table("cpu.csv");
  const [rusage] = readWitness(join(folder, "rusage"));
  assert.ok(rusage?.pid === pid);
  return { table, rows: table.of(pid), samples: readSamples(join(folder, "samples")), rusage };
}

/**
 * Each row of a process with the instants it spans; the first is left out, since its start is not in the
 * file.
 */
function spans(table: Table, rows: readonly Row[]): { row: Row; from: number; to: number }[] {
  const ticks = table.ticks();
  return rows
    .filter((row) => !row.isEnd)
    .flatMap((row) => {
      const from = ticks[ticks.indexOf(row.ticks) - 1];
      return from === undefined || row === rows[0] ? [] : [{ row, from, to: row.ticks }];
    });
}

function threadsThroughout(samples: readonly Sample[], from: number, to: number, threads: number): boolean {
  const between = samples.filter((sample) => sample.after >= from - 0.02 && sample.before <= to + 0.02);
  return between.length > 0 && between.every((sample) => sample.threads === threads);
}

function checkBounds(rows: readonly Row[], threads: number): void {
  for (const row of rows) {
    const share = row.number("CPU%");
    assert.ok(
      share >= 0 && share <= threads * 100 + 0.5,
      `CPU% between 0 and ${(threads * 100).toString()}: ${row.toString()}`,
    );
    assert.ok(row.number("ON CPU") >= 0 && row.number("OFF CPU") >= 0, `never negative: ${row.toString()}`);
  }
}

/** What a running thread's account may lack at one instant: a scheduler tick (4 ms at 250 Hz) on each CPU. */
const stale = 4 * availableParallelism();

describe("cpu/bpf", () => {
  for (const [threads, milliseconds] of [
    [1, 1500],
    [4, 600],
    [16, 200],
  ] as const) {
    test(`${threads} spinning threads: life and every tick`, async (t) => {
      const { table, rows, samples, rusage } = await measure(t, bpf, [
        workload("spin"),
        threads.toString(),
        milliseconds.toString(),
        "wait",
      ]);
      close("Σ ON CPU against rusage", table.sum("ON CPU", rows), rusage.cpu, 0.01, 2);
      checkBounds(rows, threads);
      let compared = 0;
      const waited = { seen: 0, least: 0, most: 0 };
      for (const { row, from, to } of spans(table, rows)) {
        const on = row.number("ON CPU");
        const elapsed = (to - from) * 1000;
        const clock = growth(samples, (sample) => sample.clock, from, to);
        const run = growth(samples, (sample) => sample.run, from, to);
        if (clock === undefined || run === undefined) continue;
        within(`ON CPU against the CPU clock, ${row.toString()}`, on, clock, 0.01, stale);
        close(
          `CPU% is ON CPU over the elapsed time, ${row.toString()}`,
          row.number("CPU%"),
          (on / elapsed) * 100,
          0.005,
          0.1 * threads,
        );
        if (threadsThroughout(samples, from, to, threads)) {
          // Of the threads there are: not a sum that can be compared while some end.
          const lag = timerPeriod * Math.min(threads, 2);
          within(
            `ON CPU against schedstat, ${row.toString()}`,
            on,
            { least: run.least - lag, most: run.most + lag },
            0.01,
            1,
          );
          assert.equal(row.number("THREADS"), threads, row.toString());
          close(
            `ON + OFF is every thread's time, ${row.toString()}`,
            on + row.number("OFF CPU"),
            threads * elapsed,
            0.01,
            threads,
          );
          const wait = growth(samples, (sample) => sample.wait, from, to);
          if (wait !== undefined) {
            waited.seen += row.number("WAIT");
            waited.least += wait.least;
            waited.most += wait.most;
          }
        }
        compared++;
      }
      // The kernel accounts a wait when it ends, and with many threads one wait is as long as a tick: only
      // the sum is compared.
      within("Σ WAIT against schedstat", waited.seen, waited, 0.15, 20 * threads);
      assert.ok(compared >= 2, `at least two whole ticks to compare, not ${compared}`);
    });
  }

  test("a thread that never switches counts in every tick", async (t) => {
    // Real-time priority: nothing preempts it, so between two ticks it has no switch at all.
    const { table, rows, samples } = await measure(t, bpf, [
      "chrt",
      "-f",
      "50",
      workload("spin"),
      "1",
      "1200",
      "wait",
    ]);
    const whole = spans(table, rows).filter(({ from, to }) => {
      const run = growth(samples, (sample) => sample.clock, from, to);
      return run !== undefined && run.least > (to - from) * 1000 * 0.95;
    });
    assert.ok(whole.length >= 2, "ticks in which it held its processor all the time");
    for (const { row, from, to } of whole)
      close(row.toString(), row.number("ON CPU"), (to - from) * 1000, 0.05, 5);
  });

  test("a flood of events in the same run does not blur the ticks", async (t) => {
    // dd's calls keep the reader of the event ring busy; the spinner's ticks must still be what they say they
    // are.
    const flood = { ...bpf, interval: 0.2, snoop_syscall: "bpf", syscall_output_file: "syscall.csv" };
    const folder = scratch(t);
    const run = new Run(t, {
      config: flood,
      directory: folder,
      input: "open",
      command: [
        "sh",
        "-c",
        `dd if=/dev/zero of=/dev/null bs=1 count=100000 2>/dev/null & ${workload("spin")} 1 1500 wait`,
      ],
    });
    const pid = Number((await run.says(/process (\d+)\n/))[1]);
    const sampler = new Command(t, [workload("cpusample"), pid.toString(), "3000", join(folder, "samples")]);
    run.write("\n");
    await run.quietly();
    await sampler.finished;
    const table = run.table("cpu.csv");
    const samples = readSamples(join(folder, "samples"));
    checkBounds(table.rows, 1);
    let compared = 0;
    for (const { row, from, to } of spans(table, table.of(pid))) {
      const bounds = growth(samples, (sample) => sample.clock, from, to);
      if (bounds === undefined) continue;
      within(row.toString(), row.number("ON CPU"), bounds, 0.01, 1);
      compared++;
    }
    assert.ok(compared >= 2, `${compared} ticks to compare of ${table.of(pid).join("; ")}`);
  });

  test("a sleeper is off CPU, in one piece and in thousands", async (t) => {
    for (const sleeper of [
      ["sleeper", "1500"],
      ["sleeper", "1500", "100"],
    ]) {
      const folder = scratch(t);
      const [name = "", ...args] = sleeper;
      const run = new Run(t, {
        config: bpf,
        directory: folder,
        command: [workload("witness"), join(folder, "rusage"), workload(name), ...args],
      });
      await run.quietly();
      const table = run.table("cpu.csv");
      const [rusage] = readWitness(join(folder, "rusage"));
      assert.ok(rusage !== undefined);
      const rows = table.of(rusage.pid);
      close(`Σ ON CPU, ${sleeper.join(" ")}`, table.sum("ON CPU", rows), rusage.cpu, 0.01, 2);
      checkBounds(rows, 1);
      for (const { row, from, to } of spans(table, rows))
        close(row.toString(), row.number("ON CPU") + row.number("OFF CPU"), (to - from) * 1000, 0.01, 1);
      close(
        `ON + OFF is its whole life, ${sleeper.join(" ")}`,
        table.sum("ON CPU", rows) + table.sum("OFF CPU", rows),
        rusage.wall,
        0.01,
        10,
      );
      // The last switch, into death, may fall on either side of the parent's look at the rusage.
      close(`voluntary switches, ${sleeper.join(" ")}`, table.sum("VCSW", rows), rusage.voluntary, 0, 2);
      close(`involuntary switches, ${sleeper.join(" ")}`, table.sum("ICSW", rows), rusage.involuntary, 0, 2);
    }
  });

  test("a fork storm: 2001 processes, one END row each, and no CPU time lost", async (t) => {
    const storm = ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done"];
    const bare = new Run(t, { config: bpf, command: storm });
    await bare.quietly();
    const all = bare.table("cpu.csv");
    assert.equal(all.pids().size, 2001);
    assert.equal(all.rows.filter((row) => row.isEnd).length, 2001);
    for (const pid of all.pids()) assert.equal(all.ends(pid).length, 1, `one END row of ${pid}`);

    // The sum, against the rusage of the shell and everything it waited for. The witness itself is the one
    // process more.
    const folder = scratch(t);
    const run = new Run(t, {
      config: bpf,
      directory: folder,
      command: [workload("witness"), join(folder, "rusage"), ...storm],
    });
    await run.quietly();
    const table = run.table("cpu.csv");
    const [rusage] = readWitness(join(folder, "rusage"));
    assert.ok(rusage !== undefined);
    assert.equal(table.pids().size, 2002);
    const shell = table.ends(rusage.pid)[0];
    assert.ok(shell !== undefined);
    const witness = table.rows[0]?.pid; // the first there was; pids may have begun anew since
    assert.notEqual(witness, rusage.pid);
    close(
      "Σ ON CPU of the storm",
      table.sum(
        "ON CPU",
        table.rows.filter((row) => row.pid !== witness),
      ),
      rusage.cpu,
      0.02,
      2,
    );
  });

  test("processes of some tens of microseconds: each one's CPU time", async (t) => {
    for (const mode of ["fork", "vfork"]) {
      const run = new Run(t, { config: bpf, command: [workload("forkstorm"), "300", mode] });
      const { stdout } = await run.quietly();
      const table = run.table("cpu.csv");
      let expected = 0;
      let seen = 0;
      const children = stdout
        .trim()
        .split("\n")
        .map((line) => line.split(" ").map(Number));
      assert.equal(children.length, 300);
      for (const [pid = 0, used = 0] of children) {
        const rows = table.of(pid);
        assert.equal(rows.filter((row) => row.isEnd).length, 1, `one END row of ${pid} (${mode})`);
        const one = table.sum("ON CPU", rows);
        close(`ON CPU of ${pid} (${mode})`, one, used / 1000, 0.01, 2);
        expected += used / 1000;
        seen += one;
      }
      // One process is within 2 ms trivially; all of them together show whether the start or the end of a
      // life is left out. What is left of an exit after its parent has been told counts for neither.
      close(`Σ over 300 (${mode})`, seen, expected, 0.15, 2);
    }
  });

  test("attaching to a running process leaves out what it did before", async (t) => {
    const folder = scratch(t);
    const spinner = new Command(t, [workload("spin"), "2", "2500", "wait"], { input: "open" });
    const pid = Number((await spinner.says(/process (\d+)\n/))[1]);
    const sampler = new Command(t, [workload("cpusample"), pid.toString(), "3000", join(folder, "samples")]);
    spinner.write("\n");
    const started = Date.now() / 1000;
    while (Date.now() / 1000 < started + 0.5) await execute(t, ["sleep", "0.1"]);
    const run = new Run(t, { config: bpf, directory: folder, options: ["-p", pid.toString()] });
    const table = await run.ticked("cpu.csv", 3);
    await spinner.finished;
    assert.equal((await run.finished).stderr, "");
    await sampler.finished;
    const samples = readSamples(join(folder, "samples"));
    const rows = run.table("cpu.csv").of(pid);
    checkBounds(rows, 2);
    assert.equal(table.of(pid)[0]?.isEnd, false);
    let compared = 0;
    for (const { row, from, to } of spans(run.table("cpu.csv"), rows)) {
      const bounds = growth(samples, (sample) => sample.clock, from, to);
      if (bounds === undefined) continue;
      within(row.toString(), row.number("ON CPU"), bounds, 0.01, 1);
      compared++;
    }
    assert.ok(compared >= 2);
    const total = samples.at(-1)?.clock ?? 0;
    const attached = growth(samples, (sample) => sample.clock, started + 0.5, samples.at(-1)?.before ?? 0);
    assert.ok(attached !== undefined);
    assert.ok(
      run.table("cpu.csv").sum("ON CPU", rows) <= attached.most + 25,
      `less than the ${total.toFixed(0)} ms of its whole life`,
    );
  });
});

describe("cpu/stat", () => {
  for (const [threads, milliseconds] of [
    [1, 1500],
    [4, 600],
    [16, 200],
  ] as const) {
    test(`${threads} spinning threads`, async (t) => {
      const { table, rows, samples, rusage } = await measure(t, stat, [
        workload("spin"),
        threads.toString(),
        milliseconds.toString(),
        "wait",
      ]);
      checkBounds(rows, threads);
      assert.equal(rows.filter((row) => row.isEnd).length, 1);
      // User and system time are rounded down to 10 ms each.
      close("Σ ON CPU against rusage", table.sum("ON CPU", rows), rusage.cpu, 0.01, 20);
      // While all CPUs are taken the monitor may read some 20 ms after the row's time, and each of them runs on.
      const late = threads > availableParallelism() ? 20 * availableParallelism() : 0;
      let compared = 0;
      for (const { row, from, to } of spans(table, rows)) {
        const bounds = growth(samples, (sample) => sample.stat, from, to);
        if (bounds === undefined) continue;
        within(`ON CPU against /proc/PID/stat, ${row.toString()}`, row.number("ON CPU"), bounds, 0.01, 20 + late);
        compared++;
      }
      assert.ok(compared >= 2, "at least two whole ticks to compare");
    });
  }

  test("one busy thread and short ticks: rounding never exceeds 100 %", async (t) => {
    // 35 ms are three and a half clock ticks: without a carried remainder every other row would say 40 ms of
    // 35.
    const { rows } = await measure(t, { ...stat, interval: 0.035 }, [workload("spin"), "1", "1200", "wait"]);
    assert.ok(rows.length > 10);
    checkBounds(rows, 1);
  });
});

for (const config of [bpf, stat])
  test(`cpu/${config.snoop_cpu}: a parent is not charged for the children it waited for`, async (t) => {
    const run = new Run(t, {
      config,
      command: ["sh", "-c", `echo $$; ${workload("spin")} 1 500; ${workload("spin")} 1 500; sleep 0.7`],
    });
    const { stdout } = await run.quietly();
    const table = run.table("cpu.csv");
    const shell = Number(stdout.trim());
    assert.ok(table.of(shell).length > 1, "the shell has rows");
    const own = table.sum("ON CPU", table.of(shell));
    assert.ok(own < 100, `the shell itself only waited, yet has ${own} ms`);
    const children = table.sum(
      "ON CPU",
      table.rows.filter((row) => row.text("COMM") === "spin"),
    );
    assert.ok(children > 940, `the two children have ${children} ms`);
  });

describe("cpu/top", () => {
  test("one call of the system's top per tick for the whole tree; its numbers against the CPU clock", async (t) => {
    const folder = scratch(t);
    const shim = join(folder, "bin");
    const log = join(folder, "calls");
    mkdirSync(shim);
    const real = (await execute(t, ["sh", "-c", "command -v top"])).stdout.trim();
    assert.notEqual(real, "");
    writeFileSync(join(shim, "top"), `#!/bin/sh\necho call >>'${log}'\nexec ${real} "$@"\n`);
    chmodSync(join(shim, "top"), 0o755);
    const run = new Run(t, {
      config: { ...top, interval: 0.8 },
      directory: folder,
      input: "open",
      environment: { ...process.env, PATH: `${shim}:${process.env.PATH ?? ""}` },
      command: ["sh", "-c", `sleep 5 & ${workload("sleeper")} 5000 & ${workload("spin")} 1 3000 wait; wait`],
    });
    const pid = Number((await run.says(/process (\d+)\n/))[1]);
    const sampler = new Command(t, [workload("cpusample"), pid.toString(), "3000", join(folder, "samples")]);
    run.write("\n");
    await run.finished;
    await sampler.finished;
    assert.equal(run.stderr, "");
    const table = run.table("cpu.csv");
    const samples = readSamples(join(folder, "samples"));
    for (const row of table.rows) {
      assert.equal(row.number("ON CPU"), -1, row.toString());
      assert.equal(row.number("OFF CPU"), -1, row.toString());
      assert.ok(row.number("CPU%") >= 0, row.toString());
    }
    let compared = 0;
    for (const { row, from, to } of spans(table, table.of(pid))) {
      const bounds = growth(samples, (sample) => sample.clock, from, to);
      if (bounds === undefined) continue;
      // top measures over a span of its own, somewhere in this interval or just behind it.
      const after = growth(samples, (sample) => sample.clock, to, to + 0.5);
      if (after === undefined) continue;
      const elapsed = (to - from) * 1000;
      within(
        row.toString(),
        row.number("CPU%"),
        {
          least: Math.min(bounds.least / elapsed, after.least / 500) * 100,
          most: Math.max(bounds.most / elapsed, after.most / 500) * 100,
        },
        0,
        20,
      );
      compared++;
    }
    assert.ok(compared >= 2, "at least two ticks to compare");
    const spinning = table.of(pid).filter((row) => !row.isEnd);
    for (const { ticks: tick } of spinning.slice(1)) {
      const names = table.rows
        .filter((row) => !row.isEnd && row.ticks === tick)
        .map((row) => row.text("COMM"))
        .sort();
      assert.deepEqual(names, ["sh", "sleep", "sleeper", "spin"], `all four processes at ${tick}`);
    }
    for (const one of table.pids()) assert.equal(table.ends(one).length, 1);
    const calls = readFileSync(log, "utf8").trim().split("\n").length;
    assert.ok(calls <= table.ticks().length + 2, `${calls} calls for ${table.ticks().length} ticks`);
  });

  test("names with spaces do not shift top's columns", async (t) => {
    const run = new Run(t, {
      config: { ...top, interval: 0.1 },
      command: [workload("tree_rename"), "7 R  99.9 x y"],
    });
    const { stdout } = await run.quietly();
    const pid = Number(/process (\d+)/.exec(stdout)?.[1]);
    const table = run.table("cpu.csv");
    assert.deepEqual([...table.pids()], [pid]);
    for (const row of table.rows) assert.ok(row.number("CPU%") < 50, `it only sleeps: ${row.toString()}`);
    assert.ok(table.rows.some((row) => row.text("COMM") === "7 R  99.9 x y"));
  });
});
