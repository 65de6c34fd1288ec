// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { BpfError, elfSymbols, enableRunTimeStatistics } from "libbpf-ts";
import { load, PROBED, Probed, u32, until } from "./support.js";

const loaded = load(
  "fork_seen",
  "fork_tracepoint",
  "raw",
  "on_cpu",
  "on_hit",
  "on_return",
  "on_sample",
  "on_packet",
  "tasks",
  "add_up",
);
after(() => {
  loaded.close();
});
loaded.variable("watched_tgid").set(process.pid);
const read = (name: string): bigint => loaded.variable<bigint>(name).get();
const counts = loaded.map<number, bigint>("counts");

test("tp_btf, counted against what we did, and silent after close", () => {
  const link = loaded.program("fork_seen").attach();
  assert.equal(link.closed, false);
  const before = read("forks");
  for (let index = 0; index < 5; index++) execFileSync("true");
  assert.equal(read("forks") - before, 5n);
  link.close();
  link.close();
  assert.equal(link.closed, true);
  execFileSync("true");
  assert.equal(read("forks") - before, 5n);
});

test("a classic tracepoint, tracefs mounted or not", () => {
  using link = loaded.program("fork_tracepoint").attach();
  assert.equal(link.closed, false);
  const before = read("tracepoint_hits");
  execFileSync("true");
  execFileSync("true");
  assert.equal(read("tracepoint_hits") - before, 2n);
});

test("a raw tracepoint named at run time", () => {
  const program = loaded.program("raw");
  using link = program.attachRawTracepoint("sys_enter");
  assert.equal(link.closed, false);
  const before = read("raw_hits");
  readFileSync("/proc/self/stat");
  assert.ok(read("raw_hits") - before >= 3n); // open, read, close at least
  assert.throws(
    () => program.attachRawTracepoint("no_such_tracepoint"),
    (error) =>
      error instanceof BpfError && error.code === "ENOENT" && error.hint.includes("tracepoint"),
  );
});

test("uprobe in one process, with a cookie; uretprobe", async () => {
  const one = await Probed.start();
  const two = await Probed.start();
  const hit = loaded.program("on_hit").attachUprobe({
    path: PROBED,
    symbol: "probe_me",
    pid: one.pid,
    cookie: 0xfedcba9876543210n,
  });
  const back = loaded
    .program("on_return")
    .attachUprobe({ path: PROBED, symbol: "probe_me", pid: one.pid, retprobe: true });
  assert.equal(await one.tell("c"), "7");
  assert.equal(await one.tell("c"), "7");
  await two.tell("c");
  assert.equal(counts.get(one.pid), 2n);
  assert.equal(counts.get(two.pid), undefined);
  assert.equal(read("returns"), 14n);
  assert.equal(read("cookie_seen"), 0xfedcba9876543210n);
  hit.close();
  back.close();
  await one.tell("c");
  assert.equal(counts.get(one.pid), 2n);
  await Promise.all([one.stop(), two.stop()]);
});

test("uprobe in every process, by offset", async () => {
  const one = await Probed.start();
  const offset = elfSymbols(PROBED, { names: ["probe_me"] })[0]?.offset;
  assert.ok(offset !== undefined);
  using link = loaded.program("on_hit").attachUprobe({ path: PROBED, offset });
  assert.equal(link.closed, false);
  await one.tell("c");
  assert.equal(counts.get(one.pid), 1n);
  await one.stop();
});

test("an unknown function names the closest", () => {
  const program = loaded.program("on_hit");
  assert.throws(
    () => program.attachUprobe({ path: PROBED, symbol: "probe_em" }),
    /did you mean probe_me/,
  );
  assert.throws(() => program.attachUprobe({ path: "/no/such/file", symbol: "f" }), BpfError);
  assert.throws(() => program.attachUprobe({ path: PROBED }), TypeError);
});

