// SPDX-License-Identifier: MIT
// Readers and writers of what is not made of other types: integers, bitfields, enums, text, bytes.
import type { BtfMember, BtfType, EnumType, IntType } from "./btf.js";
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

export function describe(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${String(value.length)}`;
  if (value instanceof Uint8Array) return `${String(value.length)} bytes`;
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") {
    return String(value);
  }
  return value === null ? "null" : typeof value;
}

export function typeName(type: BtfType): string {
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
  if (size === 8) {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value), offset);
    return;
  }
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

/** The low bits, read as an integer of that width. */
export function truncate(value: bigint, bits: number, signed: boolean): bigint {
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

export function integerCodec(type: IntType, mode: Int64Mode): Codec {
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
      if (size === 4 && typeof value === "number" && (signed ? value | 0 : value >>> 0) === value) {
        bytes.writeInt32LE(value | 0, offset); // nearly every key: no bigints on the way
        return;
      }
      writeBytes(bytes, offset, size, toInteger(value, size * 8, signed, path));
    },
  };
}

export function enumCodec(type: EnumType, mode: Int64Mode): Codec {
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

export function textCodec(size: number): Codec {
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

export function bytesCodec(size: number): Codec {
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

export function isBitfield(member: BtfMember): boolean {
  return member.bitOffset % 8 !== 0 || member.bitSize !== member.type.size * 8;
}

export function bitfieldCodec(member: BtfMember, mode: Int64Mode): Codec {
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

export function pointerCodec(size: number, mode: Int64Mode): Codec {
  return {
    size,
    decode: integerReader(size, false, mode),
    encode(value, bytes, offset, path) {
      writeBytes(bytes, offset, size, toInteger(value, size * 8, false, path));
    },
  };
}

export function floatCodec(size: number): Codec {
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
