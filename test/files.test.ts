// What a run leaves on disk. Owns: the form of the tables (as another CSV reader sees them), END rows, names
// that want to be formulas, run.json, and what happens to files that already exist, links and ownership. Does
// not own: whether the values are true (each module's own test).
// Runs beside others.
import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseTable } from "./support/csv.js";
import { readWitness, close } from "./support/cpu_witness.js";
import { scratch, workload } from "./support/paths.js";
import { execute, Run, type RunRecord } from "./support/run.js";

const config = { snoop_cpu: "bpf", cpu_output_file: "cpu.csv", interval: 0.1 };
const everything = {
  ...config,
  snoop_mem: "bpf",
  mem_output_file: "mem.csv",
  snoop_network: "bpf",
  network_output_file: "network.csv",
  snoop_syscall: "bpf",
  syscall_output_file: "syscall.csv",
  interval: 0.2,
};

/** The columns that are fixed, first and in this order; more may follow. */
const columns: Readonly<Record<string, string>> = {
  "cpu.csv": "Ticks,PID,COMM,ON CPU,OFF CPU,CPU%",
  "mem.csv": "Ticks,PID,COMM,size(B),times",
  "leak.csv": "Ticks,PID,COMM,PROBE,ACTION,Size,Times",
  "network.csv": "Ticks,PID,COMM,RX_KB,TX_KB",
  "syscall.csv": "Ticks,PID,COMM,ACTION,SYSCALL_ID,PARM1",
};

test("five modules, five tables: columns, ticks, END rows, and another reader sees the same cells", async (t) => {
  const folder = scratch(t);
  const source = join(folder, "probed.c");
  writeFileSync(
    source,
    "#include <stdlib.h>\n__attribute__((noinline)) void *make(int n) { return malloc((size_t)n); }\nint main(void) { free(make(10)); return 0; }\n",
  );
  assert.equal((await execute(t, ["cc", "-g", "-O1", "-o", join(folder, "probed"), source])).code, 0);
  const before = Date.now() / 1000;
  const run = new Run(t, {
    config: {
      ...everything,
      memleak_probes: { probes: ["./probed:make"], output_file: "leak.csv", additional_var: "int n" },
    },
    directory: folder,
    command: ["sh", "-c", "ls / >/dev/null; ./probed; sleep 0.5; ./probed"],
  });
  await run.quietly();
  const after = Date.now() / 1000;
  const pids = run.table("cpu.csv").pids();
  assert.equal(pids.size, 5);
  for (const [name, expected] of Object.entries(columns)) {
    const table = run.table(name);
    assert.equal(table.header.slice(0, expected.split(",").length).join(","), expected, name);
    assert.ok(table.rows.length > 0, `${name} has rows`);
    let last = 0;
    for (const row of table.rows) {
      assert.ok(pids.has(row.pid), `${name}: ${row.toString()} is of the tree`);
      if (row.isEnd) continue;
      assert.match(row.text("Ticks"), /^\d+\.\d{6}$/, name);
      assert.ok(row.ticks >= before && row.ticks <= after, `${name}: ${row.toString()} is from this run`);
      if (name !== "syscall.csv" && name !== "leak.csv")
        assert.ok(row.ticks >= last, `${name}: time goes forward`);
      last = row.ticks;
    }
    if (name !== "syscall.csv" && name !== "leak.csv")
      for (const pid of pids) {
        assert.equal(table.ends(pid).length, 1, `${name}: one END row of ${pid}`);
        assert.equal(table.of(pid).at(-1)?.isEnd, true, `${name}: END is the last row of ${pid}`);
      }
    // Python's own reader, in strict mode.
    const { stdout, code } = await execute(t, [
      "/usr/bin/python3",
      "-c",
      "import csv, json, sys; print(json.dumps(list(csv.reader(open(sys.argv[1], newline='', encoding='utf-8'), strict=True))))",
      run.path(name),
    ]);
    assert.equal(code, 0);
    const [header, ...records] = JSON.parse(stdout) as string[][];
    assert.deepEqual(header, table.header);
    assert.deepEqual(
      records,
      table.rows.map((row) => table.header.map((column) => row.text(column))),
    );
  }
});

