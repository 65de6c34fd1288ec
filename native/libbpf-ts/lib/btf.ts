// SPDX-License-Identifier: MIT
// Reads BTF, the kernel's type format, from the bytes of one object. Types are built when asked
// for and know their neighbours by id, so recursive types are no trouble.
import { failure } from "./errors.js";
import { suggestion } from "./names.js";

const MAGIC = 0xeb9f;
const POINTER_SIZE = 8; // the BPF target's, whatever the host

const Kind = {
  Void: 0,
  Int: 1,
  Pointer: 2,
  Array: 3,
  Struct: 4,
  Union: 5,
  Enum: 6,
  Forward: 7,
  Typedef: 8,
  Volatile: 9,
  Const: 10,
  Restrict: 11,
  Function: 12,
  FunctionPrototype: 13,
  Variable: 14,
  DataSection: 15,
  Float: 16,
  DeclarationTag: 17,
  TypeTag: 18,
  Enum64: 19,
} as const;

interface Common {
  /** The outermost typedef the type was reached through, when there was one. */
  readonly typedef?: string;
}

/** An integer; `size` in bytes (1, 2, 4, 8 or 16). */
export interface IntType extends Common {
  readonly kind: "int";
  readonly name: string;
  readonly size: number;
  readonly signed: boolean;
  readonly bool: boolean;
  /** C's plain `char`: arrays of it are text. */
  readonly char: boolean;
}

/** A pointer; 8 bytes in BPF. */
export interface PointerType extends Common {
  readonly kind: "pointer";
  readonly size: number;
  readonly target: BtfType;
}

export interface ArrayType extends Common {
  readonly kind: "array";
  readonly element: BtfType;
  readonly length: number;
  /** Bytes of all elements together. */
  readonly size: number;
}

/** A member; an anonymous struct or union inside has the name "". */
export interface BtfMember {
  readonly name: string;
  /** From the start of the struct, in bits. */
  readonly bitOffset: number;
  readonly bitSize: number;
  readonly type: BtfType;
}

export interface StructType extends Common {
  readonly kind: "struct" | "union";
  readonly name: string;
  readonly size: number;
  readonly members: readonly BtfMember[];
}

export interface EnumType extends Common {
  readonly kind: "enum";
  readonly name: string;
  readonly size: number;
  readonly signed: boolean;
  /** Values are numbers, bigints in 8-byte enums. */
  readonly values: readonly { readonly name: string; readonly value: number | bigint }[];
}

export interface FloatType extends Common {
  readonly kind: "float";
  readonly name: string;
  readonly size: number;
}

/** void, functions, forward declarations: nothing that could be decoded. */
export interface UnknownType extends Common {
  readonly kind: "unknown";
  readonly name: string;
  readonly size: 0;
}

/** A C type with const, volatile and typedefs resolved away. */
export type BtfType =
  | IntType
  | PointerType
  | ArrayType
  | StructType
  | EnumType
  | FloatType
  | UnknownType;

/** Where a global variable lives. */
export interface BtfVariable {
  readonly name: string;
  readonly section: string;
  readonly offset: number;
  readonly size: number;
  readonly type: BtfType;
}

interface RawType {
  readonly name: string;
  readonly kind: number;
  readonly flag: boolean;
  readonly count: number;
  readonly sizeOrType: number;
  /** Where what follows the common part begins. */
  readonly rest: number;
}

/** Bytes after the common 12, by kind. */
function trailing(kind: number, count: number): number {
  switch (kind) {
    case Kind.Int:
    case Kind.Variable:
    case Kind.DeclarationTag:
      return 4;
    case Kind.Array:
      return 12;
    case Kind.Struct:
    case Kind.Union:
    case Kind.DataSection:
    case Kind.Enum64:
      return 12 * count;
    case Kind.Enum:
    case Kind.FunctionPrototype:
      return 8 * count;
    default:
      return 0;
  }
}

const VOID: RawType = { name: "void", kind: Kind.Void, flag: false, count: 0, sizeOrType: 0, rest: 0 };

