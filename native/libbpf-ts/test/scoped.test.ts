// SPDX-License-Identifier: MIT
// Uprobes that fire in one process and what it forks, and touch no other.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { BpfError, elfSymbols, openTracefs, type UprobeEvent } from "libbpf-ts";
import { load, PROBED, Probed } from "./support.js";

const loaded = load("on_hit", "on_return");
const tracefs = openTracefs();
after(() => {
  tracefs.close();
  loaded.close();
});
const counts = loaded.map<number, bigint>("counts");
const group = `libbpf_ts_${String(process.pid)}`;
const offset = elfSymbols(PROBED, { names: ["probe_me"] })[0]?.offset ?? 0;

let defined = 0;
function define(options: { path?: string; retprobe?: boolean } = {}): UprobeEvent {
  const { path = PROBED, retprobe = false } = options;
  return tracefs.defineUprobe({ group, name: `p${String(defined++)}`, path, offset, retprobe });
}

test("the tree is counted, others have no breakpoint", async () => {
  const inside = await Probed.start();
  const outside = await Probed.start();
  const original = await outside.tell("b");
  const event = define();
  assert.ok(event.id > 0);
  assert.equal(event.include(inside.pid), true);
  const link = loaded
    .program("on_hit")
    .attachScopedUprobe({ event, cookie: 42n, anchorPid: inside.pid });

  await inside.tell("c");
  assert.equal(counts.get(inside.pid), 1n);
  assert.equal(loaded.variable("cookie_seen").get(), 42n);
  assert.notEqual(await inside.tell("b"), original);

  await outside.tell("c");
  assert.equal(counts.get(outside.pid), undefined);
  assert.equal(await outside.tell("b"), original);

  // The kernel drops a program from an inherited event when the first inherited child exits.
  for (let round = 0; round < 3; round++) {
    const child = Number(await inside.tell("f"));
    assert.equal(counts.get(child), 2n, `child ${String(round)}`);
  }
  await inside.tell("c");
  assert.equal(counts.get(inside.pid), 2n);

  const late = await Probed.start();
  await late.tell("c");
  assert.equal(counts.get(late.pid), undefined);

  link.close();
  await inside.tell("c");
  assert.equal(counts.get(inside.pid), 2n);
  event.close();
  assert.equal(await inside.tell("b"), original);
  await Promise.all([inside.stop(), outside.stop(), late.stop()]);
});

test("return values of the tree", async () => {
  const inside = await Probed.start();
  const outside = await Probed.start();
  const event = define({ retprobe: true });
  event.include(inside.pid);
  const link = loaded.program("on_return").attachScopedUprobe({ event, anchorPid: inside.pid });
  const before = loaded.variable<bigint>("returns").get();
  await inside.tell("c");
  await outside.tell("c");
  await inside.tell("f");
  assert.equal(loaded.variable<bigint>("returns").get() - before, 7n + 5n + 6n);
  event.close();
  assert.equal(link.closed, true);
  assert.equal(event.closed, true);
  assert.throws(() => event.include(inside.pid), /it is closed/);
  await Promise.all([inside.stop(), outside.stop()]);
});

test("two trees under one event, one leaves", async () => {
  const one = await Probed.start();
  const two = await Probed.start();
  const event = define();
  event.include(one.pid);
  event.include(two.pid);
  using link = loaded.program("on_hit").attachScopedUprobe({ event, anchorPid: one.pid });
  assert.equal(link.closed, false);
  await one.tell("c");
  await one.stop(); // the anchor is gone
  await two.tell("c");
  assert.equal(counts.get(two.pid), 1n);
  event.close();
  await two.stop();
});

test("everyone", async () => {
  const early = await Probed.start();
  const event = define();
  event.includeEveryone();
  using link = loaded.program("on_hit").attachScopedUprobe({ event, anchorPid: -1 });
  assert.equal(link.closed, false);
  const late = await Probed.start();
  await early.tell("c");
  await late.tell("c");
  assert.equal(counts.get(early.pid), 1n);
  assert.equal(counts.get(late.pid), 1n);
  event.close();
  await Promise.all([early.stop(), late.stop()]);
});

