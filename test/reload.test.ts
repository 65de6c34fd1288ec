// The configuration edited while the run goes on. Owns: that an edit takes effect at a tick, that counts
// survive it, that a bad one is reported once and changes nothing. Does not own: what is a valid
// configuration at the start (failures.test.ts), what is loaded into the kernel when (bpf_steps.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { close, readWitness } from "./support/cpu_witness.js";
import { edit, goesOn, replace } from "./support/edit.js";
import { scratch, workload } from "./support/paths.js";
import { Run } from "./support/run.js";
import { delay, until } from "./support/wait.js";

const base = { snoop_cpu: "bpf", cpu_output_file: "cpu.csv", interval: 0.1 };

test("a module switched on and off, the interval and a file name changed: no count is lost", async (t) => {
  const folder = scratch(t);
  const run = new Run(t, {
    config: base,
    directory: folder,
    input: "open",
    command: [
      workload("witness"),
      join(folder, "rusage"),
      "sh",
      "-c",
      `${workload("spin")} 2 4000 & read line; wait`,
    ],
  });
  await run.ticked("cpu.csv", 3);

  const withSyscalls = {
    ...base,
    snoop_syscall: "bpf",
    syscall_output_file: "syscall.csv",
    syscall_mode: "summary",
  };
  edit(run, withSyscalls);
  await until("syscall.csv", () => (run.growing("syscall.csv")?.header.length ?? 0) > 0);
  await goesOn(run, "cpu.csv");

  replace(run, { ...withSyscalls, interval: 0.4 });
  await until("the longer interval", () => {
    const ticks = run.growing("cpu.csv")?.ticks() ?? [];
    return (ticks.at(-1) ?? 0) - (ticks.at(-2) ?? 0) > 0.3;
  });

  edit(run, { ...withSyscalls, cpu_output_file: "cpu2.csv" });
  await goesOn(run, "cpu2.csv");
  const first = run.table("cpu.csv");
  assert.ok(run.table("syscall.csv", true).header.includes("CALLS"));

  edit(run, { ...base, cpu_output_file: "cpu2.csv" });
  await until("syscall to stop", () => run.record().modules.syscall?.state !== "running");
  const stopped = run.table("syscall.csv").rows.length;
  await goesOn(run, "cpu2.csv");
  assert.equal(run.table("syscall.csv").rows.length, stopped, "a module that is off writes nothing");

  run.write("go on\n");
  await run.quietly();
  assert.equal(run.table("cpu.csv").rows.length, first.rows.length, "the first file is complete");
  const second = run.table("cpu2.csv");
  const [rusage] = readWitness(join(folder, "rusage"));
  assert.ok(rusage !== undefined);
  const witness = Math.min(...first.pids());
  const others = [...first.rows, ...second.rows].filter((row) => row.pid !== witness);
  close(
    "Σ ON CPU over both files",
    others.reduce((sum, row) => sum + row.number("ON CPU"), 0),
    rusage.cpu,
    0.01,
    2,
  );
  for (const pid of second.pids()) assert.equal(first.ends(pid).length + second.ends(pid).length, 1);
  assert.ok(run.record().config.interval === 0.1);
});

test("a module switched on later counts from then on, and twice gives two files' worth, not one mixed", async (t) => {
  const run = new Run(t, { config: base, input: "open", command: [workload("tree_standing"), "1", "1"] });
  await run.says(/ready/);
  await run.ticked("cpu.csv", 2);
  const on = {
    ...base,
    snoop_syscall: "bpf",
    syscall_output_file: "syscall.csv",
    syscall_filter: ["getpriority"],
  };
  for (let round = 0; round < 2; round++) {
    edit(run, on);
    await goesOn(run, "syscall.csv");
    edit(run, base);
    await until("syscall to stop", () => run.record().modules.syscall?.state !== "running");
  }
  run.endInput();
  await run.quietly();
  const table = run.table("syscall.csv");
  assert.ok(table.rows.some((row) => !row.isEnd && row.text("SYSCALL") === "getpriority"));
  for (const row of table.rows.filter((one) => !one.isEnd)) assert.equal(row.text("SYSCALL"), "getpriority");
});

test("an edit to garbage is reported once and the run goes on as it was; a later good edit works", async (t) => {
  const run = new Run(t, { config: base, input: "open", command: [workload("tree_standing"), "1", "1"] });
  await run.says(/ready/);
  await run.ticked("cpu.csv", 2);
  const bad: readonly [string | object, RegExp][] = [
    ['{ "snoop_cpu": "bpf",\n  "interval": oops }', /line 2/],
    [{ ...base, snoop_cpuu: "bpf" }, /snoop_cpu\b/],
    [{ ...base, interval: "soon" }, /interval/],
    [{ ...base, snoop_syscall: "bpf", syscall_output_file: "cpu.csv" }, /cpu\.csv/],
    ["", /config/],
  ];
  let said = 0;
  for (const [text, words] of bad) {
    edit(run, text);
    await until(`a word about ${JSON.stringify(text)}`, () => run.stderr.length > said, 10);
    await goesOn(run, "cpu.csv");
    await delay(500);
    const report = run.stderr.slice(said);
    said = run.stderr.length;
    const lines = report.trimEnd().split("\n");
    assert.match(report, words);
    assert.ok(lines.length <= 2, `one report of one or two lines: ${report}`);
    assert.doesNotMatch(report, /^\s+at /m);
    await goesOn(run, "cpu.csv");
    assert.equal(run.record().config.interval, 0.1, "the running configuration stays");
  }
  edit(run, { ...base, cpu_output_file: "after.csv" });
  await goesOn(run, "after.csv");
  rmSync(run.path("config.json"));
  await goesOn(run, "after.csv");
  run.endInput();
  assert.equal((await run.finished).code, 0);
  assert.ok(!existsSync(run.path("syscall.csv")));
});
