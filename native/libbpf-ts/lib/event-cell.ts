// SPDX-License-Identifier: MIT
// How a field of a record is shown in a CSV cell: by its C type, or as the caller says.
import type { BtfType, EnumType } from "./btf.js";
import { findField, refusal, type FieldPlace } from "./event-path.js";
import type { NativeCell, NativeCondition } from "./native.js";
import { truncate, typeName } from "./scalars.js";

/**
 * Compares an integer, enum, pointer or bool of the record with a value, which must be one that the
 * field can have. Exactly one of `is` and `not` is given. A field that lies behind the end of a short
 * record makes no condition hold.
 */
export interface FieldCondition {
  readonly field: string;
  readonly is?: number | bigint;
  readonly not?: number | bigint;
}

/**
 * How to show a field:
 * - `"integer"`: decimal, by the field's signedness; also of an enum, a bool or a pointer
 * - `"hex"`: 0x and the field's bits
 * - `"boolean"`: 1 or 0
 * - `"text"`: a char or byte array up to its first NUL
 * - `"seconds"`: u64 of CLOCK_MONOTONIC in ns, as Unix seconds with 6 decimals
 * - `"ipv4"`, `"ipv6"`: 4 or 16 bytes in network order
 * - `bits`: the low bits of an integer field, read as an integer of that width
 * - `per`: value / per (1 to 10^9) with `digits` decimals (0 to 9), rounded half away from zero: µs
 *   from ns is `{ per: 1000, digits: 3 }`
 * - `names`: `names[value]`; where that is missing or empty, `other` (default "") and the number
 */
export type FieldFormat =
  | "integer"
  | "hex"
  | "boolean"
  | "text"
  | "seconds"
  | "ipv4"
  | "ipv6"
  | { readonly bits: 8 | 16 | 32 | 64; readonly signed: boolean }
  | { readonly per: number; readonly digits: number }
  | { readonly names: readonly string[]; readonly other?: string };

/**
 * A field of the record as the content of a cell, where all of `when` hold. `field` is a path:
 * "value", "leak.arguments[3]", "text[2]" (of a `char[8][128]`: text). Without `as` the C type
 * decides: integers decimal, bool 1 or 0, char arrays text, pointers hex, enums by name (a value
 * without a name as number).
 */
export interface FieldCell {
  readonly field: string;
  readonly as?: FieldFormat;
  readonly when?: FieldCondition | readonly FieldCondition[];
}

type Shown = Partial<NativeCell> & Pick<NativeCell, "kind">;

/** Values up to here are looked up directly, whatever lies between them. */
const NEAR = 1024n;

/** Signedness of what can be read as a number. */
function signedness({ path, type }: FieldPlace): boolean {
  switch (type.kind) {
    case "int":
      if (type.size <= 8) return type.signed;
      throw refusal(path, `integers of ${type.size.toString()} bytes cannot be shown`);
    case "enum":
      return type.signed;
    case "pointer":
      return false;
    case "float":
      throw refusal(path, "floating-point numbers cannot be shown");
    case "struct":
    case "union":
      throw refusal(path, `it is a ${type.kind}: name a field of it`);
    case "array":
      throw refusal(path, `it is an array: name an element of it, as in ${path}[0]`);
    case "unknown":
      throw refusal(path, "its type is not known");
  }
}

function enumNames(place: FieldPlace, type: EnumType): Shown {
  // clang before 16 keeps only the lower half of an 8-byte enum's values: names would be wrong.
  const halved = type.size === 8 && type.values.some(({ value }) => typeof value === "number");
  if (halved) return shownAs(place, "integer");
  const names: string[] = [];
  const far = new Map<bigint, string>();
  for (const { name, value } of type.values) {
    const key = BigInt.asUintN(64, BigInt(value));
    // Of several names of a value the first counts, as in a debugger.
    if (key < NEAR) names[Number(key)] ??= name;
    else if (!far.has(key)) far.set(key, name);
  }
  return {
    kind: type.signed ? "signed names" : "names",
    names: Array.from(names, (name: string | undefined) => name ?? ""),
    farNames: [...far]
      .map(([value, name]) => ({ value, name }))
      .sort((a, b) => (a.value < b.value ? -1 : 1)),
  };
}

