// What must not happen, one test each: whatever goes wrong, the outcome is one or two clear lines, the right
// exit code, nothing launched that should not be, no half-written file, and nothing left attached. Does not
// own: edits while running (reload.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { parseTable } from "./support/csv.js";
import { close } from "./support/cpu_witness.js";
import { alive, bpfObjects, changedCode } from "./support/kernel.js";
import { root, scratch, workload } from "./support/paths.js";
import { asNobody, execute, program, refused, Run, type Outcome, type RunOptions } from "./support/run.js";
import { delay, until } from "./support/wait.js";

const config = { snoop_cpu: "bpf", cpu_output_file: "cpu.csv", interval: 0.1 };
const everything = {
  ...config,
  snoop_mem: "bpf",
  mem_output_file: "mem.csv",
  snoop_network: "bpf",
  network_output_file: "network.csv",
  snoop_syscall: "bpf",
  syscall_output_file: "syscall.csv",
};

/**
 * Runs with a command that leaves a mark; gives the outcome and asserts that it never ran and that no file
 * was begun.
 */
async function notLaunched(t: TestContext, options: Omit<RunOptions, "command">): Promise<Outcome> {
  const directory = options.directory ?? scratch(t);
  const before = new Set([...readdirSync(directory), "config.json"]);
  const run = new Run(t, { ...options, directory, command: ["touch", join(directory, "launched")] });
  const outcome = await run.finished;
  assert.deepEqual(
    readdirSync(directory).filter((name) => !before.has(name)),
    [],
    `nothing launched, nothing written; stderr: ${outcome.stderr}`,
  );
  assert.equal(outcome.stdout, "", "stdout is the target's");
  return outcome;
}

