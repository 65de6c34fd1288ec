// Files of a flood on a disk. Owns: a limit on their size, compression, a full disk, a monitor that is killed; in each
// case the files together are read back, row by row. Does not own: FIFOs (stream_fifo.test.ts), rings
// (stream_loss.test.ts), what a table looks like (files.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { checkAll, checkBooks, Flooder, floodConfig, readFlood } from "./support/flood.js";
import { readEvents } from "./support/events.js";
import { readTable } from "./support/csv.js";
import { scratch, workload } from "./support/paths.js";
import { execute, program, refused, Run, type RunRecord } from "./support/run.js";
import { until } from "./support/wait.js";

/** The files of one table in their order; there are no others, and each is within the limit. */
function filesOf(run: Run, stem: string, extension: string, limit: number): string[] {
  const pattern = new RegExp(`^${stem}(\\.\\d+)?\\.${extension.replaceAll(".", "\\.")}$`);
  const count = readdirSync(run.directory).filter((name) => pattern.test(name)).length;
  const names = Array.from({ length: count }, (_, n) => `${stem}.${n === 0 ? "" : `${n}.`}${extension}`);
  const sizes = names.map((name) => statSync(run.path(name)).size);
  for (const [n, size] of sizes.entries()) {
    assert.ok(size <= limit, `${names[n] ?? ""} has ${size} bytes`);
    const next = sizes[n + 1];
    assert.ok(next === undefined || size + next > limit, `${names[n] ?? ""} and the next could have been one`);
  }
  assert.ok(count > 1, `${names.join()}: more than one`);
  return names.map((name) => run.path(name));
}

/** Decompresses by the name's ending; what a broken end makes the program say is of no interest. */
function plain(file: string): string {
  const program = file.endsWith(".gz") ? "gzip" : file.endsWith(".zst") ? "zstd" : undefined;
  if (program === undefined) return file;
  const text = openSync(`${file}.txt`, "w");
  try {
    execFileSync(program, ["-dc", file], { stdio: ["ignore", text, "ignore"] });
  } catch (error) {
    assert.ok(typeof (error as { status?: unknown }).status === "number", String(error));
  } finally {
    closeSync(text);
  }
  return `${file}.txt`;
}

describe("max_file_size", () => {
  const limit = 65536;

  test("each table goes on in further files, which together are the table", async (t) => {
    const script = `'${workload("stream_flood")}' 10000; '${workload("forkstorm")}' 1500`;
    const run = new Run(t, {
      config: { ...floodConfig, snoop_cpu: "bpf", cpu_output_file: "cpu.csv", max_file_size: limit },
      command: ["sh", "-c", script],
    });
    const { stdout } = await run.quietly();
    const { syscall, cpu } = run.record().modules;
    const flood = readFlood(stdout, filesOf(run, "syscall", "csv", limit));
    checkAll(syscall, flood);
    assert.equal(flood.lost, 0);

    const tables = filesOf(run, "cpu", "csv", limit).map((file) => readTable(file));
    for (const table of tables) assert.deepEqual(table.header, tables[0]?.header);
    const rows = tables.flatMap((table) => table.rows);
    assert.equal(rows.length, cpu?.rows);
    const times = rows.filter((row) => !row.isEnd).map((row) => row.ticks);
    assert.deepEqual(times, [...times].sort((a, b) => a - b));
    // The shell, the flooder, the storm and its children, whose END rows alone are more than one file holds.
    assert.equal(new Set(rows.filter((row) => row.isEnd).map((row) => row.pid)).size, 1503);
    assert.deepEqual(
      readdirSync(run.directory).filter((name) => !/^(config\.json|run\.json|(cpu|syscall)\.(\d+\.)?csv)$/.test(name)),
      [],
    );
  });

  for (const size of [65535, 0, "1M"])
    test(`${JSON.stringify(size)} is refused`, async (t) => {
      const run = new Run(t, { config: { ...floodConfig, max_file_size: size }, command: ["true"] });
      refused(await run.finished, 2, "max_file_size", String(size));
    });
});

