// SPDX-License-Identifier: MIT
// The plain formatter that event tables are compared with: what the fields of struct columns are, and
// how each becomes a cell, in BigInt and Buffer and without a look at the library's own code.
import type { FieldCell, FieldCondition, FieldFormat } from "libbpf-ts";

export interface TestField {
  readonly path: string;
  readonly at: number;
  readonly size: number;
  readonly type: "unsigned" | "signed" | "bool" | "pointer" | "enum" | "text" | "bytes" | "words";
  readonly enum?: { readonly signed: boolean; readonly names: Readonly<Record<string, string>> };
}

const near = { signed: false, names: { "0": "NONE", "1": "READ", "4": "WRITE" } };
const signed = {
  signed: true,
  names: { "-1": "MINUS_ONE", "-2147483648": "LOWEST", "0": "NOTHING", "2147483647": "HIGHEST" },
};
const far = {
  signed: false,
  names: { "7": "FIRST", "2147483632": "HUGE", "1023": "LAST_NEAR", "1024": "FIRST_FAR" },
};

/** Every field that has a cell; `at` finds the top-level fields. */
export function testFields(at: (name: string) => number): TestField[] {
  const inner = at("inner");
  const field = (path: string, size: number, type: TestField["type"], offset = at(path)): TestField => ({
    path,
    at: offset,
    size,
    type,
  });
  return [
    field("time", 8, "unsigned"),
    field("u8", 1, "unsigned"),
    field("u16", 2, "unsigned"),
    field("u32", 4, "unsigned"),
    field("u64", 8, "unsigned"),
    field("s8", 1, "signed"),
    field("s16", 2, "signed"),
    field("s32", 4, "signed"),
    field("s64", 8, "signed"),
    field("yes", 1, "bool"),
    { ...field("near_enum", 4, "enum"), enum: near },
    { ...field("signed_enum", 4, "enum"), enum: signed },
    { ...field("far_enum", 4, "enum"), enum: far },
    field("constant", 4, "unsigned"),
    field("pointer", 8, "pointer"),
    field("text", 12, "text"),
    field("name", 16, "text"),
    field("lines[0]", 9, "text", at("lines")),
    field("lines[2]", 9, "text", at("lines") + 18),
    field("bytes", 6, "bytes"),
    field("bytes[5]", 1, "unsigned", at("bytes") + 5),
    field("ipv4", 4, "unsigned"),
    field("ipv4_bytes", 4, "bytes"),
    field("ipv6", 16, "bytes"),
    field("ipv6_words", 16, "words"),
    field("ipv6_words[1]", 4, "unsigned", at("ipv6_words") + 4),
    field("later", 8, "unsigned"),
    field("inner.kind", 1, "unsigned", inner),
    field("inner.arguments[0]", 8, "unsigned", inner + 8),
    field("inner.arguments[3]", 8, "unsigned", inner + 32),
    field("inner.deep[0].depth", 2, "signed", inner + 40),
    field("inner.deep[1].depth", 2, "signed", inner + 48),
    field("inner.deep[1].name", 5, "text", inner + 50),
    field("whole", 4, "unsigned"),
    field("halves[1]", 2, "unsigned", at("whole") + 2),
  ];
}

export function isSigned(field: TestField): boolean {
  return field.enum?.signed ?? field.type === "signed";
}

export function isNumber(field: TestField): boolean {
  return !["text", "bytes", "words"].includes(field.type);
}

/** A little-endian integer. */
export function integer(bytes: Uint8Array, isSignedInteger: boolean): bigint {
  const hex = Buffer.from(bytes).reverse().toString("hex");
  const bits = bytes.length * 8;
  return isSignedInteger ? BigInt.asIntN(bits, BigInt(`0x${hex}`)) : BigInt(`0x${hex}`);
}

