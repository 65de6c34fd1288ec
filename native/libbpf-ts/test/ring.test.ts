// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BpfError, RingBuffer } from "libbpf-ts";
import { load, u32, until } from "./support.js";

const loaded = load("emit", "emit_big");
after(() => {
  loaded.close();
});
const ring = loaded.map("ring");
const other = loaded.map("other_ring");
const packet = loaded.btf.decoder<{ sequence: number; cpu: number }>("struct packet");

const NO_WAKEUP = 1;

/** `records` reserved, of which three of four are submitted. */
function emit(records: number, flags = 0): void {
  assert.equal(loaded.program("emit").testRun({ context: u32(records, flags) }), 0);
}

test("records arrive in order, discarded ones do not, each with its ring", () => {
  using reader = new RingBuffer([ring, other]);
  emit(100);
  const sequences: number[] = [];
  let odd: Buffer | undefined;
  const count = reader.consume((record, index) => {
    if (index === 1) odd = Buffer.from(record);
    else sequences.push(packet.decode(record).sequence);
  });
  assert.equal(count, 76);
  assert.deepEqual(
    sequences,
    Array.from({ length: 100 }, (_, index) => index).filter((index) => index % 4 !== 3),
  );
  assert.deepEqual(odd, u32(1, 2, 3).subarray(0, 9));
  assert.equal(reader.consume(() => undefined), 0);
});

test("a limit leaves the rest for the next call", () => {
  using reader = new RingBuffer([ring]);
  using rest = new RingBuffer([other]);
  emit(20);
  rest.consume(() => undefined);
  const sequences: number[] = [];
  const take = (record: Buffer): void => {
    sequences.push(packet.decode(record).sequence);
  };
  assert.equal(reader.consume(take, 0), 0);
  assert.equal(reader.consume(take, 4), 4);
  assert.equal(reader.consume(take), 11);
  assert.deepEqual(sequences.slice(0, 5), [0, 1, 2, 4, 5]);
});

test("a handler that throws loses its record and no other", () => {
  using reader = new RingBuffer([ring, other]);
  emit(8);
  let seen = 0;
  assert.throws(() => {
    reader.consume(() => {
      if (++seen === 2) throw new Error("mine");
    });
  }, /mine/);
  assert.equal(reader.consume(() => undefined), 5);
});

test("a handler cannot consume", () => {
  using reader = new RingBuffer([ring, other]);
  emit(1);
  assert.throws(() => {
    reader.consume(() => {
      reader.consume(() => undefined);
    });
  }, /from its own handler/);
  reader.consume(() => undefined);
});

test("batches have the documented layout and keep their memory", () => {
  using reader = new RingBuffer([ring, other]);
  emit(2);
  const { bytes, count } = reader.consumeBatch();
  assert.equal(count, 3);
  assert.equal(bytes.length, 16 + 16 + 24);
  assert.deepEqual(bytes.subarray(0, 12), u32(8, 0, 0));
  assert.deepEqual([bytes.readUInt32LE(16), bytes.readUInt32LE(24)], [8, 1]);
  assert.deepEqual([bytes.readUInt32LE(32), bytes.readUInt32LE(36)], [9, 1]);
  const copy = Buffer.from(bytes);
  emit(2);
  assert.equal(reader.consumeBatch(1).count, 1, "never less than one record");
  assert.equal(reader.consumeBatch(32).count, 1, "the next of the two rings");
  assert.deepEqual(bytes, copy);
  assert.equal(reader.consumeBatch().count, 1);
  assert.deepEqual(reader.consumeBatch(), { bytes: Buffer.alloc(0), count: 0 });
});

test("a record larger than usual, and many times around the ring", () => {
  using reader = new RingBuffer([ring]);
  for (let round = 0; round < 20; round++) {
    assert.equal(loaded.program("emit_big").testRun(), 0);
    let length = 0;
    reader.consume((record) => {
      length = record.length;
      assert.deepEqual([record[0], record[19999]], [0x78, 0x79]);
    });
    assert.equal(length, 20000);
  }
  assert.equal(loaded.program("emit_big").testRun(), 0);
  assert.equal(reader.consumeBatch(100).bytes.length, 20008);
});

test("onReadable comes once until something is consumed", async () => {
  let calls = 0;
  using reader = new RingBuffer([ring, other], { onReadable: () => calls++ });
  emit(4);
  await until(() => calls === 1);
  emit(4);
  await sleep(50);
  assert.equal(calls, 1);
  assert.equal(reader.consume(() => undefined), 8);
  await sleep(20);
  assert.equal(calls, 1, "nothing left, nothing told");
  emit(4);
  await until(() => calls === 2);
  // A limit leaves records behind: told again without the kernel's help.
  reader.consume(() => undefined, 1);
  await until(() => calls === 3);
  reader.consume(() => undefined);
});

test("without a wake-up nobody is told, but the records are there", async () => {
  let calls = 0;
  using reader = new RingBuffer([ring, other], { onReadable: () => calls++ });
  await sleep(20);
  emit(4, NO_WAKEUP);
  await sleep(50);
  assert.equal(calls, 0);
  assert.equal(reader.consume(() => undefined), 4);
});

test("what a throwing handler left behind is told of", async () => {
  let calls = 0;
  using reader = new RingBuffer([ring, other], { onReadable: () => calls++ });
  emit(4);
  await until(() => calls === 1);
  assert.throws(() => {
    reader.consume(() => {
      throw new Error("mine");
    });
  });
  await until(() => calls === 2);
  assert.equal(reader.consume(() => undefined), 3);
});

test("closing, twice, from the callback, and using it after", async () => {
  let closedInside = false;
  const reader: RingBuffer = new RingBuffer([ring], {
    onReadable: () => {
      reader.close();
      closedInside = true;
    },
  });
  emit(1);
  await until(() => closedInside);
  reader.close();
  assert.equal(reader.closed, true);
  assert.throws(
    () => reader.consume(() => undefined),
    (error) => error instanceof BpfError && error.code === "EBADF",
  );
  assert.throws(() => reader.consumeBatch(), BpfError);
  new RingBuffer([ring, other]).consume(() => undefined);
});

test("the object closes its ring buffers", () => {
  const object = load("emit");
  const reader = new RingBuffer([object.map("ring")], { onReadable: () => undefined });
  object.close();
  assert.equal(reader.closed, true);
  assert.throws(() => reader.consume(() => undefined), BpfError);
  assert.throws(() => new RingBuffer([object.map("ring")]), BpfError);
});

test("only ring buffers", () => {
  assert.throws(() => new RingBuffer([loaded.map("counts")]), /not a ring buffer map/);
  assert.throws(() => new RingBuffer([]), TypeError);
  assert.throws(() => new RingBuffer([{} as never]), TypeError);
});