describe("configuration nonsense", () => {
  const cases: readonly (readonly [string, object | string, readonly (string | RegExp)[]])[] = [
    ["unknown key, nearest named", { ...config, snoop_cpuu: "bpf" }, ["snoop_cpuu", /snoop_cpu\b/]],
    [
      "unknown key, the nearest of several",
      { ...config, syscal_output_file: "x.csv" },
      ["syscal_output_file", "syscall_output_file"],
    ],
    [
      "unknown key inside memleak_probes",
      { ...config, memleak_probes: { probes: ["./a:b"], output_fil: "leak.csv" } },
      ["output_fil", /output_file\b/, "memleak_probes"],
    ],
    ["wrong type", { ...config, interval: "fast" }, ["interval", "fast"]],
    ["interval 0", { ...config, interval: 0 }, ["interval", "0"]],
    ["negative interval", { ...config, interval: -1 }, ["interval", "-1"]],
    [
      "unknown backend, allowed values listed",
      { ...config, snoop_cpu: "perf" },
      ["snoop_cpu", "perf", "bpf", "stat", "top"],
    ],
    [
      "trace_multiprocess neither true nor false",
      { ...config, trace_multiprocess: "maybe" },
      ["trace_multiprocess", "maybe"],
    ],
    ["output file a number", { ...config, cpu_output_file: 7 }, ["cpu_output_file", "7"]],
    ["output file empty", { ...config, cpu_output_file: "" }, ["cpu_output_file"]],
    [
      "probes not a list",
      { ...config, memleak_probes: { probes: "./a:b", output_file: "leak.csv" } },
      ["probes"],
    ],
    ["unknown filter", { ...everything, syscall_filter: ["no_such_call"] }, ["no_such_call"]],
    ["unknown mode", { ...everything, syscall_mode: "sums" }, ["syscall_mode", "sums", "events", "summary"]],
    [
      "two modules, one file",
      { ...everything, syscall_output_file: "cpu.csv" },
      ["cpu.csv", "cpu_output_file", "syscall_output_file"],
    ],
    [
      "two modules, one file spelt differently",
      { ...everything, syscall_output_file: "./x/../cpu.csv" },
      ["cpu.csv"],
    ],
    ["a module's file is run.json", { ...config, cpu_output_file: "run.json" }, ["run.json"]],
    [
      "bad JSON: line and column",
      '{\n  "snoop_cpu": "bpf",\n  "interval": 0.5,,\n}\n',
      [/line 3, column 1[89]/],
    ],
    ["bad JSON: trailing comma", '{\n  "snoop_cpu": "bpf",\n}\n', [/line [23]/]],
    ["bad JSON: unfinished", '{\n  "snoop_cpu": "bpf"', [/line 2/]],
    ["empty file", "", ["config.json"]],
    ["not an object", "[1]", ["config.json"]],
    ["null", "null", ["config.json"]],
    ["nothing switched on that exists", { snoop_cpu: 5 }, ["snoop_cpu", "5"]],
  ];
  for (const [what, content, words] of cases)
    test(what, async (t) => {
      refused(await notLaunched(t, { config: content }), 2, ...words);
    });

  test("a file that is not there, a folder, a file that cannot be read as text", async (t) => {
    const directory = scratch(t);
    mkdirSync(join(directory, "folder"));
    writeFileSync(join(directory, "binary"), Buffer.from([0x7b, 0xff, 0xfe, 0x7d]));
    for (const name of ["missing.json", "folder", "binary"])
      refused(
        await execute(t, [
          ...program,
          "-c",
          join(directory, name),
          "-o",
          directory,
          "--",
          "touch",
          join(directory, "launched"),
        ]),
        2,
        name,
      );
    assert.ok(!existsSync(join(directory, "launched")));
  });

  test("options that make no sense", async (t) => {
    for (const [options, word] of [
      [["--nonsense"], "--nonsense"],
      [["-i", "0"], "0"],
      [["-i", "soon"], "soon"],
      [["-d", "-1"], "-1"],
      [["--host", "-p", "1"], /--host|-p/],
    ] as const)
      refused(await notLaunched(t, { config, options }), 2, word);
    refused(await new Run(t, { config }).finished, 2); // neither command nor -p nor --host
  });

  test("an unknown function names the closest, an unknown binary the path", async (t) => {
    const directory = scratch(t);
    const source = join(directory, "a.c");
    writeFileSync(
      source,
      '__attribute__((noinline)) static int compute_sum(int n) { __asm__ volatile(""); return n + 1; }\nint main(int c, char **v) { (void)v; return compute_sum(c) > 99; }\n',
    );
    assert.equal((await execute(t, ["cc", "-g", "-O1", "-o", join(directory, "a.out"), source])).code, 0);
    const probes = (probe: string): object => ({
      ...config,
      memleak_probes: { probes: [probe], output_file: "leak.csv" },
    });
    refused(
      await notLaunched(t, { directory, config: probes("./a.out:compute_sun") }),
      2,
      "compute_sun",
      "compute_sum",
    );
    refused(
      await notLaunched(t, { directory, config: probes("./no-such-binary:main") }),
      2,
      "no-such-binary",
    );
    refused(await notLaunched(t, { directory, config: probes("./a.c:main") }), 2, "a.c");
    refused(await notLaunched(t, { directory, config: probes("nocolon") }), 2, "nocolon");
    refused(await notLaunched(t, { directory, config: probes("./a.out:0xffffffff") }), 2, "0xffffffff");
  });
});

describe("targets that cannot run", () => {
  test("not found: 127; not executable: 126", async (t) => {
    const directory = scratch(t);
    writeFileSync(join(directory, "plain"), "#!/bin/sh\n");
    mkdirSync(join(directory, "folder"));
    writeFileSync(join(directory, "bad-interpreter"), "#!/no/such/interpreter\n");
    chmodSync(join(directory, "bad-interpreter"), 0o755);
    for (const [command, code] of [
      ["no-such-command-here", 127],
      ["./missing", 127],
      ["./plain/below", 127],
      ["./bad-interpreter", 127],
      ["./plain", 126],
      ["./folder", 126],
    ] as const) {
      const outcome = await new Run(t, { config, directory, options: ["--overwrite"], command: [command] })
        .finished;
      refused(outcome, code, command);
    }
  });

  test("killed by a signal: 128 + n, as a shell says", async (t) => {
    for (const [signal, number] of [
      ["KILL", 9],
      ["TERM", 15],
      ["SEGV", 11],
      ["INT", 2],
      ["USR1", 10],
    ] as const) {
      const run = new Run(t, { config, command: ["sh", "-c", `kill -${signal} $$`] });
      await run.quietly(128 + number);
      const table = run.table("cpu.csv");
      assert.equal(table.pids().size, 1);
      assert.equal(table.rows.filter((row) => row.isEnd).length, 1, `END row after SIG${signal}`);
      assert.equal(run.record().exit_code, 128 + number);
    }
  });
});