export class BtfData {
  readonly #bytes: Buffer;
  readonly #raw: RawType[] = [VOID];
  readonly #types = new Map<number, BtfType>();
  #variables: Map<string, BtfVariable> | undefined;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC) {
      throw failure("read BTF", "object", "EINVAL", "not BTF of this machine's byte order");
    }
    const header = bytes.readUInt32LE(4);
    const start = header + bytes.readUInt32LE(8);
    const end = start + bytes.readUInt32LE(12);
    const strings = header + bytes.readUInt32LE(16);
    const text = (offset: number): string => {
      const from = strings + offset;
      const to = bytes.indexOf(0, from);
      return bytes.toString("utf8", from, to < 0 ? undefined : to);
    };
    for (let at = start; at + 12 <= end; ) {
      const info = bytes.readUInt32LE(at + 4);
      const kind = (info >>> 24) & 0x7f;
      const count = info & 0xffffff;
      this.#raw.push({
        name: text(bytes.readUInt32LE(at)),
        kind,
        flag: info >>> 31 === 1,
        count,
        sizeOrType: bytes.readUInt32LE(at + 8),
        rest: at + 12,
      });
      at += 12 + trailing(kind, count);
    }
    this.#text = text;
  }

  readonly #text: (offset: number) => string;

  /** The type with this id; 0 is void. */
  byId(id: number): BtfType {
    const known = this.#types.get(id);
    if (known) return known;
    const type = this.#build(id);
    this.#types.set(id, type);
    return type;
  }

  /** "struct foo", "union foo", "enum foo", or the plain name of a typedef or basic type. */
  byName(name: string): BtfType {
    const id = this.#find(name);
    if (id === undefined) {
      throw failure(
        "find type",
        name,
        "ENOENT",
        `the object's BTF has no ${name}${suggestion(name, this.names())}`,
      );
    }
    return this.byId(id);
  }

  /** Every name byName takes. */
  names(): string[] {
    const names: string[] = [];
    for (const raw of this.#raw) {
      if (raw.name === "") continue;
      const prefix = prefixOf(raw.kind);
      if (prefix !== undefined) names.push(prefix + raw.name);
    }
    return names;
  }

  /** Global variables of every data section, by name. */
  variables(): ReadonlyMap<string, BtfVariable> {
    if (this.#variables) return this.#variables;
    const variables = new Map<string, BtfVariable>();
    for (const section of this.#raw) {
      if (section.kind !== Kind.DataSection || section.name.startsWith(".maps")) continue;
      for (let index = 0; index < section.count; index++) {
        const at = section.rest + 12 * index;
        const variable = this.#raw[this.#bytes.readUInt32LE(at)];
        if (variable?.kind !== Kind.Variable) continue;
        if (variables.has(variable.name)) continue;
        const type = this.byId(variable.sizeOrType);
        variables.set(variable.name, {
          name: variable.name,
          section: section.name,
          offset: this.#bytes.readUInt32LE(at + 4),
          size: type.size,
          type,
        });
      }
    }
    this.#variables = variables;
    return variables;
  }

  #find(name: string): number | undefined {
    const bare = !/^(struct|union|enum) /.test(name);
    let fallback: number | undefined;
    for (const [id, raw] of this.#raw.entries()) {
      const prefix = raw.name === "" || id === 0 ? undefined : prefixOf(raw.kind);
      if (prefix === undefined) continue;
      if (prefix + raw.name === name) return id;
      if (bare && raw.name === name) fallback ??= id; // "foo" for "struct foo" when nothing else is
    }
    return fallback;
  }

  #build(start: number): BtfType {
    let id = start;
    let typedef: string | undefined;
    for (let step = 0; step < 64; step++) {
      const raw = this.#raw[id] ?? VOID;
      switch (raw.kind) {
        case Kind.Typedef:
          typedef ??= raw.name;
          id = raw.sizeOrType;
          continue;
        case Kind.Volatile:
        case Kind.Const:
        case Kind.Restrict:
        case Kind.TypeTag:
          id = raw.sizeOrType;
          continue;
        default:
          return this.#plain(raw, typedef === undefined ? {} : { typedef });
      }
    }
    return { kind: "unknown", name: "", size: 0 };
  }

  #plain(raw: RawType, common: Common): BtfType {
    const bytes = this.#bytes;
    switch (raw.kind) {
      case Kind.Int: {
        const encoding = (bytes.readUInt32LE(raw.rest) >>> 24) & 0xf;
        return {
          ...common,
          kind: "int",
          name: raw.name,
          size: raw.sizeOrType,
          signed: (encoding & 1) !== 0,
          bool: (encoding & 4) !== 0,
          char: raw.sizeOrType === 1 && ((encoding & 2) !== 0 || raw.name === "char"),
        };
      }
      case Kind.Pointer: {
        const pointer = { ...common, kind: "pointer" as const, size: POINTER_SIZE };
        return lazily(pointer, "target", () => this.byId(raw.sizeOrType));
      }
      case Kind.Array: {
        const element = this.byId(bytes.readUInt32LE(raw.rest));
        const length = bytes.readUInt32LE(raw.rest + 8);
        return { ...common, kind: "array", element, length, size: element.size * length };
      }
      case Kind.Struct:
      case Kind.Union: {
        const struct = {
          ...common,
          kind: raw.kind === Kind.Struct ? ("struct" as const) : ("union" as const),
          name: raw.name,
          size: raw.sizeOrType,
        };
        return lazily(struct, "members", () => this.#members(raw));
      }
      case Kind.Enum:
      case Kind.Enum64:
        return this.#enumeration(raw, common);
      case Kind.Float:
        return { ...common, kind: "float", name: raw.name, size: raw.sizeOrType };
      default:
        return { ...common, kind: "unknown", name: raw.name, size: 0 };
    }
  }

  #enumeration(raw: RawType, common: Common): EnumType {
    const bytes = this.#bytes;
    const wide = raw.kind === Kind.Enum64;
    // clang before 16 does not flag signed enums. Values within an errno of 2^32 were meant negative.
    const negative = (at: number): boolean => !wide && bytes.readUInt32LE(at) >= 0xfffff000;
    const signed =
      raw.flag ||
      Array.from({ length: raw.count }, (_, index) => raw.rest + 8 * index + 4).some(negative);
    const values = Array.from({ length: raw.count }, (_, index) => {
      const at = raw.rest + (wide ? 12 : 8) * index;
      const name = this.#text(bytes.readUInt32LE(at));
      if (!wide) {
        return { name, value: signed ? bytes.readInt32LE(at + 4) : bytes.readUInt32LE(at + 4) };
      }
      return { name, value: signed ? bytes.readBigInt64LE(at + 4) : bytes.readBigUInt64LE(at + 4) };
    });
    return { ...common, kind: "enum", name: raw.name, size: raw.sizeOrType, signed, values };
  }

  #members(raw: RawType): BtfMember[] {
    const bytes = this.#bytes;
    return Array.from({ length: raw.count }, (_, index) => {
      const at = raw.rest + 12 * index;
      const id = bytes.readUInt32LE(at + 4);
      const packed = bytes.readUInt32LE(at + 8);
      const type = this.byId(id);
      let bitOffset = packed;
      let bitSize = type.size * 8;
      if (raw.flag) {
        bitOffset = packed & 0xffffff;
        bitSize = packed >>> 24 !== 0 ? packed >>> 24 : bitSize;
      }
      return { name: this.#text(bytes.readUInt32LE(at)), bitOffset, bitSize, type };
    });
  }
}

/** Adds a property computed on first use, so that building a type does not build all it mentions. */
function lazily<T extends object, Name extends string, Value>(
  target: T,
  name: Name,
  compute: () => Value,
): T & Readonly<Record<Name, Value>> {
  let value: Value | undefined;
  Object.defineProperty(target, name, { enumerable: true, get: () => (value ??= compute()) });
  return target as T & Readonly<Record<Name, Value>>;
}

function prefixOf(kind: number): string | undefined {
  switch (kind) {
    case Kind.Struct:
      return "struct ";
    case Kind.Union:
      return "union ";
    case Kind.Enum:
    case Kind.Enum64:
      return "enum ";
    case Kind.Typedef:
    case Kind.Int:
    case Kind.Float:
      return "";
    default:
      return undefined;
  }
}
