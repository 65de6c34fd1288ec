// SPDX-License-Identifier: MIT
// Turns BTF types into readers and writers of memory. A codec is compiled once per type and then
// only runs closures; bitfields, nested structs and arrays included.
import type { ArrayType, BtfMember, BtfType, EnumType, IntType, StructType } from "./btf.js";
import { suggestion } from "./names.js";

/** How 64-bit integers decode; "number" rounds above 2^53. */
export type Int64Mode = "bigint" | "number";

/**
 * What C values become. Integers up to 32 bits, enums and floats: number. 64-bit integers and
 * pointers: bigint, or number when asked for. bool: boolean. char[N]: string up to the first NUL.
 * unsigned char[N]: Buffer. Other arrays: arrays. Structs and unions: plain objects, with the
 * members of anonymous structs and unions inside in line.
 */
export type DecodedValue =
  | number
  | bigint
  | boolean
  | string
  | Buffer
  | DecodedValue[]
  | { [field: string]: DecodedValue };

export interface Codec {
  readonly size: number;
  /** The caller has made sure that `size` bytes follow `offset`. */
  decode(bytes: Buffer, offset: number): DecodedValue;
  /** `bytes` are zero where nothing is written. `path` names the value in errors. */
  encode(value: unknown, bytes: Buffer, offset: number, path: string): void;
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${String(value.length)}`;
  if (value instanceof Uint8Array) return `${String(value.length)} bytes`;
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") {
    return String(value);
  }
  return value === null ? "null" : typeof value;
}

function typeName(type: BtfType): string {
  if (type.typedef !== undefined) return type.typedef;
  switch (type.kind) {
    case "struct":
    case "union":
    case "enum":
      return `${type.kind} ${type.name}`;
    case "array":
      return `${typeName(type.element)}[${String(type.length)}]`;
    case "pointer":
      return "pointer";
    default:
      return type.name;
  }
}

function toInteger(value: unknown, bits: number, signed: boolean, path: string): bigint {
  let integer: bigint;
  if (typeof value === "bigint") {
    integer = value;
  } else if (typeof value === "number" && Number.isInteger(value)) {
    integer = BigInt(value);
  } else if (typeof value === "boolean") {
    integer = value ? 1n : 0n;
  } else {
    throw new TypeError(`${path} must be an integer, not ${describe(value)}`);
  }
  const low = signed ? -(1n << BigInt(bits - 1)) : 0n;
  const high = signed ? (1n << BigInt(bits - 1)) - 1n : (1n << BigInt(bits)) - 1n;
  if (integer < low || integer > high) {
    throw new RangeError(
      `${path} must be from ${String(low)} to ${String(high)}, not ${String(integer)}`,
    );
  }
  return integer;
}

function writeBytes(bytes: Buffer, offset: number, size: number, value: bigint): void {
  let rest = BigInt.asUintN(size * 8, value);
  for (let index = 0; index < size; index++) {
    bytes[offset + index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

function readWide(bytes: Buffer, offset: number, size: number): bigint {
  let value = 0n;
  for (let index = size - 1; index >= 0; index--) {
    value = (value << 8n) | BigInt(bytes[offset + index] ?? 0);
  }
  return value;
}

function truncate(value: bigint, bits: number, signed: boolean): bigint {
  return signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
}

type Reader = (bytes: Buffer, offset: number) => DecodedValue;

function integerReader(size: number, signed: boolean, mode: Int64Mode): Reader {
  switch (size) {
    case 1:
      return signed ? (b, o) => b.readInt8(o) : (b, o) => b.readUInt8(o);
    case 2:
      return signed ? (b, o) => b.readInt16LE(o) : (b, o) => b.readUInt16LE(o);
    case 4:
      return signed ? (b, o) => b.readInt32LE(o) : (b, o) => b.readUInt32LE(o);
    case 8:
      if (mode === "bigint") {
        return signed ? (b, o) => b.readBigInt64LE(o) : (b, o) => b.readBigUInt64LE(o);
      }
      // Two halves are several times faster than a bigint, and round the same way.
      return signed
        ? (b, o) => b.readInt32LE(o + 4) * 0x100000000 + b.readUInt32LE(o)
        : (b, o) => b.readUInt32LE(o + 4) * 0x100000000 + b.readUInt32LE(o);
    default: {
      const bits = size * 8;
      return (b, o) => {
        const value = truncate(readWide(b, o, size), bits, signed);
        return mode === "bigint" ? value : Number(value);
      };
    }
  }
}

function integerCodec(type: IntType, mode: Int64Mode): Codec {
  const { size, signed } = type;
  if (type.bool) {
    return {
      size,
      decode: (bytes, offset) => bytes[offset] !== 0,
      encode(value, bytes, offset, path) {
        if (typeof value !== "boolean" && value !== 0 && value !== 1) {
          throw new TypeError(`${path} must be a boolean, not ${describe(value)}`);
        }
        bytes[offset] = value ? 1 : 0;
      },
    };
  }
  return {
    size,
    decode: integerReader(size, signed, mode),
    encode(value, bytes, offset, path) {
      writeBytes(bytes, offset, size, toInteger(value, size * 8, signed, path));
    },
  };
}

function enumCodec(type: EnumType, mode: Int64Mode): Codec {
  return {
    size: type.size,
    decode: integerReader(type.size, type.signed, mode),
    encode(value, bytes, offset, path) {
      let integer: unknown = value;
      if (typeof value === "string") {
        const found = type.values.find((entry) => entry.name === value);
        if (!found) {
          const names = type.values.map((entry) => entry.name);
          throw new TypeError(
            `${path}: ${typeName(type)} has no ${value}${suggestion(value, names)}`,
          );
        }
        integer = found.value;
      }
      writeBytes(
        bytes,
        offset,
        type.size,
        toInteger(integer, type.size * 8, type.signed, path),
      );
    },
  };
}

function textCodec(size: number): Codec {
  return {
    size,
    decode(bytes, offset) {
      const nul = bytes.indexOf(0, offset);
      return bytes.toString("utf8", offset, nul < 0 || nul > offset + size ? offset + size : nul);
    },
    encode(value, bytes, offset, path) {
      const text = typeof value === "string" ? Buffer.from(value, "utf8") : value;
      if (!(text instanceof Uint8Array)) {
        throw new TypeError(`${path} must be a string, not ${describe(value)}`);
      }
      if (text.length > size) {
        throw new RangeError(
          `${path} has room for ${String(size)} bytes, not ${String(text.length)}`,
        );
      }
      bytes.fill(0, offset, offset + size);
      bytes.set(text, offset);
    },
  };
}

function bytesCodec(size: number): Codec {
  return {
    size,
    decode: (bytes, offset) => Buffer.from(bytes.subarray(offset, offset + size)),
    encode(value, bytes, offset, path) {
      if (!(value instanceof Uint8Array) || value.length !== size) {
        throw new TypeError(`${path} must be ${String(size)} bytes, not ${describe(value)}`);
      }
      bytes.set(value, offset);
    },
  };
}

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

function isBitfield(member: BtfMember): boolean {
  return member.bitOffset % 8 !== 0 || member.bitSize !== member.type.size * 8;
}

function bitfieldCodec(member: BtfMember, mode: Int64Mode): Codec {
  const { type, bitSize } = member;
  const shift = member.bitOffset % 8;
  const size = Math.ceil((shift + bitSize) / 8);
  const signed = (type.kind === "int" || type.kind === "enum") && type.signed;
  const bool = type.kind === "int" && type.bool;
  const wide = mode === "bigint" && type.kind === "int" && bitSize > 32;
  return {
    size,
    decode(bytes, offset) {
      let value: bigint | number;
      if (size <= 6) {
        value = Math.floor(bytes.readUIntLE(offset, size) / 2 ** shift) % 2 ** bitSize;
        if (signed && value >= 2 ** (bitSize - 1)) value -= 2 ** bitSize;
      } else {
        value = truncate(readWide(bytes, offset, size) >> BigInt(shift), bitSize, signed);
      }
      if (bool) return Boolean(value);
      return wide ? BigInt(value) : Number(value);
    },
    encode(value, bytes, offset, path) {
      const integer = BigInt.asUintN(bitSize, toInteger(value, bitSize, signed, path));
      const mask = ((1n << BigInt(bitSize)) - 1n) << BigInt(shift);
      const before = readWide(bytes, offset, size);
      writeBytes(bytes, offset, size, (before & ~mask) | (integer << BigInt(shift)));
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
      const given = new Set(Object.keys(record));
      for (const name of given) {
        if (!names.has(name)) {
          throw new TypeError(
            `${path}: ${typeName(type)} has no ${name}${suggestion(name, names)}`,
          );
        }
      }
      const missing = missingNames(type, given);
      if (missing.length > 0) {
        throw new TypeError(`${path}: ${typeName(type)} also needs ${missing.join(", ")}`);
      }
      for (const slot of slots) {
        if (!given.has(slot.name)) continue;
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
      return {
        size: type.size,
        decode: integerReader(type.size, false, mode),
        encode(value, bytes, offset, path) {
          writeBytes(bytes, offset, type.size, toInteger(value, type.size * 8, false, path));
        },
      };
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

function floatCodec(size: number): Codec {
  if (size !== 4 && size !== 8) return bytesCodec(size);
  return {
    size,
    decode: size === 4 ? (b, o) => b.readFloatLE(o) : (b, o) => b.readDoubleLE(o),
    encode(value, bytes, offset, path) {
      if (typeof value !== "number") {
        throw new TypeError(`${path} must be a number, not ${describe(value)}`);
      }
      if (size === 4) bytes.writeFloatLE(value, offset);
      else bytes.writeDoubleLE(value, offset);
    },
  };
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