test("tables of events, too: the last row of a process that ended has END", async (t) => {
  const run = new Run(t, { config: everything, command: ["sh", "-c", "ls / >/dev/null; true"] });
  await run.quietly();
  const table = run.table("syscall.csv");
  assert.equal(table.pids().size, 2);
  for (const pid of table.pids()) {
    assert.equal(table.ends(pid).length, 1, `one END row of ${pid}`);
    assert.equal(table.of(pid).at(-1)?.isEnd, true, `END is the last row of ${pid}`);
  }
});

describe("names that a spreadsheet would misread", () => {
  for (const name of [
    "=cmd()",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "=1,2",
    '="x"',
    'a,b"c',
    "tab\\x09=x",
    "\\x09=tab",
    "\\x0d=cr",
    "new\\x0aline",
    "\\xff\\xfe bad",
    "\\x01\\x02",
    " lead",
    "'=quoted",
    "",
  ])
    test(JSON.stringify(name), async (t) => {
      const run = new Run(t, {
        config: { ...config, snoop_syscall: "bpf", syscall_output_file: "syscall.csv" },
        command: [workload("tree_rename"), name],
      });
      const { stdout } = await run.quietly();
      const pid = Number(/process (\d+)/.exec(stdout)?.[1]);
      for (const file of ["cpu.csv", "syscall.csv"]) {
        const rows = run.table(file).of(pid); // throws on text that is not UTF-8, or records of another width
        const last = rows.at(-1)?.text("COMM");
        assert.ok(last !== undefined);
        assert.doesNotMatch(last, /^[=+\-@\t\r\n]/, "nothing a spreadsheet evaluates");
        const letters = name
          .replaceAll(/\\x[0-9a-f]{2}/g, " ")
          .replace(/^[=+\-@']/, "")
          .trim();
        for (const word of letters.split(" "))
          assert.ok(last.includes(word), `${JSON.stringify(last)} still shows ${JSON.stringify(word)}`);
      }
    });

  test("a plain name is left alone", async (t) => {
    const run = new Run(t, { config, command: [workload("tree_rename"), "a-b=c+d@e"] });
    const { stdout } = await run.quietly();
    assert.equal(
      run
        .table("cpu.csv")
        .of(Number(/process (\d+)/.exec(stdout)?.[1]))
        .at(-1)
        ?.text("COMM"),
      "a-b=c+d@e",
    );
  });
});

describe("run.json", () => {
  test("is there from the start, whole at every moment, updated, and final at the end", async (t) => {
    const run = new Run(t, {
      config: everything,
      input: "open",
      command: [workload("tree_standing"), "2", "2"],
    });
    await run.says(/ready\n/);
    const path = run.path("run.json");
    const seen: RunRecord[] = [];
    const files = new Set<number>();
    const end = Date.now() + 1500;
    while (Date.now() < end) {
      seen.push(JSON.parse(readFileSync(path, "utf8")) as RunRecord); // throws on a half-written one
      files.add(statSync(path).ino);
      await new Promise((resolve) => setImmediate(resolve));
    }
    run.endInput();
    await run.quietly();
    assert.ok(files.size >= 2, "replaced, not rewritten"); // the file system may give a freed inode again
    for (const record of seen) {
      assert.equal(record.state, "running");
      assert.equal(record.exit_code, null);
      assert.equal(record.end, null);
    }
    const rows = seen.map((record) => record.modules.cpu?.rows ?? -1);
    assert.ok((rows.at(-1) ?? 0) > (rows[0] ?? 0), "rows grow");
    const record = run.record();
    assert.notEqual(record.state, "running");
    assert.equal(record.exit_code, 0);
    assert.notEqual(record.end, null);
    assert.match(record.version, /^\d+\.\d+\.\d+/);
    assert.equal(record.kernel.includes((await execute(t, ["uname", "-r"])).stdout.trim()), true);
    assert.deepEqual(record.command.slice(-3), [workload("tree_standing"), "2", "2"]);
    assert.equal(record.config.interval, 0.2);
    assert.ok(record.monitor.cpu_ms > 0 && record.monitor.peak_rss_kb > 10_000);
    assert.ok(new Date(String(record.start)).getTime() <= new Date(String(record.end)).getTime());
    for (const [name, file] of [
      ["cpu", "cpu.csv"],
      ["mem", "mem.csv"],
      ["network", "network.csv"],
      ["syscall", "syscall.csv"],
    ] as const) {
      const module = record.modules[name];
      assert.ok(module !== undefined, name);
      assert.match(module.backend ?? "", /\w/, `${name}: backend`);
      assert.equal(module.rows, run.table(file).rows.length, `${name}: rows`);
      assert.equal(module.events_lost, 0, `${name}: lost`);
      assert.equal(
        (module.events_written ?? 0) + (module.events_lost ?? 0),
        module.events_seen,
        `${name}: seen = written + lost`,
      );
      assert.ok((module.bpf_run_ns ?? 0) > 0, `${name}: cost`);
    }
    assert.deepEqual(
      readdirSync(run.directory).filter((name) => !/^(config\.json|run\.json|\w+\.csv)$/.test(name)),
      [],
      "no leftovers",
    );
  });

  test("says how the target ended", async (t) => {
    for (const [script, code] of [
      ["exit 7", 7],
      ["kill -9 $$", 137],
    ] as const) {
      const run = new Run(t, { config, command: ["sh", "-c", script] });
      assert.equal((await run.finished).code, code);
      assert.equal(run.record().exit_code, code);
    }
  });

  test("historic values are accepted and the effective ones recorded", async (t) => {
    const run = new Run(t, {
      config: {
        snoop_cpu: "bcc",
        cpu_output_file: "cpu.csv",
        snoop_mem: "None",
        mem_output_file: "mem.csv",
        memleak_probes: null,
        snoop_network: "bcc",
        network_output_file: "net.csv",
        snoop_syscall: "None",
        syscall_output_file: "s.csv",
        interval: 0.5,
        trace_multiprocess: "true",
        output_dir: ".",
      },
      command: ["true"],
    });
    await run.quietly();
    assert.deepEqual(readdirSync(run.directory).sort(), ["config.json", "cpu.csv", "net.csv", "run.json"]);
    const { config: effective, modules } = run.record();
    assert.equal(effective.snoop_cpu, "bpf");
    assert.equal(effective.snoop_mem, null);
    assert.equal(effective.trace_multiprocess, true);
    assert.equal(modules.cpu?.backend, "bpf");
  });
});

describe("files that are already there", () => {
  test("are kept under the time they were begun, each of them", async (t) => {
    const folder = scratch(t);
    const texts: string[] = [];
    for (let i = 0; i < 3; i++) {
      const run = new Run(t, { config, directory: folder, command: ["sh", "-c", `exit ${i}`] });
      assert.equal((await run.finished).stderr, "");
      texts.push(readFileSync(run.path("cpu.csv"), "utf8"));
    }
    const names = readdirSync(folder);
    const kept = names.filter((name) => /^cpu\.\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}.*\.csv$/.test(name));
    assert.equal(kept.length, 2, names.join(" "));
    assert.deepEqual(
      new Set([...kept, "cpu.csv"].map((name) => readFileSync(join(folder, name), "utf8"))),
      new Set(texts),
    );
    const records = names
      .filter((name) => /^run\..*json$/.test(name))
      .map((name) => (JSON.parse(readFileSync(join(folder, name), "utf8")) as RunRecord).exit_code);
    assert.deepEqual(records.sort(), [0, 1, 2]);
  });

  test("a file of somebody else's is kept as well", async (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "cpu.csv"), "my notes\n");
    await new Run(t, { config, directory: folder, command: ["true"] }).quietly();
    const [kept] = readdirSync(folder).filter((name) => /^cpu\.\d.*\.csv$/.test(name));
    assert.ok(kept !== undefined);
    assert.equal(readFileSync(join(folder, kept), "utf8"), "my notes\n");
  });

  test("--overwrite replaces them", async (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "cpu.csv"), "my notes\n");
    const run = new Run(t, { config, directory: folder, options: ["--overwrite"], command: ["true"] });
    await run.quietly();
    assert.deepEqual(readdirSync(folder).sort(), ["config.json", "cpu.csv", "run.json"]);
    assert.ok(run.table("cpu.csv").rows.length > 0);
  });

  for (const options of [[], ["--overwrite"]])
    test(`planted links are not followed ${options.join(" ")}`, async (t) => {
      const folder = scratch(t);
      const elsewhere = scratch(t);
      const victim = join(elsewhere, "victim");
      writeFileSync(victim, "precious\n");
      symlinkSync(victim, join(folder, "cpu.csv"));
      symlinkSync(join(elsewhere, "not-yet"), join(folder, "run.json"));
      const run = new Run(t, { config, directory: folder, options, command: ["true"] });
      await run.quietly();
      assert.equal(readFileSync(victim, "utf8"), "precious\n");
      assert.deepEqual(readdirSync(elsewhere), ["victim"]);
      assert.ok(lstatSync(run.path("cpu.csv")).isFile() && lstatSync(run.path("run.json")).isFile());
      for (const name of readdirSync(folder))
        if (lstatSync(join(folder, name)).isSymbolicLink())
          assert.ok(readlinkSync(join(folder, name)).startsWith(elsewhere));
    });
});