describe("compressed", () => {
  // pandas reads .gz by itself; .zst it is handed by zstd, since not every pandas has that library.
  const pandas = `
import subprocess, sys, pandas
def read(name):
    if name.endswith(".gz"): return pandas.read_csv(name)
    return pandas.read_csv(subprocess.Popen(["zstd", "-dc", name], stdout=subprocess.PIPE).stdout)
table = pandas.concat(map(read, sys.argv[1:]))
print(len(table), (table["Ticks"] == "END").sum(), int(table["PARM1"].sum()))
`;
  for (const extension of ["csv.gz", "csv.zst"])
    test(`${extension}, in files of a limited size: the same rows`, async (t) => {
      const calls = 60_000;
      const run = new Run(t, {
        config: { ...floodConfig, syscall_output_file: `syscall.${extension}`, max_file_size: 65536 },
        command: [workload("stream_flood"), String(calls)],
      });
      const { stdout } = await run.quietly(7);
      const files = filesOf(run, "syscall", extension, 65536);
      const tool = extension.endsWith("gz") ? "gzip" : "zstd";
      assert.equal((await execute(t, [tool, "-tq", ...files])).code, 0, "whole files");
      const flood = readFlood(stdout, files.map(plain));
      checkAll(run.record().modules.syscall, flood);
      assert.equal(flood.lost, 0);
      const theirs = await execute(t, ["/usr/bin/python3", "-c", pandas, ...files]);
      assert.equal(theirs.stdout, `${flood.rows} 1 ${(calls * (calls - 1)) / 2}\n`, theirs.stderr);
    });
});

for (const extension of ["csv", "csv.gz", "csv.zst"])
  test(`a monitor that is killed leaves what run.json has told of, whole: ${extension}`, async (t) => {
    const run = new Run(t, {
      config: { ...floodConfig, syscall_output_file: `syscall.${extension}` },
      input: "open",
      command: [workload("stream_flood"), "5000", "1"],
    });
    await run.says(/ready\n/);
    await until("10000 events to be written", () => run.record().modules.syscall?.events_written === 10_000);
    run.child.kill("SIGKILL");
    await run.gone;
    run.endInput(); // the target goes on, and ends
    const { stdout } = await run.finished;
    const pid = Number(/^flooder (\d+) 0 5001$/m.exec(stdout)?.[1]);
    const file = plain(run.path(`syscall.${extension}`));
    const flooder = new Flooder(pid, 0, 5000);
    for (const row of readEvents(file)) flooder.take(row); // throws on what is no whole line
    assert.deepEqual({ events: flooder.events, lost: flooder.lost }, { events: 10_000, lost: 0 });
  });

describe("a full disk", () => {
  function reportedOnce(stderr: string): void {
    const reports = stderr.split("\n").filter((line) => line.startsWith("treesnoop: "));
    assert.ok(reports.length === 1 && reports[0]?.includes("syscall.csv"), `one report: ${stderr}`);
    assert.ok(!stderr.includes("[object"), stderr);
  }

  test("to the end: what is in the file and what is lost make up what happened", async (t) => {
    // A limit on the size of the file, since run.json is to be written nevertheless.
    const run = new Run(t, {
      config: floodConfig,
      through: ["prlimit", "--fsize=400000", ...program],
      command: [workload("stream_flood"), "20000"],
    });
    const { code, stdout, stderr } = await run.finished;
    assert.equal(code, 7, stderr);
    reportedOnce(stderr);
    const flood = readFlood(stdout, run.path("syscall.csv"));
    checkBooks(run.record().modules.syscall, flood);
    assert.ok(flood.events > 0 && flood.events < flood.happened);
  });

  test("that gets room again: LOST stands where rows are missing, and rows go on behind it", async (t: TestContext) => {
    const directory = scratch(t);
    mkdirSync(join(directory, "full"));
    // The namespace with the small disk dies with the run: what lies there is copied out first.
    const script =
      'mount -t tmpfs -o size=2m none full; head -c 1900000 /dev/zero >full/ballast; "$@"; code=$?; cp -a full kept; exit $code';
    const run = new Run(t, {
      config: { ...floodConfig, output_dir: "full" },
      directory,
      through: ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ...program],
      input: "open",
      command: [workload("stream_flood"), "20000", "-full/ballast", "3000"],
    });
    await run.says(/ready\n/);
    await until("the full disk to be noticed", () => /full|space/.test(run.stderr));
    run.write("go\n");
    await run.says(/ready\nready\n/);
    run.write("go\n");
    const { code, stdout, stderr } = await run.finished;
    assert.equal(code, 7, stderr);
    reportedOnce(stderr);
    const flood = readFlood(stdout, join(directory, "kept", "syscall.csv"));
    const record = JSON.parse(readFileSync(join(directory, "kept", "run.json"), "utf8")) as RunRecord;
    checkAll(record.modules.syscall, flood);
    assert.ok(flood.lost > 0 && flood.processes.every((process) => process.sinceLost > 0));
  });
});
