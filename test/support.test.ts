// The tests' own tools, before anything is judged with them. Owns: that the strict CSV reader refuses what it
// must, that strace's output is read right, that the bounds of the CPU witness are bounds. No root and no
// treesnoop needed.
// Runs beside others.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { parseTable } from "./support/csv.js";
import { growth, readSamples, readWitness, within } from "./support/cpu_witness.js";
import { scratch, workload } from "./support/paths.js";
import { Command, execute } from "./support/run.js";
import { parseStrace, readStrace, sameCalls, straceOptions } from "./support/strace.js";

const table = (text: string, unfinished = false): string[][] => {
  const parsed = parseTable(Buffer.from(text, "latin1"), unfinished);
  return parsed.rows.map((row) => parsed.header.map((column) => row.text(column)));
};

test("the CSV reader takes RFC 4180", () => {
  assert.deepEqual(table('A,B\n1,2\n"x, y","say ""hi""\nthere"\n,\n'), [
    ["1", "2"],
    ["x, y", 'say "hi"\nthere'],
    ["", ""],
  ]);
  assert.deepEqual(table("A,B\n1,2\n3", true), [["1", "2"]]);
});

test("the CSV reader refuses everything else", () => {
  for (const [text, why] of [
    ["A,B\n1,2", /no line end/],
    ["A,B\r\n1,2\r\n", /after a field/],
    ["A,B\n1\n", /another width/],
    ["A,B\n1,2,3\n", /another width/],
    ['A,B\n1,"2\n', /never ends/],
    ['A,B\n1,"2"3\n', /after a field/],
    ['A,B\n1,2"3\n', /after a field/],
    ["A,A\n1,2\n", /stands twice/],
    ["\xef\xbb\xbfA,B\n", /byte-order/],
    ["A,B\n\xff,2\n", /not valid|encoded data/],
    ["", /no header/],
  ] as const)
    assert.throws(() => table(text), why, JSON.stringify(text));
});

test("numbers are plain and unquoted", () => {
  const row = (cell: string): number => parseTable(Buffer.from(`A\n${cell}\n`)).rows[0]?.number("A") ?? NaN;
  assert.equal(row("-1.5"), -1.5);
  for (const bad of ['"1"', " 1", "1e5", "1,", "0x1", "+1", ".5", "NaN", '""'])
    assert.throws(() => row(bad), bad);
});

test("strace's lines", async (t) => {
  assert.deepEqual(
    parseStrace(
      "[ 257] openat(0xffffff9c, 0x7f00, 0x80000, 0) = 0x3\n[   3] close(0xffffffffffffffff) = -1 EBADF (Bad file descriptor)\n[   0] read(0x3, 0x7f, 0x1)   = ? ERESTARTSYS (To be restarted if SA_RESTART is set)\n[   0] --- SIGUSR1 ---\n[ 231] exit_group(0)                    = ?\n[ 231] +++ exited with 0 +++\n[ 110] getppid()                        = 0x221d\n",
    ).map((call) => [call.number, call.name, call.first, call.result]),
    [
      [257, "openat", 0xffffff9cn, 3n],
      [3, "close", -1n, -9n],
      [0, "read", 3n, -512n],
      [231, "exit_group", 0n, undefined],
      [110, "getppid", undefined, 0x221dn],
    ],
  );
  assert.throws(() => parseStrace("gibberish\n"), /cannot read/);
  const folder = scratch(t);
  for (const command of [[workload("syscalls_threads")], ["ls", "/"], [process.execPath, "-e", "0"]]) {
    const prefix = join(folder, command.length.toString());
    assert.equal((await execute(t, ["strace", ...straceOptions(prefix), ...command])).code, 0);
    const threads = readStrace(prefix);
    assert.ok(
      [...threads.values()].some(
        (calls) => calls[0]?.name === "execve" && calls.at(-1)?.name === "exit_group",
      ),
    );
  }
});

test("a comparison of calls notices each difference", () => {
  const calls = parseStrace("[   3] close(0x1) = 0\n[   3] close(0x2) = 0\n");
  sameCalls("equal", calls, calls);
  const [one, two] = calls;
  assert.ok(one !== undefined && two !== undefined);
  for (const other of [
    [one],
    [one, two, two],
    [two, one],
    [one, { ...two, result: -9n }],
    [one, { ...two, number: 4 }],
    [one, { ...two, name: "open" }],
    [one, { ...two, result: undefined }],
  ])
    assert.throws(() => {
      sameCalls("different", other, calls);
    });
});

test("the CPU witnesses agree with each other", async (t) => {
  const folder = scratch(t);
  const spin = new Command(
    t,
    [workload("witness"), join(folder, "rusage"), workload("spin"), "2", "400", "wait"],
    { input: "open" },
  );
  const pid = (await spin.says(/process (\d+)\n/))[1] ?? "";
  const sampler = new Command(t, [workload("cpusample"), pid, "3000", join(folder, "samples")]);
  spin.write("\n");
  await spin.finished;
  await sampler.finished;
  const [rusage] = readWitness(join(folder, "rusage"));
  const samples = readSamples(join(folder, "samples"));
  const [first, last] = [samples[0], samples.at(-1)];
  assert.ok(rusage !== undefined && first !== undefined && last !== undefined && samples.length > 20);
  assert.ok(rusage.cpu > 799 && last.clock <= rusage.cpu + 1);
  const middle = samples[Math.floor(samples.length / 2)];
  assert.ok(middle !== undefined);
  for (const value of ["clock", "run", "stat"] as const) {
    const bounds = growth(samples, (sample) => sample[value], samples[3]?.before ?? 0, middle.before + 0.001);
    assert.ok(bounds !== undefined && bounds.least <= bounds.most);
    within(value, middle[value] - (samples[3]?.[value] ?? 0), bounds, 0, 0.001);
    assert.throws(() => {
      within(value, bounds.most + 1, bounds, 0, 0.5);
    });
  }
  assert.equal(
    growth(samples, (sample) => sample.clock, first.before - 1, middle.before),
    undefined,
    "no bounds outside the samples",
  );
});
