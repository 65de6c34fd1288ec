// SPDX-License-Identifier: MIT
// What rows of an event table look like: cases worth a name. The rest is the fuzz test's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventTable, type BtfType, type FieldFormat, type ObjectBtf } from "libbpf-ts";
import { textCell } from "./event-fields.js";
import { at, BASH, btf, SIZE, table, UNIX } from "./event-support.js";

/** The cells of one field, of a row whose other cells are empty. */
function shows(field: string, as: FieldFormat | undefined, record: Buffer): string {
  const never = { field: "u8", when: { field: "u8", is: 255 } };
  const row = table([never, as === undefined ? { field } : { field, as }]).row(record, 1, BASH);
  return row.slice(row.indexOf(",bash,,") + 7, -1);
}

const U8 = { field: "u8" };

test("a row: time, pid, name, cells; the first cell whose conditions hold", () => {
  const columns = [
    [
      { field: "text", when: { field: "u8", is: 1 } },
      { field: "u64", as: { per: 1000, digits: 3 }, when: [{ field: "u8", is: 2 }, { field: "s32", not: -5n }] },
      { field: "s32", when: { field: "u8", not: 3 } },
    ],
    { field: "near_enum" },
  ] as const;
  const record = Buffer.alloc(SIZE);
  record.writeBigUInt64LE(123456789n, at("time"));
  record.write("=1+1", at("text"));
  record.writeBigUInt64LE(2500500n, at("u64"));
  record.writeInt32LE(-6, at("s32"));
  record.writeUInt32LE(4, at("near_enum"));
  const row = (kind: number, s32 = -6): string => {
    record[at("u8")] = kind;
    record.writeInt32LE(s32, at("s32"));
    return table(columns).row(record, 4321, BASH);
  };
  assert.equal(row(1), "1700000000.123457,4321,bash,'=1+1,WRITE\n");
  assert.equal(row(2), "1700000000.123457,4321,bash,2500.500,WRITE\n");
  assert.equal(row(2, -5), "1700000000.123457,4321,bash,-5,WRITE\n");
  assert.equal(row(3), "1700000000.123457,4321,bash,,WRITE\n");
});

test("LOST and END rows have as many cells as the others", () => {
  const four = table([U8, U8, U8, U8]);
  const hostile = Buffer.from('-"\xc3'.padEnd(6, "\0"), "latin1");
  assert.equal(four.lostRow(1999999499n, 7, BASH, 12), "1700000001.999999,7,bash,LOST,12,,\n");
  assert.equal(four.lostRow(1999999500n, 7, hostile, 1), '1700000002.000000,7,"\'-""\ufffd",LOST,1,,\n');
  assert.equal(four.endRow(2 ** 32 - 1, BASH), "END,4294967295,bash,,,,\n");
  assert.equal(four.endRow(7, hostile), 'END,7,"\'-""\ufffd",,,,\n');
  const two = table([U8, U8]);
  const most = (1n << 64n) - 1n;
  assert.equal(two.lostRow(0n, 0, Buffer.alloc(0), most), `1700000000.000000,0,,LOST,${most.toString()}\n`);
  assert.equal(two.endRow(0, Buffer.alloc(0)), "END,0,,,\n");
});

test("time is right whatever second came before, at either end of what a clock can say", () => {
  const row = (table: EventTable, ns: bigint): string => table.lostRow(ns, 1, BASH, 1).split(",")[0] ?? "";
  const usual = table([U8, U8], UNIX + 1n);
  const wanted: [bigint, string][] = [
    [0n, "1700000000.000000"],
    [499n, "1700000000.000001"],
    [498n, "1700000000.000000"],
    [999999498n, "1700000000.999999"],
    [999999499n, "1700000001.000000"],
    [999999999n, "1700000001.000000"],
    [0n, "1700000000.000000"],
    [(1n << 64n) - 1n, "20146744073.709552"],
  ];
  for (const [ns, time] of wanted) assert.equal(row(usual, ns), time);
  assert.equal(row(table([U8, U8], (1n << 63n) - 1n), (1n << 64n) - 1n), "27670116110.564327");
  assert.equal(row(table([U8, U8], -(1n << 63n)), 0n), "-9223372036.854776");
  const before = table([U8, U8], -1000000000n);
  assert.equal(row(before, 0n), "-1.000000");
  assert.equal(row(before, 999999499n), "-0.000001");
  assert.equal(row(before, 999999500n), "0.000000");
});