describe("signals to the run", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    test(`${signal} reaches the target, whose end ends the run`, async (t) => {
      const run = new Run(t, {
        config,
        command: ["sh", "-c", "sleep 20 >/dev/null 2>&1 & echo ready; wait"],
      });
      await run.says(/ready/);
      await run.ticked("cpu.csv", 2);
      run.child.kill(signal);
      const { code, stderr } = await run.finished;
      assert.deepEqual({ code, stderr }, { code: 128 + (signal === "SIGTERM" ? 15 : 2), stderr: "" });
      const shell = Math.min(...run.table("cpu.csv").pids());
      assert.equal(run.table("cpu.csv").ends(shell).length, 1);
      assert.notEqual(run.record().state, "running");
    });

  test("a target that ignores SIGTERM: the first is delivered, the second kills", async (t) => {
    const run = new Run(t, { config, command: [workload("signals")] });
    const pid = Number((await run.says(/ready (\d+)/))[1]);
    await run.ticked("cpu.csv", 2);
    run.child.kill("SIGTERM");
    await run.says(/got 15\n/);
    await delay(300);
    assert.equal(run.child.exitCode, null, "still watching");
    assert.ok(existsSync(`/proc/${pid}`), "still running");
    run.child.kill("SIGTERM");
    const { code, stdout } = await run.finished;
    assert.equal(code, 137);
    assert.equal([...stdout.matchAll(/got 15/g)].length, 1);
    assert.equal(run.table("cpu.csv").ends(pid).length, 1);
    assert.equal(run.record().exit_code, 137);
  });

  test("SIGTERM while a stopped target cannot act on it", async (t) => {
    const run = new Run(t, { config, command: ["sh", "-c", "echo ready $$; kill -STOP $$; exit 0"] });
    await run.says(/ready \d+/);
    await run.ticked("cpu.csv", 2);
    run.child.kill("SIGTERM");
    await delay(200);
    run.child.kill("SIGTERM");
    assert.equal((await run.finished).code, 137);
  });
});

