// SPDX-License-Identifier: MIT
// Turns BTF types into readers and writers of memory. A codec is compiled once per type and then
// only runs closures; nested structs and arrays included.
import type { ArrayType, BtfType, StructType } from "./btf.js";
import { suggestion } from "./names.js";
import {
  bitfieldCodec,
  bytesCodec,
  describe,
  enumCodec,
  floatCodec,
  integerCodec,
  isBitfield,
  pointerCodec,
  textCodec,
  typeName,
  type Codec,
  type DecodedValue,
  type Int64Mode,
} from "./scalars.js";

export type { Codec, DecodedValue, Int64Mode } from "./scalars.js";

function arrayCodec(type: ArrayType, mode: Int64Mode): Codec {
  const { element, length, size } = type;
  if (element.kind === "int" && element.char) return textCodec(size);
  if (element.kind === "int" && element.size === 1 && !element.signed && !element.bool) {
    return bytesCodec(size);
  }
  const inner = compile(element, mode);
  return {
    size,
    decode(bytes, offset) {
      const values: DecodedValue[] = [];
      for (let index = 0; index < length; index++) {
        values.push(inner.decode(bytes, offset + index * inner.size));
      }
      return values;
    },
    encode(value, bytes, offset, path) {
      if (!Array.isArray(value) || value.length !== length) {
        throw new TypeError(
          `${path} must be an array of ${String(length)}, not ${describe(value)}`,
        );
      }
      for (const [index, entry] of value.entries()) {
        inner.encode(entry, bytes, offset + index * inner.size, `${path}[${String(index)}]`);
      }
    },
  };
}

/** A field of a record, anonymous structs and unions opened up. */
export interface Field {
  readonly name: string;
  /** From the start of the record, in bits. */
  readonly bitOffset: number;
  readonly bitSize: number;
  readonly type: BtfType;
}

/** The named fields of a struct or union; offsets count from the outermost start. */
export function flattenFields(type: BtfType, base = 0): Field[] {
  if (type.kind !== "struct" && type.kind !== "union") return [];
  return type.members.flatMap((member) => {
    const bitOffset = base + member.bitOffset;
    if (member.name !== "") {
      return [{ name: member.name, bitOffset, bitSize: member.bitSize, type: member.type }];
    }
    return flattenFields(member.type, bitOffset); // an unnamed bitfield is padding
  });
}

interface Slot {
  readonly name: string;
  readonly codec: Codec;
  readonly byteOffset: number;
}

/** Which names a value must have: all of a struct, at least one alternative of a union. */
function missingNames(type: StructType, given: ReadonlySet<string>): string[] {
  const missing: string[] = [];
  let some = false;
  for (const member of type.members) {
    const inner = member.type;
    let lacking: string[];
    if (member.name !== "") {
      lacking = given.has(member.name) ? [] : [member.name];
    } else if (inner.kind === "struct" || inner.kind === "union") {
      lacking = missingNames(inner, given);
    } else {
      continue;
    }
    if (lacking.length === 0) some = true;
    missing.push(...lacking);
  }
  return type.kind === "union" && some ? [] : missing;
}

function structCodec(type: StructType, mode: Int64Mode): Codec {
  const slots: Slot[] = flattenFields(type).map((field) => ({
    name: field.name,
    codec: isBitfield(field) ? bitfieldCodec(field, mode) : compile(field.type, mode),
    byteOffset: Math.floor(field.bitOffset / 8),
  }));
  const names = new Set(slots.map((slot) => slot.name));
  const checkNames = (given: string[], path: string): void => {
    for (const name of given) {
      if (names.has(name)) continue;
      throw new TypeError(`${path}: ${typeName(type)} has no ${name}${suggestion(name, names)}`);
    }
    const missing = missingNames(type, new Set(given));
    if (missing.length > 0) {
      throw new TypeError(`${path}: ${typeName(type)} also needs ${missing.join(", ")}`);
    }
  };
  return {
    size: type.size,
    decode(bytes, offset) {
      const value: Record<string, DecodedValue> = {};
      for (const slot of slots) {
        value[slot.name] = slot.codec.decode(bytes, offset + slot.byteOffset);
      }
      return value;
    },
    encode(value, bytes, offset, path) {
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw new TypeError(
          `${path} must be an object like ${typeName(type)}, not ${describe(value)}`,
        );
      }
      const record = value as Record<string, unknown>;
      const given = Object.keys(record);
      let present = 0;
      for (const slot of slots) if (Object.hasOwn(record, slot.name)) present++;
      if (present !== given.length || present !== slots.length) checkNames(given, path);
      for (const slot of slots) {
        if (!Object.hasOwn(record, slot.name)) continue;
        slot.codec.encode(
          record[slot.name],
          bytes,
          offset + slot.byteOffset,
          path === "" ? slot.name : `${path}.${slot.name}`,
        );
      }
    },
  };
}

/** Builds the codec of a type. Types contain themselves only through pointers, so this ends. */
export function compile(type: BtfType, mode: Int64Mode): Codec {
  switch (type.kind) {
    case "int":
      return integerCodec(type, mode);
    case "enum":
      return enumCodec(type, mode);
    case "pointer":
      return pointerCodec(type.size, mode);
    case "float":
      return floatCodec(type.size);
    case "array":
      return arrayCodec(type, mode);
    case "struct":
    case "union":
      return structCodec(type, mode);
    case "unknown":
      return bytesCodec(0);
  }
}

/** Bytes of `size` as they are, for what has no BTF. */
export function rawCodec(size: number): Codec {
  return bytesCodec(size);
}

/** Looks at the same memory as a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Encodes one value into fresh memory. */
export function encodeValue(codec: Codec, value: unknown, path: string): Buffer {
  const bytes = Buffer.alloc(codec.size);
  codec.encode(value, bytes, 0, path);
  return bytes;
}
