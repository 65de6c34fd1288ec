// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { BpfError, BpfObject, type DecodedValue } from "libbpf-ts";
import { MAIN } from "./support.js";

const object = BpfObject.open(MAIN);
const { btf } = object;
test.after(() => {
  object.close();
});

const VALUE = {
  u8: 200,
  s8: -100,
  u16: 60000,
  s16: -30000,
  u32: 4000000000,
  s32: -2000000000,
  u64: 18446744073709551615n,
  s64: -9223372036854775808n,
  yes: true,
  text: "grüß dich", // 11 bytes and a NUL
  bytes: Buffer.from([1, 2, 0, 255]),
  numbers: [1, 2, 65535],
  corners: [
    { x: 1, y: -2 },
    { x: -3, y: 4 },
  ],
  colour: 5,
  low: 7,
  middle: 1025,
  negative: -16,
  wide: 0xabcdef0123n,
  whole: 0x00020001,
  first: 1,
  second: 2,
  pointer: 0xffff888000000000n,
  empty: [],
};

test("a record of every kind of field comes back as it went in", () => {
  const decoder = btf.decoder("struct record");
  assert.deepEqual(decoder.decode(decoder.encode(VALUE)), VALUE);
});

test("fields lie where the compiler puts them", () => {
  const decoder = btf.decoder("struct record");
  const bytes = decoder.encode(VALUE);
  const byteOffset = (name: string): number => {
    const field = decoder.fields.find((entry) => entry.name === name);
    assert.ok(field, name);
    return field.bitOffset / 8;
  };
  assert.equal(bytes.readUInt8(byteOffset("u8")), 200);
  assert.equal(bytes.readUInt32LE(byteOffset("u32")), 4000000000);
  assert.equal(bytes.readBigInt64LE(byteOffset("s64")), -9223372036854775808n);
  assert.equal(bytes.readUInt16LE(byteOffset("second")), 2);
  assert.equal(byteOffset("second"), byteOffset("whole") + 2);
  assert.equal(bytes.readUInt8(byteOffset("low")) & 7, 7);
  assert.equal(decoder.fields.find((entry) => entry.name === "middle")?.bitSize, 11);
  assert.equal(bytes.length, decoder.size);
});

test("64-bit integers as numbers, on request", () => {
  const decoder = btf.decoder<Record<string, DecodedValue>>("struct record", { int64: "number" });
  const value = decoder.decode(decoder.encode({ ...VALUE, u64: 5n, s64: -5n }));
  assert.equal(value["u64"], 5);
  assert.equal(value["s64"], -5);
  assert.equal(value["wide"], 0xabcdef0123);
  assert.equal(value["pointer"], 0xffff888000000000);
});

test("an offset into larger memory, and its limits", () => {
  const decoder = btf.decoder("struct point");
  const bytes = Buffer.concat([Buffer.alloc(3), decoder.encode({ x: 7, y: 8 })]);
  assert.deepEqual(decoder.decode(bytes, 3), { x: 7, y: 8 });
  assert.deepEqual(decoder.decode(new Uint8Array(bytes), 3), { x: 7, y: 8 });
  assert.throws(() => decoder.decode(bytes, 4), RangeError);
  assert.throws(() => decoder.decode(bytes, -1), RangeError);
});

test("text that fills its array has no NUL; longer text is refused", () => {
  const decoder = btf.decoder<{ text: string }>("struct record");
  const full = decoder.encode({ ...VALUE, text: "123456789012" });
  assert.equal(decoder.decode(full).text, "123456789012");
  assert.throws(
    () => decoder.encode({ ...VALUE, text: "1234567890123" }),
    /struct record\.text has room for 12 bytes, not 13/,
  );
});

test("wrong values name the field", () => {
  const decoder = btf.decoder<Record<string, unknown>>("struct record");
  const bad = (change: Record<string, unknown>): (() => Buffer) => {
    return () => decoder.encode({ ...VALUE, ...change });
  };
  assert.throws(bad({ u8: 256 }), /record\.u8 must be from 0 to 255, not 256/);
  assert.throws(bad({ s8: -129 }), /record\.s8 must be from -128/);
  assert.throws(bad({ low: 8 }), /record\.low must be from 0 to 7/);
  assert.throws(bad({ u64: -1n }), RangeError);
  assert.throws(bad({ u32: 1.5 }), /record\.u32 must be an integer/);
  assert.throws(bad({ u32: "1" }), TypeError);
  assert.throws(bad({ yes: 2 }), /record\.yes must be a boolean/);
  assert.throws(bad({ bytes: Buffer.alloc(3) }), /record\.bytes must be 4 bytes, not 3 bytes/);
  assert.throws(bad({ numbers: [1, 2] }), /record\.numbers must be an array of 3/);
  assert.throws(bad({ corners: [{ x: 1, y: 2 }, { x: 1 }] }), /corners\[1\].*also needs y/);
  assert.throws(bad({ coulour: 1 }), /has no coulour; did you mean colour\?/);
});

test("enums take names too", () => {
  const decoder = btf.decoder("enum colour");
  assert.equal(decoder.decode(decoder.encode("BLUE")), 6);
  assert.throws(() => decoder.encode("BLEU"), /did you mean BLUE/);
  const type = btf.type("enum colour");
  assert.ok(type.kind === "enum");
  assert.deepEqual(type.values[1], { name: "GREEN", value: 5 });
});

test("one member of an anonymous union is enough", () => {
  const { whole, ...rest } = VALUE;
  assert.equal(whole, 0x00020001);
  const decoder = btf.decoder<Record<string, DecodedValue>>("struct record");
  assert.equal(decoder.decode(decoder.encode(rest))["whole"], 0x00020001);
});

test("recursive types end", () => {
  const type = btf.type("struct node");
  assert.ok(type.kind === "struct");
  const next = type.members[0]?.type;
  assert.ok(next?.kind === "pointer");
  assert.equal(next.target, type);
});

test("typedefs are resolved and remembered", () => {
  const type = btf.type("__u32");
  assert.ok(type.kind === "int");
  assert.equal(type.typedef, "__u32");
  assert.equal(type.size, 4);
  assert.equal(type.signed, false);
});

test("an unknown type names the closest", () => {
  assert.throws(
    () => btf.type("struct recrod"),
    (error) => error instanceof BpfError && error.message.includes('did you mean struct record?'),
  );
});
