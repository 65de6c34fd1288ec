// SPDX-License-Identifier: MIT
// Looking at some of a stream's records while the file gets all of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { EventTap, TapOptions, TappedEvent } from "libbpf-ts";
import { CPUS, Streaming, type Sample } from "./stream-support.js";
import { until } from "./support.js";

/** A tap of stream 2, and what it has told. */
function tapped(streaming: Streaming, options: Omit<TapOptions<Sample>, "onEvents"> = {}) {
  const { writer, file } = streaming.writing("a.csv");
  const events: TappedEvent<Sample>[] = [];
  const told = { calls: 0, skipped: 0 };
  const tap: EventTap<TappedEvent<Sample>> = writer.tap(2, streaming.object.btf, "struct sample", {
    ...options,
    onEvents: (some, skipped) => {
      events.push(...some);
      told.calls++;
      told.skipped += skipped;
    },
  });
  return { writer, file, tap, events, told };
}

test("records as values, with the process they are about, a little later", async () => {
  using streaming = new Streaming();
  const { writer, tap, events, told } = tapped(streaming);
  streaming.know(1, 100, "sixteen letters!");
  streaming.emit(1, 2);
  streaming.rename(1, 101, "née");
  streaming.emit(1, 1, 1);
  await until(() => events.length === 3);
  const { event } = events[0]?.record ?? {};
  assert.deepEqual([event?.stream, event?.source, typeof event?.ns], [2, 1, "bigint"]);
  const seen = events.map(({ record, pid, name }) => [record.sequence, record.cpu, pid, name]);
  assert.deepEqual(seen, [
    [0n, 0, 100, "sixteen letters!"],
    [1n, 0, 100, "sixteen letters!"],
    [2n, 1 % CPUS, 101, "née"],
  ]);
  assert.ok(told.calls <= 3 && told.skipped === 0);
  tap.close();
  tap.close();
  streaming.emit(1, 10);
  await writer.sync();
  await sleep(100);
  tap.take();
  assert.equal(events.length, 3);
  assert.equal(streaming.rows("a.csv").length, 13);
});

test("records as the lines they are in the file", async () => {
  using streaming = new Streaming();
  const { writer } = streaming.writing("a.csv");
  const table = streaming.table();
  const lines: string[] = [];
  let passedOver = 0;
  const tap = writer.tapRows(2, table, {
    perSecond: 1000,
    onRows: (rows, skipped) => {
      lines.push(...rows);
      passedOver += skipped;
    },
  });
  streaming.know(1, 100, "a,b");
  streaming.emit(1, 20);
  await writer.sync();
  tap.take();
  assert.equal(passedOver, 0);
  assert.equal(lines.length, 20);
  assert.deepEqual(
    lines.map((line) => line.slice(line.indexOf(",") + 1, -1)),
    streaming.rows("a.csv"),
  );
  tap.close();
});

test("only what matches; with what is passed over that is all", async () => {
  using streaming = new Streaming();
  const where = [
    { field: "cpu", is: 0 },
    { field: "event.source", not: 2 },
  ];
  const { writer, tap, events, told } = tapped(streaming, { where, perSecond: 100 });
  let matching = 0;
  for (let run = 0; run < 60; run++) {
    streaming.emit(1, 50, run);
    streaming.emit(2, 50, run);
    if (run % CPUS === 0) matching += 50;
    if (run % 10 === 0) await sleep(20);
  }
  await writer.sync();
  tap.take();
  assert.equal(events.length + told.skipped, matching);
  assert.ok(events.length >= 100 && events.length < 300, String(events.length));
  assert.ok(events.every(({ record }) => record.cpu === 0 && record.event.source === 1));
  assert.equal(streaming.rows("a.csv").length, 6000);
});

test("who takes nothing keeps nobody waiting", async () => {
  using streaming = new Streaming();
  const { writer, file, tap, events, told } = tapped(streaming, { perSecond: 1e9 });
  const end = Date.now() + 20000;
  // Without a turn of the event loop the tap is not told, but the file grows.
  for (let run = 1; run <= 200; run++) {
    streaming.emit(1, 1000, run);
    while (run % 10 === 0 && file.figures().rows < (run - 10) * 1000) assert.ok(Date.now() < end);
  }
  assert.equal(told.calls, 0);
  await writer.sync();
  tap.take();
  assert.equal(events.length + told.skipped, 200000);
  assert.ok(events.length > 10000 && events.length < 200000);
  assert.ok(streaming.rows("a.csv").length === 200000);
  // It is told again, and of everything in between.
  streaming.emit(1, 10);
  await until(() => events.at(-1)?.record.sequence === 200009n);
});

test("of a stream that is bound, and of fields that are there", () => {
  using streaming = new Streaming();
  const { writer, tap } = tapped(streaming);
  const { btf } = streaming.object;
  const options = { onEvents: () => undefined };
  assert.throws(() => writer.tap(3, btf, "struct sample", options), /a stream that is bound/);
  assert.throws(() => writer.tap(2, btf, "struct simple", options), /did you mean struct sample/);
  const where = [{ field: "sequense", is: 1 }];
  assert.throws(() => writer.tap(2, btf, "struct sample", { ...options, where }), /did you mean sequence/);
  writer.close();
  tap.take();
  tap.close();
  assert.throws(() => writer.tap(2, btf, "struct sample", options), { code: "EBADF" });
});
