// SPDX-License-Identifier: MIT
// What an event table refuses, and with which words.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BpfError, EventTable, type EventCells, type FieldFormat } from "libbpf-ts";
import { BASH, btf, SIZE, table, UNIX } from "./event-support.js";

const U8 = { field: "u8" };

function refused(columns: readonly EventCells[], message: string): void {
  assert.throws(
    () => table(columns),
    (error) => {
      assert.ok(error instanceof BpfError);
      assert.equal(error.message, message);
      return true;
    },
  );
}

test("fields that cannot be shown are refused with a sentence", () => {
  const one = (field: string, message: string, as?: FieldFormat): void => {
    refused([U8, as === undefined ? { field } : { field, as }], `cannot show field ${message}`);
  };
  const path = 'a path looks like "value", "point.x" or "numbers[3]" (EINVAL)';
  one("u9", "u9: struct columns has no u9; did you mean u8, s8, u16? (ENOENT)");
  one("inner.knid", "inner.knid: inner has no knid; did you mean kind? (ENOENT)");
  one("inner.deep[1].nam", "inner.deep[1].nam: inner.deep[1] has no nam; did you mean name? (ENOENT)");
  one("bit", "bit: bitfields cannot be shown (EINVAL)");
  one("real", "real: floating-point numbers cannot be shown (EINVAL)");
  one("huge", "huge: integers of 16 bytes cannot be shown (EINVAL)");
  one("inner", "inner: it is a struct: name a field of it (EINVAL)");
  one("halves", "halves: it is an array: name an element of it, as in halves[0] (EINVAL)");
  one("lines", "lines: it is an array: name an element of it, as in lines[0] (EINVAL)");
  one("lines", "lines: it is char[9][3], not an array of char (EINVAL)", "text");
  one("lines[3]", "lines[3]: lines has 3 elements (ERANGE)");
  one("rest", "rest: it is char[0], not an array of a known length (EINVAL)");
  one("u8[0]", "u8[0]: u8 is no array (EINVAL)");
  one("pointer.kind", "pointer.kind: pointer is no struct: it has no field kind (EINVAL)");
  for (const wrong of ["", "u8.", ".u8", "[0]u8", "inner..kind", "lines[x]", "lines[0]x", "u8 "]) {
    const shown = wrong === "" ? "" : ` ${wrong}`;
    assert.throws(() => table([U8, { field: wrong }]), {
      message: wrong === "[0]u8" ? `cannot show field [0]: struct columns is no array (EINVAL)` : `cannot show field${shown}: ${path}`,
    });
  }
  one("u8", "u8: it is __u8, not an array of char (EINVAL)", "text");
  one("text", "text: it is an array: name an element of it, as in text[0] (EINVAL)", "hex");
  one("u8", "u8: it is __u8, not 4 bytes (EINVAL)", "ipv4");
  one("ipv4", "ipv4: it is __u32, not 16 bytes (EINVAL)", "ipv6");
  one("s64", "s64: it is __s64, not an unsigned integer of 8 bytes (EINVAL)", "seconds");
  one("u16", "u16: it is __u16, not 32 bits wide (EINVAL)", { bits: 32, signed: true });
});

test("conditions that can never be decided are refused", () => {
  const one = (when: object, message: string): void => {
    refused([U8, { field: "u8", when: when as never }], `cannot show field ${message}`);
  };
  one({ field: "u8" }, "u8: its condition needs either is or not (EINVAL)");
  one({ field: "u8", is: 1, not: 2 }, "u8: its condition needs either is or not (EINVAL)");
  one({ field: "u8", is: 256 }, "u8: it is never 256 (ERANGE)");
  one({ field: "u8", not: -1n }, "u8: it is never -1 (ERANGE)");
  one({ field: "s8", is: 128 }, "s8: it is never 128 (ERANGE)");
  one({ field: "u32", is: 1.5 }, "u32: it is never 1.5 (ERANGE)");
  one({ field: "u32", is: NaN }, "u32: it is never NaN (ERANGE)");
  one({ field: "text", is: 0 }, "text: it is an array: name an element of it, as in text[0] (EINVAL)");
  one({ field: "u7", is: 0 }, "u7: struct columns has no u7; did you mean u8, s8, u16? (ENOENT)");
});

test("records, times and numbers that cannot be are refused", () => {
  const columns = [U8, U8];
  const make = (record: string, time: string): (() => EventTable) => {
    return () => new EventTable(btf, record, { record, time }, columns, UNIX);
  };
  assert.throws(make("struct colums", "time"), /has no struct colums; did you mean struct columns\?/);
  assert.throws(make("my_u32", "time"), /a record is a struct/);
  assert.throws(make("struct columns", "tim"), /has no tim; did you mean time, bit\?/);
  assert.throws(make("struct columns", "s64"), /a record's time is an unsigned integer of 8 bytes/);
  assert.throws(make("struct columns", "pointer"), /a record's time is/);
  assert.throws(() => table([U8]), /needs two columns at least/);
  assert.throws(() => table([U8, []]), /column 1: it has no cell/);
  assert.throws(() => table(columns, 1n << 63n), /spec\.unixOffsetNs must be a 64-bit integer/);

  const u64 = (as: object): (() => EventTable) => {
    return () => table([U8, { field: "u64", as: as as never }]);
  };
  assert.throws(u64({ per: 0, digits: 3 }), /column 1: a divisor is from 1 to 1000000000/);
  assert.throws(u64({ per: 1e9 + 1, digits: 3 }), /a divisor is from 1 to 1000000000/);
  assert.throws(u64({ per: 0.5, digits: 3 }), /spec\.columns\[1\]\[0\]\.divisor must be a safe integer/);
  assert.throws(u64({ per: 10, digits: 10 }), /at most 9 decimals/);
  assert.throws(u64({ per: 10, digits: -1 }), /digits must be zero or above/);
  assert.throws(u64({ bits: 24, signed: false }), /no such width/);
  assert.throws(u64({ names: [1] }), /names\[0\] must be a string/);
  assert.throws(u64({ names: ["a\0b"] }), /names\[0\] must be free of NUL/);
  assert.throws(u64({ names: ["x".repeat(70000)] }), /too long/);
  assert.throws(() => table(Array.from({ length: 3000 }, () => U8)), /too long/);
});

test("rows of what is no record, pid or name are refused", () => {
  const { native } = table([U8, U8]);
  const record = Buffer.alloc(SIZE);
  assert.throws(() => native.row("record" as never, 1, BASH), /argument 0 must be a Uint8Array/);
  assert.throws(() => native.row(new Uint16Array(8) as never, 1, BASH), TypeError);
  assert.throws(() => native.row(record, -1, BASH), /argument 1 must be zero or above/);
  assert.throws(() => native.row(record, 2 ** 32, BASH), /argument 1 must be below 2\^32/);
  assert.throws(() => native.row(record, 1, "bash" as never), /argument 2 must be a Uint8Array/);
  assert.throws(() => native.lostRow(-1n, 1, BASH, 1), /argument 0/);
  assert.throws(() => native.lostRow(1n << 64n, 1, BASH, 1), /argument 0/);
  assert.throws(() => native.lostRow(1n, 1, BASH, -1), /argument 3/);
  assert.throws(() => native.endRow(NaN, BASH), /argument 0/);
  assert.throws(() => native.row.call({} as never, record, 1, BASH), TypeError);
});
