// SPDX-License-Identifier: MIT
// Random tables over random records, against the plain formatter.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type FieldCell, type FieldCondition, type FieldFormat } from "libbpf-ts";
import { integer, isNumber, isSigned, PlainFormatter, testFields, type TestField } from "./event-fields.js";
import { at, SIZE, table as bind } from "./event-support.js";

const fields = testFields(at);
const numbers = fields.filter(isNumber);
const texts = fields.filter((field) => !isNumber(field));

const TABLES = 500;
const ROWS = 60;

/** mulberry32: small, and the same everywhere. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }

  many<T>(atMost: number, make: () => T): T[] {
    return Array.from({ length: this.below(atMost + 1) }, make);
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}

const DIVISORS = [1, 2, 3, 7, 8, 10, 1000, 1024, 1 << 20, 1000000, 999999937, 1000000000];
const NAMES = [[], ["zero", "one", "", "three"], ["=", 'say "yes"', "a,b", "é", "longer than sixteen bytes"]];
const OTHERS = ["", "sys_", "=", "-", 'x,"0', "ｘ＝"];

/** Integers where something happens: ends of every width, powers of ten, halves for every divisor. */
const EDGES = [
  ...[0, 1, 2, 3, 4, 7, 9, 99, 100, 999999, 1023, 1024].map(BigInt),
  ...[7, 8, 15, 16, 31, 32, 53, 63, 64].map((bits) => 1n << BigInt(bits)),
  ...Array.from({ length: 20 }, (_, power) => 10n ** BigInt(power)),
  ...DIVISORS.flatMap((divisor) => [1n, 3n, 999n].map((odd) => (BigInt(divisor) * odd) / 2n)),
  2147483632n,
  999999999499n,
  999999999500n,
].flatMap((edge) => [edge - 1n, edge, edge + 1n, -edge]);

const PIECES = [
  ...["=", "+", "-", "@", "\t", "\r", "\n", '"', '""', ",", "'", " ", "a", "bash", "é", "日", "😀"],
  ...["＝", "＋", "－", "＠", "\ufeff", "\ufffd", "\u2028", "\0", "\x7f"],
].map((text) => Buffer.from(text));
const BROKEN = [
  ...["80", "bf80", "c0af", "c1bf", "c3", "c328", "e282", "e28228", "e08080", "eda080", "edbfbf"],
  ...["f09f98", "f0808080", "f4908080", "f8888080", "ff", "fe", "efbc", "efbc9d80", "e2f0ed"],
].map((hex) => Buffer.from(hex, "hex"));

function number(random: Random, field: TestField): bigint {
  const known = Object.keys(field.enum?.names ?? {}).map(BigInt);
  if (known.length > 0 && random.chance(60)) return random.pick(known);
  return random.chance(60) ? random.pick(EDGES) : integer(random.bytes(8), true) >> BigInt(random.below(64));
}

function write(record: Buffer, { at, size: width }: TestField, value: bigint): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
  bytes.copy(record, at, 0, width);
}

function text(random: Random, length: number): Buffer {
  if (length === 16 && random.chance(50)) return Buffer.from(address(random));
  const parts = random.many(6, () =>
    random.chance(30) ? random.pick(BROKEN) : random.chance(20) ? random.bytes(2) : random.pick(PIECES),
  );
  const noise = random.chance(50) ? Buffer.from("\0") : Buffer.alloc(0);
  return Buffer.concat([...parts, noise, random.bytes(length)]).subarray(0, length);
}

function address(random: Random): number[] {
  if (random.chance(20)) return [...Buffer.from("00000000000000000000ffff", "hex"), ...random.bytes(4)];
  return Array.from({ length: 8 }, () => (random.chance(60) ? [0, 0] : [random.below(3) * 9, random.below(256)])).flat();
}

