// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { BpfError, kernel } from "libbpf-ts";
import { load, u32 } from "./support.js";

const loaded = load();
after(() => {
  loaded.close();
});

const code = (expected: string) => (error: unknown) =>
  error instanceof BpfError && error.code === expected;

test("get, set, delete and update modes", () => {
  const map = loaded.map<number, bigint>("counts");
  assert.equal(map.get(1), undefined);
  map.set(1, 10n);
  assert.equal(map.get(1), 10n);
  assert.throws(() => {
    map.set(1, 11n, "create");
  }, code("EEXIST"));
  assert.throws(() => {
    map.set(2, 11n, "exist");
  }, code("ENOENT"));
  map.set(1, 12n, "exist");
  assert.equal(map.get(1), 12n);
  assert.equal(map.delete(1), true);
  assert.equal(map.delete(1), false);
});

test("struct keys and values", () => {
  const map = loaded.map<{ a: number; b: number }, { x: number; y: number }>("points");
  map.set({ a: 1, b: 2 }, { x: -1, y: -2 });
  assert.deepEqual(map.get({ a: 1, b: 2 }), { x: -1, y: -2 });
  assert.equal(map.get({ a: 2, b: 1 }), undefined);
  assert.throws(() => map.get({ a: 1 } as never), /key of points.*also needs b/);
  map.delete({ a: 1, b: 2 });
});

test("fifty thousand entries in batches", () => {
  const map = loaded.map<{ a: number; b: number }, { x: number; y: number }>("points");
  const count = 50_000;
  for (let a = 0; a < count; a++) map.set({ a, b: a * 2 }, { x: a, y: -a });
  const entries = map.entries();
  assert.equal(entries.length, count);
  assert.equal(new Set(entries.map(([key]) => key.a)).size, count);
  for (const [key, value] of entries) {
    assert.ok(key.b === key.a * 2 && value.x === key.a && value.y + key.a === 0);
  }
  const raw = map.entriesRaw();
  assert.deepEqual([raw.count, raw.keys.length, raw.values.length], [count, count * 8, count * 8]);
  const drained = map.drain();
  assert.equal(drained.length, count);
  assert.equal(map.entries().length, 0);
});

test("deleteMany steps over what is not there", () => {
  const map = loaded.map<number, bigint>("counts");
  for (let key = 0; key < 1000; key += 2) map.set(key, 1n);
  const keys = Array.from({ length: 1000 }, (_, index) => index);
  assert.equal(map.deleteMany(keys), 500);
  assert.equal(map.deleteMany(keys), 0);
  assert.equal(map.deleteMany([]), 0);
  assert.deepEqual(map.entries(), []);
});

test("a full map says so", () => {
  const map = loaded.map<number, number>("tiny");
  map.set(1, 1);
  map.set(2, 2);
  assert.throws(
    () => {
      map.set(3, 3);
    },
    (error) => code("E2BIG")(error) && (error as Error).message.includes('max_entries (2)'),
  );
});

test("arrays are read whole and cannot be drained", () => {
  const map = loaded.map<number, { x: number; y: number }>("slots");
  map.set(2, { x: 5, y: 6 });
  assert.deepEqual(map.entries().map(([key]) => key), [0, 1, 2, 3]);
  assert.deepEqual(map.get(2), { x: 5, y: 6 });
  assert.throws(() => map.drain(), BpfError);
  assert.throws(() => {
    map.set(4, { x: 0, y: 0 });
  }, code("E2BIG"));
  assert.throws(() => map.delete(0), BpfError);
});

test("one value per possible CPU", () => {
  const cpus = kernel.possibleCpus();
  const map = loaded.map<number, number>("per_cpu");
  map.set(1, 9);
  assert.deepEqual(map.getPerCpu(1), Array<number>(cpus).fill(9));
  assert.equal(map.getRaw(u32(1))?.length, cpus * 8);
  const entries = map.entriesPerCpu();
  assert.deepEqual(entries[2], [2, Array<number>(cpus).fill(0)]);
  assert.equal(map.getPerCpu(3), undefined);
  assert.throws(() => map.get(1), /use getPerCpu/);
  assert.throws(() => map.entries(), /use entriesPerCpu/);
  assert.throws(() => loaded.map("counts").getPerCpu(1), /not per CPU/);
  // The value alone is not enough: every CPU's is wanted.
  assert.throws(() => {
    map.setRaw(u32(1), u32(1));
  }, code("EMSGSIZE"));
});

test("per-CPU hashes, values of a size that is padded", () => {
  const cpus = kernel.possibleCpus();
  const map = loaded.map<number, { low: number; high: number; third: number }>("per_cpu_hash");
  map.set(5, { low: 1, high: 2, third: 3 });
  map.set(6, { low: 4, high: 5, third: 6 });
  const bytes = map.getRaw(u32(5));
  assert.equal(bytes?.length, cpus * 16);
  bytes.writeUInt32LE(100, (cpus - 1) * 16);
  map.setRaw(u32(5), bytes);
  assert.equal(map.getPerCpu(5)?.at(-1)?.low, 100);
  assert.equal(map.entriesPerCpu().length, 2);
  assert.equal(map.drainPerCpu().length, 2);
  assert.equal(map.entriesPerCpu().length, 0);
});

test("maps without BTF are bytes", () => {
  const map = loaded.map<Buffer, Buffer>("prefixes");
  const key = Buffer.from([8, 0, 0, 0, 10, 0, 0, 0]);
  map.set(key, u32(7));
  assert.deepEqual(map.get(key), u32(7));
  assert.deepEqual(map.entries(), [[key, u32(7)]]);
  assert.throws(() => map.get(Buffer.alloc(7)), TypeError);
  assert.equal(map.drain().length, 1);
  assert.equal(map.get(key), undefined);
});

test("raw access checks every length in the addon", () => {
  const map = loaded.map("counts");
  assert.throws(() => map.getRaw(Buffer.alloc(3)), code("EMSGSIZE"));
  assert.throws(() => map.getRaw(Buffer.alloc(5)), code("EMSGSIZE"));
  assert.throws(() => map.deleteRaw(Buffer.alloc(0)), code("EMSGSIZE"));
  assert.throws(() => {
    map.setRaw(u32(1), Buffer.alloc(7));
  }, code("EMSGSIZE"));
  assert.throws(() => map.getRaw("1234" as never), TypeError);
  assert.throws(() => map.getRaw(new Uint32Array(1) as never), TypeError);
  map.setRaw(u32(1), Buffer.alloc(8, 1));
  assert.equal(map.deleteRaw(u32(1)), true);
  assert.deepEqual(map.drainRaw(), { count: 0, keys: Buffer.alloc(0), values: Buffer.alloc(0) });
});

test("a value of the wrong type does not reach the kernel", () => {
  const map = loaded.map<number, bigint>("counts");
  assert.throws(() => {
    map.set(-1, 0n);
  }, /key of counts must be from 0/);
  assert.throws(() => {
    map.set(1, "many" as never);
  }, /value of counts must be an integer/);
  assert.equal(map.get(1), undefined);
});
