// SPDX-License-Identifier: MIT
// Records from real rings, in files: what is in them, when, and what becomes of the rest.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { BpfError } from "libbpf-ts";
import { CPUS, HEADER, protocol, Streaming } from "./stream-support.js";

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

test("rows in the order of time, whatever CPU they come from; the last one last", async () => {
  using streaming = new Streaming();
  const { writer, file } = streaming.writing("a.csv");
  streaming.know(1, 100, "one");
  writer.introduce(2, 200, "=two");
  for (const run of range(0, 20)) {
    streaming.emit(1, 2, run);
    streaming.emit(2, 1, run + 1);
  }
  streaming.rename(1, 101, "renamed");
  streaming.emit(1, 1);
  streaming.lose(1, 5);
  streaming.emit(1, 1, 1);
  writer.lost(2, 2, 7);
  writer.end([1, 2]);
  await writer.sync();
  const expected = range(0, 20).flatMap((run) => [
    `100,one,${2 * run},${run % CPUS}`,
    `100,one,${2 * run + 1},${run % CPUS}`,
    `200,'=two,${run},${(run + 1) % CPUS}`,
  ]);
  expected.push("101,renamed,40,0", "101,renamed,LOST,5", `101,renamed,41,${1 % CPUS}`);
  expected.push("200,'=two,LOST,7", "END,101,renamed,,", "END,200,'=two,,");
  assert.deepEqual(streaming.rows("a.csv"), expected);
  assert.deepEqual(writer.losses(2), [
    { pid: 101, name: "renamed", count: 5 },
    { pid: 200, name: "=two", count: 7 },
  ]);
  const { bytes, ...figures } = file.figures();
  assert.equal(bytes, streaming.bytes("a.csv").length);
  assert.deepEqual(figures, { rows: 66, events: 62, rowsLost: 0, eventsLost: 0, files: 1, problem: 0 });
});

test("times are those of the records, and never go back", async () => {
  using streaming = new Streaming();
  const { writer } = streaming.writing("a.csv");
  const before = process.hrtime.bigint();
  for (const run of range(0, 50)) streaming.emit(1, 20, run);
  const after = process.hrtime.bigint();
  await writer.sync();
  const lines = streaming.bytes("a.csv").toString().split("\n").slice(1, -1);
  const times = lines.map((line) => Number(line.split(",", 1)[0]));
  assert.equal(times.length, 1000);
  assert.deepEqual(times, times.toSorted((a, b) => a - b));
  assert.ok(Number(before) / 1e9 <= (times[0] ?? 0) + 1e-6 && (times.at(-1) ?? 0) <= Number(after) / 1e9 + 1e-6);
});

test("sync answers when rows are on disk, and not before", async () => {
  using streaming = new Streaming();
  const { writer, file } = streaming.writing("a.csv");
  for (const round of range(1, 51)) {
    streaming.emit(1, 100, round);
    file.append("0,1,appended,,\n", 1);
    await writer.sync();
    assert.equal(streaming.rows("a.csv").length, round * 101);
  }
  // Without one they come by themselves.
  streaming.emit(1, 1);
  await sleep(500);
  assert.equal(streaming.rows("a.csv").length, 5051);
});

test("quiesce: nothing comes after it of a program that was running when it was detached", async () => {
  using streaming = new Streaming({ callsSource: 9 });
  const { writer, file } = streaming.writing("a.csv");
  for (const round of range(0, 10)) {
    const link = streaming.object.program("on_call").attachRawTracepoint("sys_enter");
    await sleep(5 + round);
    link.close();
    await writer.sync(true);
    const { emitted, lost } = streaming.tally(9);
    const { events } = file.figures();
    assert.ok(emitted > 0n && lost === 0n);
    assert.equal(BigInt(events), emitted);
  }
});