describe("a monitor that is killed", () => {
  test("SIGKILL: files readable, nothing stays attached, the target goes on undisturbed", async (t) => {
    const run = new Run(t, {
      config: everything,
      // With a time to end by: its input ends with the monitor, which is about to be killed.
      command: [workload("tree_standing"), "2", "1", "20"],
    });
    await run.says(/ready/);
    const pid = Number(/process (\d+)/.exec(run.stdout)?.[1]);
    const child = Number(/child (\d+)/.exec(run.stdout)?.[1]);
    const before = await run.ticked("cpu.csv", 3);
    await run.ticked("syscall.csv", 3);
    const objects = bpfObjects(run.pid);
    assert.ok(objects.filter((word) => word === "prog").length > 3, "it holds programs");
    assert.notEqual(await alive(t, objects), "", "which exist");
    run.child.kill("SIGKILL");
    await run.gone;
    // The kernel frees programs and maps some time after their last user.
    await until("its BPF objects to be gone", async () => (await alive(t, objects)) === "");
    assert.deepEqual(changedCode(pid), [], "no breakpoint left in the target");
    assert.deepEqual(changedCode(child), [], "no breakpoint left in its child");
    const switches = (): number =>
      Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${child}/status`, "utf8"))?.[1]);
    const then = switches();
    await until("the child to go on working", () => switches() > then + 10);
    for (const file of ["cpu.csv", "mem.csv", "network.csv", "syscall.csv"]) {
      const bytes = readFileSync(run.path(file));
      assert.equal(bytes.at(-1), 0x0a, `${file} ends with a whole record`);
      const table = parseTable(bytes);
      if (file === "cpu.csv")
        assert.ok(table.rows.length >= before.rows.length, "what was measured is on disk");
    }
    assert.equal(run.record().state, "running", "run.json says that nobody ended the run properly");
    process.kill(pid, "SIGKILL"); // its children go with it
    await until(
      "the target to end",
      () => !existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8")),
    );
  });

  test("SIGKILL, then a new run in the same place", async (t) => {
    const directory = scratch(t);
    const first = new Run(t, { config: everything, directory, command: ["sleep", "5"] });
    await first.ticked("cpu.csv", 2);
    first.child.kill("SIGKILL");
    await first.gone;
    const second = new Run(t, { config: everything, directory, command: ["true"] });
    await second.quietly();
    assert.equal(second.record().exit_code, 0);
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.startsWith(".")),
      [],
      "no leftovers of either",
    );
  });

  test("killed before the target has begun: the target never runs", async (t) => {
    // Twenty moments spread over the start; in each, either the target ran or it did not, and no launcher
    // stays behind.
    const directory = scratch(t);
    for (let i = 0; i < 20; i++) {
      const run = new Run(t, { config, directory, options: ["--overwrite"], command: ["sleep", "0.987654"] });
      await delay(i * 15);
      run.child.kill("SIGKILL");
      await run.gone;
    }
    await until(
      "no launcher to be left",
      async () => (await execute(t, ["pgrep", "-f", "launcher .*0[.]987654"])).code === 1,
    );
  });
});

describe("hosts that lack something", () => {
  /** Runs treesnoop in a mount namespace of its own, after `mounts`. */
  const inside = (mounts: string): string[] => [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    `set -e; ${mounts}; exec "$@"`,
    "sh",
    ...program,
  ];

  test("no BTF", async (t) => {
    refused(
      await notLaunched(t, { config, through: inside("mount -t tmpfs none /sys/kernel/btf") }),
      3,
      /BTF/,
    );
  });

  test("cgroup2 not mounted", async (t) => {
    const { stdout } = await execute(t, ["findmnt", "-rno", "TARGET", "-t", "cgroup2"]);
    const unmount = stdout
      .trim()
      .split("\n")
      .filter((path) => path !== "")
      .map((path) => `umount -l '${path}'`)
      .join("; ");
    assert.notEqual(unmount, "", "this host has one to take away");
    const network = { ...config, snoop_network: "bpf", network_output_file: "network.csv" };
    const outcome = await notLaunched(t, { config: network, through: inside(unmount) });
    refused(outcome, 3, /cgroup2/, /mount/);
    // What does not need it works without.
    await new Run(t, { config, through: inside(unmount), command: ["true"] }).quietly();
  });

  test("no privileges and no sudo", async (t) => {
    const directory = scratch(t);
    chmodSync(directory, 0o777);
    const tools = join(directory, "bin");
    mkdirSync(tools);
    // Everything a shell needs but sudo.
    for (const folder of ["/usr/sbin", "/usr/bin", "/bin", dirname(process.execPath)])
      for (const name of readdirSync(folder))
        if (name !== "sudo" && !existsSync(join(tools, name)))
          symlinkSync(join(folder, name), join(tools, name));
    const environment = { PATH: tools, HOME: "/nonexistent" };
    refused(
      await notLaunched(t, {
        config,
        directory,
        environment,
        through: [...asNobody(), join(root, "run.sh")],
      }),
      3,
      "root",
      "sudo",
    );
    refused(await notLaunched(t, { config, directory, through: [...asNobody(), ...program] }), 3, "root");
    // Root in name only, as in a container.
    const powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", ...program];
    refused(await notLaunched(t, { config, directory, through: powerless }), 3, /root|CAP_/);
  });

  test("modules: every module with what it needs, as root and without privileges", async (t) => {
    for (const through of [program, [...asNobody(), ...program]]) {
      const { code, stdout } = await execute(t, [...through, "modules"]);
      assert.equal(code, 0);
      for (const name of ["cpu", "mem", "memleak_probes", "network", "syscall"])
        assert.match(stdout, new RegExp(`\\b${name}\\b`));
    }
    const lacking = await execute(t, [...inside("mount -t tmpfs none /sys/kernel/btf"), "modules"]);
    assert.equal(lacking.code, 0);
    assert.match(lacking.stdout, /BTF|type information/);
  });

  test("output folder not writable", async (t) => {
    const directory = scratch(t);
    mkdirSync(join(directory, "out"));
    const readOnly = inside(`mount -t tmpfs -o ro none '${join(directory, "out")}'`);
    refused(
      await notLaunched(t, { config: { ...config, output_dir: "out" }, directory, through: readOnly }),
      3,
      "out",
      /read-only/,
    );
    writeFileSync(join(directory, "file"), "");
    refused(await notLaunched(t, { config: { ...config, output_dir: "file" }, directory }), 3, "file");
    refused(
      await notLaunched(t, {
        config,
        directory,
        options: ["-o", join(directory, "file", "below")],
      }),
      3,
      "below",
    );
  });
});

describe("disk full while running", () => {
  for (const [what, size, settings, name] of [
    ["by one table", "64k", { ...config, interval: 0.01 }, "cpu.csv"],
    ["by a flood of events", "256k", { ...everything, interval: 0.1 }, "syscall.csv"],
  ] as const)
    test(what, async (t) => {
      const directory = scratch(t);
      mkdirSync(join(directory, "full"));
      // The namespace with the small disk dies with the run: what lies there is copied out first.
      const script = `mount -t tmpfs -o size=${size} none full; "$@"; code=$?; cp -a full kept; exit $code`;
      const run = new Run(t, {
        config: { ...settings, output_dir: "full" },
        directory,
        through: ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ...program],
        command: [
          "sh",
          "-c",
          "i=0; while [ $i -lt 1500 ]; do /bin/true; i=$((i+1)); done; sleep 0.5; echo done; exit 6",
        ],
      });
      const outcome = await run.finished;
      assert.equal(outcome.stdout, "done\n", "the target went on to its end");
      assert.equal(outcome.code, 6);
      assert.match(outcome.stderr, /full|space/);
      const reports = outcome.stderr.split("\n").filter((line) => line.startsWith("treesnoop: "));
      assert.equal(new Set(reports).size, reports.length, `each file is reported once: ${outcome.stderr}`);
      assert.ok(outcome.stderr.split("\n").length <= 2 * reports.length + 1, "in one or two lines");
      const bytes = readFileSync(join(directory, "kept", name));
      assert.equal(bytes.at(-1), 0x0a);
      const table = parseTable(bytes); // whole records only
      assert.ok(table.rows.length > 0);
      // run.json may be an older one, since a new one needs room; half a one it must not be.
      JSON.parse(readFileSync(join(directory, "kept", "run.json"), "utf8"));
    });

  test("a disk that has room again is used again, and what was lost in between is counted", async (t) => {
    const directory = scratch(t);
    mkdirSync(join(directory, "full"));
    const script = `mount -t tmpfs -o size=100k none full; head -c 60000 /dev/zero >full/ballast; "$@"; code=$?; cp -a full kept; exit $code`;
    const run = new Run(t, {
      config: { ...config, interval: 0.01, output_dir: "full" },
      directory,
      through: ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", ...program],
      command: [
        "sh",
        "-c",
        "i=0; while [ $i -lt 900 ]; do /bin/true; i=$((i+1)); done; rm full/ballast; i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done",
      ],
    });
    const { code } = await run.finished;
    assert.equal(code, 0);
    const table = parseTable(readFileSync(join(directory, "kept", "cpu.csv")));
    const record = JSON.parse(readFileSync(join(directory, "kept", "run.json"), "utf8")) as ReturnType<
      Run["record"]
    >;
    assert.equal(record.modules.cpu?.rows, table.rows.length);
    assert.ok((record.modules.cpu.events_lost ?? 0) > 0, "loss is never silent");
    assert.equal(record.exit_code, 0);
  });
});

test("200 processes exiting at once: each its END row and its CPU time", async (t) => {
  const run = new Run(t, { config: everything, command: [workload("forkstorm"), "200", "together"] });
  const { stdout } = await run.quietly();
  const children = stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" ").map(Number));
  assert.equal(children.length, 200);
  for (const file of ["cpu.csv", "mem.csv", "network.csv"]) {
    const table = run.table(file);
    assert.equal(table.pids().size, 201, file);
    for (const pid of table.pids()) assert.equal(table.ends(pid).length, 1, `${file}: one END row of ${pid}`);
  }
  const table = run.table("cpu.csv");
  for (const [pid = 0, used = 0] of children)
    close(`ON CPU of ${pid}`, table.sum("ON CPU", table.of(pid)), used / 1000, 0.01, 2);
  for (const module of Object.values(run.record().modules)) assert.equal(module.events_lost, 0);
});