const formula = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function textCell(content: Uint8Array | string): string {
  const bytes = Buffer.from(content);
  const end = bytes.indexOf(0);
  let text = decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
  if (formula.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function decimals(scaled: bigint, digits: number): string {
  const sign = scaled < 0n ? "-" : "";
  const all = (scaled < 0n ? -scaled : scaled).toString().padStart(digits + 1, "0");
  const cut = all.length - digits;
  return sign + (digits === 0 ? all : `${all.slice(0, cut)}.${all.slice(cut)}`);
}

/** value / per, half away from zero. */
function ratio(value: bigint, per: number, digits: number): string {
  const divisor = BigInt(per);
  const scaled = (value < 0n ? -value : value) * 10n ** BigInt(digits);
  const rounded = scaled / divisor + ((scaled % divisor) * 2n >= divisor ? 1n : 0n);
  return decimals(value < 0n ? -rounded : rounded, digits);
}

/** Half up, which differs from half away from zero before 1970. */
export function secondsCell(ns: bigint, unixOffsetNs: bigint): string {
  const sum = ns + unixOffsetNs + 500n;
  const rest = ((sum % 1000n) + 1000n) % 1000n;
  return decimals((sum - rest) / 1000n, 6);
}

export function ipv6Cell(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  if (hex.startsWith("00000000000000000000ffff")) return `::ffff:${bytes.slice(12).join(".")}`;
  const groups = hex.match(/..../g) ?? [];
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1); // as RFC 5952 has it
}

function named(value: bigint, names: Readonly<Record<string, string>>, other: string): string {
  const name = names[value.toString()] ?? "";
  if (name !== "") return textCell(name);
  return other === "" ? value.toString() : textCell(other + value.toString());
}

function shown(field: TestField, bytes: Buffer, as: FieldFormat, unixOffsetNs: bigint): string {
  const value = integer(bytes, isSigned(field));
  switch (as) {
    case "integer":
      return value.toString();
    case "hex":
      return `0x${integer(bytes, false).toString(16)}`;
    case "boolean":
      return value === 0n ? "0" : "1";
    case "text":
      return textCell(bytes);
    case "seconds":
      return secondsCell(value, unixOffsetNs);
    case "ipv4":
      return bytes.join(".");
    case "ipv6":
      return ipv6Cell(bytes);
    default:
      break;
  }
  if ("bits" in as) return integer(bytes.subarray(0, as.bits / 8), as.signed).toString();
  if ("per" in as) return ratio(value, as.per, as.digits);
  return named(value, Object.fromEntries(as.names.entries()), as.other ?? "");
}

export class PlainFormatter {
  readonly #fields: ReadonlyMap<string, TestField>;
  readonly #unixOffsetNs: bigint;

  constructor(fields: readonly TestField[], unixOffsetNs: bigint) {
    this.#fields = new Map(fields.map((field) => [field.path, field]));
    this.#unixOffsetNs = unixOffsetNs;
  }

  field(path: string): TestField {
    const field = this.#fields.get(path);
    if (!field) throw new Error(`no field ${path} in the test`);
    return field;
  }

  row(record: Buffer, columns: readonly (readonly FieldCell[])[], pid: number, name: Buffer): string {
    const time = this.#cell(record, { field: "time", as: "seconds" });
    const cells = columns.map((column) => {
      const cell = column.find(({ when = [] }) => [when].flat().every((one) => this.#holds(record, one)));
      return cell ? this.#cell(record, cell) : "";
    });
    return `${[time, pid.toString(), textCell(name), ...cells].join(",")}\n`;
  }

  #holds(record: Buffer, { field: path, is, not }: FieldCondition): boolean {
    const field = this.field(path);
    if (field.at + field.size > record.length) return false;
    const value = integer(record.subarray(field.at, field.at + field.size), isSigned(field));
    return is === undefined ? value !== BigInt(not ?? 0) : value === BigInt(is);
  }

  #cell(record: Buffer, { field: path, as }: FieldCell): string {
    const field = this.field(path);
    const bytes = record.subarray(field.at, field.at + field.size);
    if (as === "text" || (as === undefined && field.type === "text")) return textCell(bytes);
    // What the low bits are read from is what has to be there.
    const needed = typeof as === "object" && "bits" in as ? as.bits / 8 : field.size;
    if (bytes.length < needed) return "";
    if (as === undefined && field.enum) return named(integer(bytes, isSigned(field)), field.enum.names, "");
    const usual = field.type === "bool" ? "boolean" : field.type === "pointer" ? "hex" : "integer";
    return shown(field, bytes, as ?? usual, this.#unixOffsetNs);
  }
}