test("what finds no room in a ring is told where it is missing", async () => {
  using streaming = new Streaming();
  const writer = streaming.writer(false);
  writer.readEvents(streaming.rings(4096));
  writer.bind(2, streaming.table(), streaming.open(writer, "a.csv"));
  streaming.know(1, 100, "one");
  for (const run of range(0, 40)) {
    streaming.emit(1, 1000, run);
    await sleep(1);
  }
  const { emitted, lost, untold } = streaming.tally(1);
  writer.lost(2, 1, Number(untold));
  await writer.sync();
  let next = 0;
  let told = 0;
  for (const row of streaming.rows("a.csv")) {
    const [, , sequence, count] = row.split(",");
    if (sequence === "LOST") {
      told += Number(count);
      next += Number(count);
    } else {
      assert.equal(Number(sequence), next++);
    }
  }
  assert.ok(lost > 0n);
  assert.deepEqual([BigInt(next), BigInt(told)], [emitted, lost]);
  assert.deepEqual(writer.losses(2), [{ pid: 100, name: "one", count: told }]);
});

test("streams are bound, moved and unbound between records", async () => {
  using streaming = new Streaming();
  const writer = streaming.writer();
  const [first, second, other] = ["a.csv", "b.csv", "c.csv"].map((name) => streaming.open(writer, name));
  assert.ok(first && second && other);
  streaming.emit(1, 1); // of nobody yet
  await writer.sync();
  writer.bind(2, streaming.table(), first);
  writer.bind(5, streaming.table(), other);
  streaming.emit(1, 2);
  streaming.emit(2, 3, 1, 5);
  await writer.sync();
  writer.moveTo(2, second);
  first.close();
  streaming.emit(1, 3);
  writer.end([1]);
  await writer.sync();
  first.append("late\n", 1);
  writer.unbind(2);
  streaming.emit(1, 1);
  streaming.emit(2, 1, 0, 5);
  await writer.sync();
  const rows = (name: string): number => streaming.rows(name).length;
  assert.deepEqual(["a.csv", "b.csv", "c.csv"].map(rows), [2, 4, 5]);
  assert.deepEqual(first.figures().rowsLost, 1);
  assert.throws(() => writer.losses(2), /a stream that is bound/);
  assert.throws(() => {
    writer.moveTo(2, first);
  }, /a stream that is bound/);
});

test("size limit and compression", async () => {
  using streaming = new Streaming();
  const writer = streaming.writer();
  writer.bind(2, streaming.table(), streaming.open(writer, "a.csv", { maxSize: 10000 }));
  writer.bind(3, streaming.table(), streaming.open(writer, "b.csv.gz", { compression: "gzip" }));
  const zstd = streaming.open(writer, "c.csv.zst", { compression: "zstd" });
  for (const stream of [2, 3]) streaming.emit(1, 1000, 0, stream);
  zstd.append("0,1,text,,\n".repeat(1000), 1000);
  await writer.sync();
  const parts = readdirSync(streaming.folder).filter((name) => /^a(\.\d+)?\.csv$/.test(name));
  assert.ok(parts.length > 1);
  assert.equal(parts.reduce((sum, name) => sum + streaming.rows(name).length, 0), 1000);
  assert.equal(gunzipSync(streaming.bytes("b.csv.gz")).toString().split("\n").length, 1002);
  const text = execFileSync("zstd", ["-qdc"], { input: streaming.bytes("c.csv.zst") }).toString();
  assert.equal(text, HEADER + "0,1,text,,\n".repeat(1000));
});

test("two writers and two objects in one process", async () => {
  using one = new Streaming();
  using other = new Streaming();
  const writings = [one.writing("a.csv"), other.writing("a.csv")];
  for (const run of range(0, 50)) {
    one.emit(1, 10, run);
    other.emit(1, 20, run);
  }
  await Promise.all(writings.map(({ writer }) => writer.sync()));
  assert.deepEqual([one.rows("a.csv").length, other.rows("a.csv").length], [500, 1000]);
});