test("hostile file names do not reach the kernel's parser", async () => {
  const folder = mkdtempSync(join(tmpdir(), "libbpf ts:0x0 \n-:x "));
  const path = join(folder, "p r:o\nbed %d");
  copyFileSync(PROBED, path);
  const event = define({ path });
  event.close();
  rmSync(folder, { recursive: true });
  const probed = await Probed.start();
  await probed.stop();
});

test("what cannot be defined", () => {
  const bad = (change: object): (() => UprobeEvent) => {
    return () =>
      tracefs.defineUprobe({ group, name: "bad", path: PROBED, offset, ...change });
  };
  assert.throws(bad({ group: "a b" }), /A-Za-z0-9_/);
  assert.throws(bad({ name: "a/b" }), /A-Za-z0-9_/);
  assert.throws(bad({ group: "" }), BpfError);
  assert.throws(bad({ name: "x".repeat(64) }), BpfError);
  assert.throws(bad({ path: "/no/such/file" }), (error) => {
    return error instanceof BpfError && error.code === "ENOENT";
  });
  assert.throws(bad({ offset: -1 }), TypeError);
  const event = define();
  assert.throws(
    () => tracefs.defineUprobe({ group, name: event.name, path: PROBED, offset, retprobe: true }),
    BpfError,
  );
  event.close();
});

test("tasks that are not there, and not tasks", () => {
  const event = define();
  assert.equal(event.include(2 ** 22 + 1), false);
  assert.throws(() => event.include(0), TypeError);
  assert.throws(() => event.include(-1), TypeError);
  const program = loaded.program("on_hit");
  assert.throws(
    () => program.attachScopedUprobe({ event, anchorPid: 2 ** 22 + 1 }),
    (error) => error instanceof BpfError && error.code === "ESRCH",
  );
  assert.throws(() => program.attachScopedUprobe({ event: {} as never, anchorPid: 1 }), TypeError);
  event.close();
  assert.throws(() => program.attachScopedUprobe({ event, anchorPid: process.pid }), BpfError);
});

test("what a killed process left is removed, what is alive stays", () => {
  const script = `
    import { openTracefs } from "libbpf-ts";
    openTracefs().defineUprobe({
      group: "libbpf_ts_left_" + process.pid, name: "p", path: ${JSON.stringify(PROBED)},
      offset: ${String(offset)},
    });
    process.kill(process.pid, "SIGKILL");
  `;
  const killed = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: new URL("..", import.meta.url),
  });
  assert.equal(killed.signal, "SIGKILL");
  const asked: string[] = [];
  const name = `libbpf_ts_left_${String(killed.pid)}`;
  const isDead = (candidate: string): boolean => {
    asked.push(candidate);
    return candidate === name;
  };
  assert.equal(tracefs.removeStale("libbpf_ts_left_", () => false), 0);
  assert.equal(tracefs.removeStale("libbpf_ts_left_", isDead), 1);
  assert.equal(tracefs.removeStale("libbpf_ts_left_", isDead), 0);
  assert.deepEqual([...new Set(asked)], [name]);
});

test("tracepoints have numbers", () => {
  assert.ok(tracefs.tracepointId("sched", "sched_switch") > 0);
  assert.throws(() => tracefs.tracepointId("sched", "no_such"), BpfError);
  assert.throws(() => tracefs.tracepointId("..", "x"), TypeError);
});

test("closing tracefs closes its events", () => {
  const another = openTracefs();
  const event = another.defineUprobe({ group, name: "last", path: PROBED, offset });
  another.close();
  another.close();
  assert.equal(event.closed, true);
  assert.throws(() => another.defineUprobe({ group, name: "x", path: PROBED, offset }), BpfError);
  assert.throws(() => another.removeStale(group, () => true), BpfError);
});