test("the files belong to whoever called sudo; the output folder is made", async (t) => {
  const folder = scratch(t);
  const run = new Run(t, {
    config: { ...config, output_dir: "new/folder" },
    directory: folder,
    environment: { ...process.env, SUDO_UID: "65534", SUDO_GID: "65534", SUDO_USER: "nobody" },
    command: ["id", "-u"],
  });
  await run.quietly();
  for (const name of ["new", "new/folder", "new/folder/cpu.csv", "new/folder/run.json"]) {
    const { uid, gid } = lstatSync(join(folder, name));
    assert.deepEqual({ name, uid, gid }, { name, uid: 65534, gid: 65534 });
  }
});

test("-o outweighs output_dir, -i outweighs interval", async (t) => {
  const folder = scratch(t);
  mkdirSync(join(folder, "given"));
  const run = new Run(t, {
    config: { ...config, output_dir: "unused" },
    directory: folder,
    options: ["-o", join(folder, "given"), "-i", "0.05"],
    command: ["sleep", "0.5"],
  });
  await run.quietly();
  assert.ok(!existsSync(join(folder, "unused")));
  assert.ok(parseTable(readFileSync(join(folder, "given", "cpu.csv"))).ticks().length >= 5);
});

test("column sums are lifetime totals for a process that ends between two ticks", async (t) => {
  const folder = scratch(t);
  const run = new Run(t, {
    config: { ...config, interval: 30 },
    directory: folder,
    command: [workload("witness"), join(folder, "rusage"), workload("spin"), "2", "150"],
  });
  await run.quietly();
  const [rusage] = readWitness(join(folder, "rusage"));
  assert.ok(rusage !== undefined);
  const rows = run.table("cpu.csv").of(rusage.pid);
  assert.deepEqual(
    rows.map((row) => row.isEnd),
    [true],
    "its only row is its END row",
  );
  close("ON CPU", rows[0]?.number("ON CPU") ?? 0, rusage.cpu, 0.01, 2);
});