test("closing writes what there is and answers whoever waits", async () => {
  using streaming = new Streaming();
  const { writer, file } = streaming.writing("a.csv");
  streaming.emit(1, 100);
  const syncs = range(0, 20).map(async (index) => {
    await writer.sync(index === 3);
    return streaming.rows("a.csv").length;
  });
  streaming.emit(1, 100, 1);
  file.append("0,1,appended,,\n", 1);
  writer.close();
  writer.close();
  assert.deepEqual(await Promise.all(syncs), syncs.map(() => 201));
  await writer.sync();
  file.close();
  assert.equal(file.figures().rows, 201);
  const closed = { name: "BpfError", code: "EBADF" };
  const calls = [
    () => { file.append("", 0); },
    () => { writer.bind(2, streaming.table(), file); },
    () => { writer.end([1]); },
    () => { writer.lost(2, 1, 1); },
    () => { writer.readEvents(streaming.rings()); },
    () => writer.losses(2),
    () => streaming.open(writer, "b.csv"),
  ];
  for (const call of calls) assert.throws(call, closed);
});

test("the object may go first", async () => {
  using streaming = new Streaming();
  const { writer } = streaming.writing("a.csv");
  streaming.know(1, 100, "one");
  streaming.emit(1, 100);
  streaming.object.close();
  await writer.sync();
  assert.equal(streaming.rows("a.csv").at(-1), "100,one,99,0");
});

test("rings that cannot be made are not there", () => {
  using streaming = new Streaming();
  const writer = streaming.writer(false);
  const refused = (changes: object, error: object): void => {
    assert.throws(() => {
      writer.readEvents({ ...streaming.rings(), ...changes });
    }, error);
    assert.deepEqual(streaming.object.map("rings").entries(), []);
  };
  refused({ bytesPerCpu: 5000 }, { name: "BpfError", code: "EINVAL" });
  refused({ bytesPerCpu: 1024 }, { name: "BpfError", code: "EINVAL" });
  refused({ cpus: [0, 1000] }, { name: "BpfError", code: "E2BIG" });
  refused({ cpus: [0, -1] }, { name: "TypeError" });
  refused({ cpus: [0, "1"] }, { name: "TypeError" });
  refused({ sources: streaming.object.map("tallies") }, { name: "TypeError" });
  const wrong = (part: keyof typeof protocol, change: object, error: RegExp): void => {
    refused({ protocol: { ...protocol, [part]: { ...protocol[part], ...change } } }, error);
  };
  wrong("header", { record: "struct evnt" }, /no struct evnt; did you mean struct event/);
  wrong("header", { source: "sorce" }, /has no sorce; did you mean source.*ENOENT/);
  wrong("header", { time: "stream" }, /struct event.stream: it is no integer of 8 bytes \(EINVAL\)/);
  wrong("header", { stream: "ns" }, /struct event.ns: it is no integer of 4 bytes/);
  wrong("identity", { name: "pid" }, /struct identity.pid: it is no char array/);
  wrong("loss", { count: "of" }, /struct loss.of: it is no integer of 8 bytes/);
  wrong("sources", { pid: "name" }, /struct source.name: it is no integer of 4 bytes/);
  writer.readEvents(streaming.rings());
  assert.equal(streaming.object.map("rings").entries().length, CPUS);
  assert.throws(() => {
    writer.readEvents(streaming.rings());
  }, { name: "BpfError", code: "EBUSY" });
});

test("what cannot be asked for", () => {
  using streaming = new Streaming();
  const { writer, file } = streaming.writing("a.csv");
  const table = streaming.table();
  for (const stream of [0, 1, 16, -1, 2.5]) {
    assert.throws(() => {
      writer.bind(stream, table, file);
    }, TypeError);
  }
  assert.throws(() => {
    file.append("a\0b\n", 1);
  }, TypeError);
  const opening = { fd: 1000, folderFd: -1, name: "a", header: HEADER };
  assert.throws(() => writer.openFile(opening), (error: BpfError) => error.code === "EBADF");
  // Only a writer makes its files.
  const make = file.native.constructor as new () => unknown;
  assert.throws(() => new make(), TypeError);
});