test("a short record: cells behind its end are empty, conditions do not hold", () => {
  const cells = [
    { field: "u64" },
    { field: "text" },
    [{ field: "u8", when: { field: "s64", not: 1 } }, { field: "u16" }],
    { field: "time", as: "seconds" },
    { field: "later", as: "seconds" },
  ] as const;
  const short = table(cells);
  const record = Buffer.alloc(SIZE, "x");
  const of = (length: number): string => {
    const part = Buffer.allocUnsafeSlow(length);
    record.copy(part);
    return short.row(part, 1, BASH);
  };
  record.writeBigUInt64LE(0n, 0);
  record.writeBigUInt64LE(5n, at("u64"));
  const time = "1700000000.000000";
  assert.equal(of(0), ",1,bash,,,,,\n");
  assert.equal(of(7), ",1,bash,,,,,\n");
  assert.equal(of(8), `${time},1,bash,,,,${time},\n`);
  assert.equal(of(at("u64") + 7), `${time},1,bash,,,30840,${time},\n`);
  assert.equal(of(at("u64") + 8), `${time},1,bash,5,,30840,${time},\n`);
  assert.equal(of(at("s64") + 8), `${time},1,bash,5,,120,${time},\n`);
  assert.equal(of(at("text")), `${time},1,bash,5,,120,${time},\n`);
  assert.equal(of(at("text") + 3), `${time},1,bash,5,xxx,120,${time},\n`);
  record.write("日", at("text"));
  assert.equal(of(at("text") + 2), `${time},1,bash,5,\ufffd,120,${time},\n`);
});

// That the native code had room for them is a sanitizer's to say.
test("the widest cells there are, many of them", () => {
  const widest: [string, FieldFormat | undefined, Buffer, string][] = [
    ["name", undefined, Buffer.alloc(16, 0xff), "\ufffd".repeat(16)],
    ["name", undefined, Buffer.alloc(16, '"'), `"${'"'.repeat(32)}"`],
    ["name", undefined, Buffer.from("=".padEnd(16, '"')), `"'=${'"'.repeat(30)}"`],
    ["s64", undefined, Buffer.from("0000000000000080", "hex"), "-9223372036854775808"],
    ["u64", "hex", Buffer.alloc(8, 0xff), "0xffffffffffffffff"],
    ["s64", { per: 1, digits: 9 }, Buffer.from("0000000000000080", "hex"), "-9223372036854775808.000000000"],
    ["s64", { names: [], other: '="' }, Buffer.from("0000000000000080", "hex"), `"'=""-9223372036854775808"`],
    ["ipv6", "ipv6", Buffer.alloc(16, 0xff), Array.from({ length: 8 }, () => "ffff").join(":")],
    ["time", "seconds", Buffer.alloc(8, 0xff), "18446744073.709552"],
  ];
  for (const [field, as, bytes, wanted] of widest) {
    const record = Buffer.alloc(SIZE);
    bytes.copy(record, at(field));
    const columns = Array.from({ length: 100 }, () => (as === undefined ? { field } : { field, as }));
    const row = table(columns, 0n).row(record, 2 ** 32 - 1, Buffer.alloc(15, 0xff));
    assert.ok(row.endsWith(`,4294967295,${"\ufffd".repeat(15)}${`,${wanted}`.repeat(100)}\n`), row);
  }
});

