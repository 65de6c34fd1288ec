// A FIFO as the output. Owns: that no reader, however slow, holds the target or the run up, that what a reader gets
// are whole lines, and that what it does not get is counted. Does not own: files on a disk (stream_files.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { closeSync, constants, existsSync, lstatSync, openSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { checkAll, checkBooks, floodConfig, readFlood } from "./support/flood.js";
import { scratch, workload } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { stop, until } from "./support/wait.js";

const name = "syscall.csv";

/** A program that has a FIFO as its input and a file as its output. */
class Reader extends Command {
  readonly directory: string;
  /** What it has read. */
  readonly output: string;
  /** Keeps the FIFO open until the run has it: a reader whose FIFO has no writer is at the end. */
  #writer: number;

  private constructor(t: TestContext, directory: string, command: readonly string[]) {
    const fifo = join(directory, name);
    const output = join(directory, "read.csv");
    const writer = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    super(t, ["sh", "-c", 'fifo=$1 output=$2; shift 2; exec "$@" <"$fifo" >"$output"', "sh", fifo, output, ...command]);
    this.directory = directory;
    this.output = output;
    this.#writer = writer;
    t.after(() => {
      this.letGo();
    });
  }

  /** What it reads from; nothing while its shell exchanges one for the other. */
  #input(): string | undefined {
    try {
      return readlinkSync(`/proc/${this.pid}/fd/0`);
    } catch {
      return undefined;
    }
  }

  static async begin(t: TestContext, command: readonly string[]): Promise<Reader> {
    const directory = scratch(t);
    assert.equal((await execute(t, ["mkfifo", join(directory, name)])).code, 0);
    const reader = new Reader(t, directory, command);
    await until("the reader to have the FIFO", () => reader.#input() === join(directory, name));
    return reader;
  }

  letGo(): void {
    if (this.#writer >= 0) closeSync(this.#writer);
    this.#writer = -1;
  }
}

/** Floods into the FIFO; the reader is on its own when this comes back, and the first step is done. */
async function flood(t: TestContext, reader: Reader, steps: readonly string[]): Promise<Run> {
  const run = new Run(t, {
    config: floodConfig,
    directory: reader.directory,
    input: "open",
    command: [workload("stream_flood"), ...steps],
  });
  await run.says(/ready\n/);
  reader.letGo();
  return run;
}

async function lossOf(run: Run): Promise<number> {
  return until("a loss to be told", () => run.record().modules.syscall?.events_lost ?? 0);
}

test("a reader that stops for a while: the target goes on, the reader gets whole lines and what was lost", async (t) => {
  const reader = await Reader.begin(t, ["cat"]);
  const run = await flood(t, reader, ["5000", "100000", "5000"]);
  await stop(reader.pid);
  run.write("go\n");
  await run.says(/ready\nready\n/);
  await lossOf(run);
  process.kill(reader.pid, "SIGCONT");
  run.write("go\n");
  const { code, stdout } = await run.finished;
  assert.equal(code, 7);
  assert.equal((await reader.finished).code, 0);
  const seen = readFlood(stdout, reader.output);
  checkAll(run.record().modules.syscall, seen);
  assert.ok(seen.events > 0 && seen.lost > 0);
  assert.ok(lstatSync(run.path(name)).isFIFO(), "it is nobody's to replace");
});

test("a reader that stops for good: the run ends with the target", async (t) => {
  const reader = await Reader.begin(t, ["cat"]);
  const run = await flood(t, reader, ["5000", "100000"]);
  await stop(reader.pid);
  run.write("go\n");
  const { code, stdout } = await run.finished;
  assert.equal(code, 7);
  process.kill(reader.pid, "SIGCONT");
  assert.equal((await reader.finished).code, 0);
  const seen = readFlood(stdout, reader.output); // also the last line is whole
  checkBooks(run.record().modules.syscall, seen);
  assert.ok(seen.events > 0 && seen.events < seen.happened);
});

test("a reader that goes away: the rest is lost, counted, and said once", async (t) => {
  const reader = await Reader.begin(t, ["head", "-n", "100"]);
  const run = await flood(t, reader, ["5000", "20000"]);
  assert.equal((await reader.finished).code, 0);
  run.write("go\n");
  const { code, stdout, stderr } = await run.finished;
  assert.equal(code, 7, stderr);
  const reports = stderr.split("\n").filter((line) => line.startsWith("treesnoop: "));
  assert.ok(reports.length === 1 && stderr.includes(name) && stderr.split("\n").length <= 3, `one report: ${stderr}`);
  assert.ok(!stderr.includes("[object"), stderr);
  const seen = readFlood(stdout, reader.output); // checks each line
  assert.equal(seen.rows, 99);
  const record = run.record().modules.syscall;
  assert.equal(record?.events_seen, seen.happened);
  // What lay in the pipe counts as written: nobody can tell how much of it was read.
  assert.equal((record.events_written ?? 0) + (record.events_lost ?? 0), seen.happened);
  assert.ok((record.events_lost ?? 0) > 0);
  assert.deepEqual(
    record.lost_by_process?.map(({ pid, lost }) => [pid, lost]),
    seen.processes.map(({ pid }) => [pid, record.events_lost]),
  );
});

test("nobody reads: one sentence, and nothing is launched", async (t) => {
  const directory = scratch(t);
  await execute(t, ["mkfifo", join(directory, name)]);
  const marker = join(directory, "launched");
  const { code, stderr } = await new Run(t, { config: floodConfig, directory, command: ["touch", marker] }).finished;
  assert.ok(code === 2 || code === 3, `exit code ${code}`);
  assert.ok(stderr.includes(name) && stderr.includes("read") && stderr.trimEnd().split("\n").length <= 2, stderr);
  assert.ok(!existsSync(marker));
  assert.ok(lstatSync(join(directory, name)).isFIFO());
});