function byType(place: FieldPlace): Shown {
  const { type } = place;
  switch (type.kind) {
    case "int":
      return type.bool ? { kind: "boolean" } : shownAs(place, "integer");
    case "pointer":
      return { kind: "hex" };
    case "enum":
      return enumNames(place, type);
    case "array":
      if (type.element.kind === "int" && type.element.char) return shownAs(place, "text");
      break;
    default:
      break;
  }
  return shownAs(place, "integer");
}

/** Can be shown as text. */
export function isBytes(type: BtfType): boolean {
  return type.kind === "array" && type.element.kind === "int" && type.element.size === 1;
}

function shownAs(place: FieldPlace, format: FieldFormat): Shown {
  const { path, type } = place;
  const expect = (right: boolean, what: string): void => {
    if (!right) throw refusal(path, `it is ${typeName(type)}, not ${what}`);
  };
  switch (format) {
    case "text":
      expect(isBytes(type), "an array of char");
      expect(type.size > 0, "an array of a known length");
      return { kind: "text" };
    case "ipv4":
      expect(type.size === 4, "4 bytes");
      return { kind: "ipv4" };
    case "ipv6":
      expect(type.size === 16, "16 bytes");
      return { kind: "ipv6" };
    default:
      break;
  }
  const signed = signedness(place);
  const prefix = signed ? "signed " : "";
  switch (format) {
    case "integer":
      return { kind: signed ? "signed" : "unsigned" };
    case "hex":
    case "boolean":
      return { kind: format };
    case "seconds":
      expect(type.size === 8 && !signed, "an unsigned integer of 8 bytes");
      return { kind: "seconds" };
    default:
      break;
  }
  if ("bits" in format) {
    const width = format.bits / 8;
    expect(width <= type.size, `${format.bits.toString()} bits wide`);
    return { kind: format.signed ? "signed" : "unsigned", width };
  }
  if ("per" in format) {
    return { kind: `${prefix}fixed`, divisor: format.per, digits: format.digits };
  }
  return {
    kind: `${prefix}names`,
    names: Array.from(format.names, (name: string | undefined) => name ?? ""),
    other: format.other ?? "",
  };
}

function condition(record: BtfType, { field, is, not }: FieldCondition): NativeCondition {
  const place = findField(record, field);
  const signed = signedness(place);
  const given = is ?? not;
  if (given === undefined || (is !== undefined && not !== undefined)) {
    throw refusal(place.path, "its condition needs either is or not");
  }
  const bits = place.type.size * 8;
  const possible = typeof given === "bigint" || Number.isSafeInteger(given);
  if (!possible || truncate(BigInt(given), bits, signed) !== BigInt(given)) {
    throw refusal(place.path, `it is never ${given.toString()}`, "ERANGE");
  }
  return {
    offset: place.offset,
    width: place.type.size,
    equal: is !== undefined,
    value: truncate(BigInt(given), bits, false),
  };
}

/** @throws BpfError when a field is not there, or can never be so */
export function bindConditions(
  record: BtfType,
  conditions: FieldCondition | readonly FieldCondition[],
): NativeCondition[] {
  return ("field" in conditions ? [conditions] : conditions).map((each) => condition(record, each));
}

/** @throws BpfError when the field is not there, or cannot be shown like this */
export function bindCell(record: BtfType, cell: FieldCell): NativeCell {
  const place = findField(record, cell.field);
  return {
    offset: place.offset,
    width: place.type.size,
    divisor: 1,
    digits: 0,
    names: [],
    farNames: [],
    other: "",
    ...(cell.as === undefined ? byType(place) : shownAs(place, cell.as)),
    when: bindConditions(record, cell.when ?? []),
  };
}