function makeRecord(random: Random, columns: readonly (readonly FieldCell[])[]): Buffer {
  const record = Buffer.allocUnsafeSlow(SIZE).fill(0); // of its own, so that a sanitizer sees its end
  for (const field of texts) text(random, field.size).copy(record, field.at);
  for (const field of numbers) if (random.chance(70)) write(record, field, number(random, field));
  // Conditions are to hold often.
  for (const { when = [] } of columns.flat()) {
    for (const { field: path, is, not } of [when].flat()) {
      const field = fields.find((entry) => entry.path === path);
      if (field && random.chance(50)) write(record, field, BigInt(is ?? not ?? 0));
    }
  }
  if (random.chance(70)) return record;
  const short = Buffer.allocUnsafeSlow(random.below(SIZE));
  record.copy(short);
  return short;
}

function format(random: Random, field: TestField): FieldFormat | undefined {
  const formats: (FieldFormat | undefined)[] = [];
  if (isNumber(field) || field.type === "text") formats.push(undefined);
  if (field.type === "text" || field.type === "bytes") formats.push("text");
  if (field.size === 4) formats.push("ipv4");
  if (field.size === 16) formats.push("ipv6");
  if (isNumber(field)) {
    formats.push("integer", "hex", "boolean");
    const bits = random.pick(([8, 16, 32, 64] as const).filter((width) => width <= field.size * 8));
    formats.push({ bits, signed: random.chance(50) });
    formats.push({ per: random.pick(DIVISORS), digits: random.below(10) });
    formats.push({ per: 1 + random.below(1e9), digits: random.below(10) });
    formats.push({ names: random.pick(NAMES), other: random.pick(OTHERS) }, { names: random.pick(NAMES) });
    if (field.size === 8 && !isSigned(field)) formats.push("seconds");
  }
  return random.pick(formats);
}

function condition(random: Random): FieldCondition {
  const field = random.pick(numbers);
  const bits = field.size * 8;
  const any = number(random, field);
  const value = isSigned(field) ? BigInt.asIntN(bits, any) : BigInt.asUintN(bits, any);
  const given = Number.isSafeInteger(Number(value)) && random.chance(50) ? Number(value) : value;
  return random.chance(60) ? { field: field.path, is: given } : { field: field.path, not: given };
}

function cell(random: Random): FieldCell {
  const field = random.pick(fields);
  const as = format(random, field);
  const conditions = random.many(2, () => condition(random));
  const [only] = conditions;
  const when = conditions.length === 1 && only ? only : conditions;
  return {
    field: field.path,
    ...(as === undefined ? {} : { as }),
    ...(conditions.length === 0 ? {} : { when }),
  };
}

test("random tables over random records equal the plain formatter, byte for byte", () => {
  const seed = Number(process.env["EVENT_TABLE_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  const random = new Random(seed);
  for (let table = 0; table < TABLES; table++) {
    const columns = Array.from({ length: 2 + random.below(9) }, () => [
      cell(random),
      ...random.many(2, () => cell(random)),
    ]);
    const unixOffsetNs = random.chance(80)
      ? 1700000000123456789n + BigInt(random.below(1e9))
      : random.pick([0n, 1n, -1n, -500n, -999999999n, -1000000000n, (1n << 63n) - 1n, -(1n << 63n)]);
    const plain = new PlainFormatter(fields, unixOffsetNs);
    const given = columns.map((cells) => (cells.length === 1 ? (cells[0] ?? cells) : cells));
    const { native } = bind(given, unixOffsetNs);
    for (let row = 0; row < ROWS; row++) {
      const record = makeRecord(random, columns);
      const pid = random.chance(50) ? random.below(2 ** 22) : random.pick([0, 1, 9, 10, 2 ** 32 - 1]);
      const name = text(random, 15);
      const is = native.row(record, pid, name);
      const wanted = plain.row(record, columns, pid, name);
      if (is.equals(Buffer.from(wanted))) continue;
      assert.equal(
        is.toString(),
        wanted,
        `EVENT_TABLE_SEED=${seed.toString()}, table ${table.toString()}, row ${row.toString()}: ` +
          `${JSON.stringify(columns, (_, value: unknown) => (typeof value === "bigint" ? `${value.toString()}n` : value))} ` +
          `of ${record.toString("hex")}`,
      );
      assert.fail(`not UTF-8, EVENT_TABLE_SEED=${seed.toString()}`);
    }
  }
});