test("cgroup", async () => {
  const mount = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .find((words) => words[2] === "cgroup2")?.[1];
  assert.ok(mount, "cgroup2 is mounted nowhere");
  using link = loaded.program("on_packet").attachCgroup(mount);
  assert.equal(link.closed, false);
  const before = read("packets");
  const socket = createSocket("udp4");
  const send = (): Promise<void> =>
    new Promise((resolve, reject) => {
      socket.send("x", 9, "127.0.0.1", (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  for (let index = 0; index < 3; index++) await send();
  socket.close();
  assert.ok(read("packets") - before >= 3n);
  assert.throws(() => loaded.program("on_packet").attachCgroup("/proc"), BpfError);
  assert.throws(() => loaded.program("on_packet").attachCgroup("/nowhere"), /\/nowhere/);
});

test("perf event: samples of this process", async () => {
  const PERF_TYPE_SOFTWARE = 1;
  const PERF_COUNT_SW_CPU_CLOCK = 0;
  const link = loaded.program("on_sample").attachPerfEvent({
    type: PERF_TYPE_SOFTWARE,
    config: PERF_COUNT_SW_CPU_CLOCK,
    sampleFrequency: 1000,
    pid: process.pid,
  });
  await until(() => {
    for (let end = Date.now() + 20; Date.now() < end; );
    return read("samples") >= 10n;
  });
  link.close();
  const after = read("samples");
  for (let end = Date.now() + 50; Date.now() < end; );
  assert.equal(read("samples"), after);
  assert.throws(
    () => loaded.program("on_sample").attachPerfEvent({ type: 1, config: 0, pid: 2 ** 22 + 1 }),
    (error) => error instanceof BpfError && error.code === "ESRCH",
  );
});

test("iterator", () => {
  const link = loaded.program("tasks").attachIterator();
  const bytes = link.read();
  const threads = new Map<number, number>();
  for (let at = 0; at < bytes.length; at += 8) {
    threads.set(bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at));
  }
  assert.equal(threads.get(process.pid), process.pid);
  assert.ok([...threads.values()].filter((tgid) => tgid === process.pid).length > 4);
  assert.ok(link.read().length > 0, "again");
  link.close();
  assert.throws(() => link.read(), /it is closed/);
  using other = loaded.program("fork_seen").attach() as ReturnType<
    ReturnType<typeof loaded.program>["attachIterator"]
  >;
  assert.throws(() => other.read(), BpfError);
});

test("test run: context, return value, CPU", () => {
  assert.equal(loaded.program("add_up").testRun({ context: u32(0, 0) }), 43);
  const program = loaded.program("on_cpu");
  const context = Buffer.alloc(16);
  context.writeBigUInt64LE(0x1122334455667788n);
  const cpus = readFileSync("/sys/devices/system/cpu/online", "utf8").trim();
  const last = Number(/(\d+)$/.exec(cpus)?.[1] ?? 0);
  for (const cpu of new Set([0, last])) {
    program.testRun({ context, onCpu: cpu });
    assert.equal(read("last_cpu"), BigInt(cpu));
    assert.equal(read("arguments"), 0x1122334455667788n);
  }
  assert.throws(() => program.testRun({ context, onCpu: 4095 }), BpfError);
});

test("run-time statistics", () => {
  const program = loaded.program("add_up");
  const statistics = enableRunTimeStatistics();
  const before = program.stats();
  for (let index = 0; index < 100; index++) program.testRun({ context: u32(0, 0) });
  const now = program.stats();
  statistics.close();
  statistics.close();
  assert.equal(now.runCount - before.runCount, 100n);
  assert.ok(now.runTimeNs > before.runTimeNs);
  assert.equal(now.recursionMisses, 0n);
  assert.ok(program.id > 0);
  assert.ok(program.fd > 2);
});

test("closing the object closes its links", () => {
  const object = load("fork_seen");
  const link = object.program("fork_seen").attach();
  object.close();
  assert.equal(link.closed, true);
});

test("a process that closes nothing ends by itself, and nothing stays attached", () => {
  const script = `
    import { RingBuffer } from "libbpf-ts";
    import { load } from ${JSON.stringify(new URL("support.js", import.meta.url).href)};
    const loaded = load("fork_seen", "emit");
    loaded.program("fork_seen").attach();
    new RingBuffer([loaded.map("ring")], { onReadable() {} });
    console.log(loaded.program("fork_seen").id);
  `;
  const result = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: new URL("..", import.meta.url),
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.equal(result.status, 0, result.stderr);
  assert.ok(Number(result.stdout) > 0);
});