test("every beginning of a character, right and wrong, becomes what TextDecoder makes of it", () => {
  const edges = [...Buffer.from("002241" + "7f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff", "hex")];
  const { native } = table([{ field: "text" }, U8]);
  const record = Buffer.alloc(SIZE);
  for (const first of edges) {
    for (const second of edges) {
      for (const third of edges) {
        const bytes = Buffer.from([first, second, third, 0x80, 0x80, 0x41]);
        bytes.copy(record, at("text"));
        const wanted = Buffer.from(`1700000000.000000,1,bash,${textCell(bytes)},0\n`);
        const is = native.row(record, 1, BASH);
        if (!is.equals(wanted)) assert.fail(`${bytes.toString("hex")}: ${is.toString("hex")}`);
      }
    }
  }
});

test("enums: names of any value, also negative, far apart and of 8 bytes", () => {
  const record = Buffer.alloc(SIZE);
  const shown = (name: string, value: number): string => {
    record.writeInt32LE(value | 0, at(name));
    return shows(name, undefined, record);
  };
  assert.deepEqual([0, 1, 4].map((value) => shown("near_enum", value)), ["NONE", "READ", "WRITE"]);
  assert.deepEqual([2, 5, 2 ** 31].map((value) => shown("near_enum", value)), ["2", "5", "2147483648"]);
  assert.deepEqual(
    [-1, -2, -(2 ** 31), 0, 2 ** 31 - 1].map((value) => shown("signed_enum", value)),
    ["MINUS_ONE", "-2", "LOWEST", "NOTHING", "HIGHEST"],
  );
  assert.deepEqual(
    [7, 1022, 1023, 1024, 1025, 0x7ffffff0].map((value) => shown("far_enum", value)),
    ["FIRST", "1022", "LAST_NEAR", "FIRST_FAR", "1025", "HUGE"],
  );
  // What this compiler wrote down of them.
  const wide = btf.type("enum wide_values");
  const known = wide.kind === "enum" && typeof wide.values[0]?.value === "bigint";
  record.writeBigUInt64LE(1n << 63n, at("wide_enum"));
  assert.equal(shows("wide_enum", undefined, record), known ? "WIDE" : (1n << 63n).toString());
  record.writeBigUInt64LE(0n, at("wide_enum"));
  assert.equal(shows("wide_enum", undefined, record), "0");
});

test("8-byte enums as compilers since clang 16 describe them", () => {
  const u64: BtfType = { kind: "int", name: "u64", size: 8, signed: false, bool: false, char: false };
  const make = (signed: boolean, values: { name: string; value: bigint }[]): EventTable => {
    const kind: BtfType = { kind: "enum", name: "wide", size: 8, signed, values };
    const member = (name: string, bitOffset: number, type: BtfType) => ({ name, bitOffset, bitSize: 64, type });
    const members = [member("time", 0, u64), member("kind", 64, kind)];
    const type: BtfType = { kind: "struct", name: "record", size: 16, members };
    const stand = { type: () => type } as unknown as ObjectBtf;
    return new EventTable(stand, "struct record", { record: "struct record", time: "time" }, [{ field: "kind" }, { field: "kind" }], 0n);
  };
  const unsigned = make(false, [
    { name: "TOP", value: (1n << 64n) - 1n },
    { name: "MIDDLE", value: 1n << 32n },
    { name: "TWO", value: 2n },
  ]);
  const signed = make(true, [
    { name: "MINUS", value: -1n },
    { name: "MIDDLE", value: 1n << 32n },
    { name: "LOW", value: -(1n << 63n) },
  ]);
  const shown = (table: EventTable, value: bigint): string => {
    const record = Buffer.alloc(16);
    record.writeBigUInt64LE(BigInt.asUintN(64, value), 8);
    return table.row(record, 1, BASH).split(",")[3] ?? "";
  };
  const unsignedValues = [(1n << 64n) - 1n, 1n << 32n, 2n, 1n, 1n << 63n];
  assert.deepEqual(
    unsignedValues.map((value) => shown(unsigned, value)),
    ["TOP", "MIDDLE", "TWO", "1", "9223372036854775808"],
  );
  assert.deepEqual(
    [-1n, 1n << 32n, -(1n << 63n), -2n].map((value) => shown(signed, value)),
    ["MINUS", "MIDDLE", "LOW", "-2"],
  );
});
