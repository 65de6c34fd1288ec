// SPDX-License-Identifier: MIT
import type { BtfData, BtfType, BtfVariable } from "./btf.js";
import {
  asBuffer,
  compile,
  encodeValue,
  flattenFields,
  rawCodec,
  type Codec,
  type DecodedValue,
  type Field,
  type Int64Mode,
} from "./codec.js";
import { failure } from "./errors.js";

/** Reads and writes one C type in memory. */
export interface RecordDecoder<T> {
  /** Bytes of one record. */
  readonly size: number;
  /** The fields of a struct or union, those of anonymous ones inside in line; else empty. */
  readonly fields: readonly Field[];
  /** Decodes `size` bytes at `offset` (bytes, default 0). RangeError when they are not there. */
  decode(bytes: Uint8Array, offset?: number): T;
  /** TypeError for a wrong shape, RangeError for a number that does not fit; both name the field. */
  encode(value: T): Buffer;
}

/**
 * The types of one object. Only what a program, map or variable of the object uses is in it: a
 * record that goes through a ring buffer needs a variable or function of its type in the C code.
 */
export class ObjectBtf {
  readonly #data: BtfData | undefined;
  readonly #int64: Int64Mode;
  readonly #codecs = new Map<string, Codec>();

  /** @internal */
  constructor(data: BtfData | undefined, int64: Int64Mode) {
    this.#data = data;
    this.#int64 = int64;
  }

  /**
   * "struct foo", "union foo", "enum foo", or a typedef's or basic type's name.
   * @throws BpfError (ENOENT) naming the closest types
   */
  type(name: string): BtfType {
    if (!this.#data) {
      throw failure("find type", name, "ENOENT", "the object has no BTF: compile it with -g");
    }
    return this.#data.byName(name);
  }

  /** A reader of this type; compiled once, so keep it. */
  decoder<T = DecodedValue>(
    typeName: string,
    options: { int64?: Int64Mode } = {},
  ): RecordDecoder<T> {
    const type = this.type(typeName);
    const codec = compile(type, options.int64 ?? this.#int64);
    return {
      size: codec.size,
      fields: flattenFields(type),
      decode(bytes, offset = 0) {
        if (!Number.isInteger(offset) || offset < 0 || offset + codec.size > bytes.length) {
          throw new RangeError(
            `${typeName} needs ${String(codec.size)} bytes at ${String(offset)}, ` +
              `there are ${String(bytes.length)} in all`,
          );
        }
        return codec.decode(asBuffer(bytes), offset) as T;
      },
      encode: (value) => encodeValue(codec, value, typeName),
    };
  }

  /** @internal Global variables by name. */
  variables(): ReadonlyMap<string, BtfVariable> {
    return this.#data?.variables() ?? new Map<string, BtfVariable>();
  }

  /** @internal The codec of a variable. */
  variableCodec(variable: BtfVariable): Codec {
    return compile(variable.type, this.#int64);
  }

  /** @internal The codec of a map's key or value: raw bytes where the object does not say. */
  codecFor(typeId: number, size: number): Codec {
    if (!this.#data || typeId === 0) return rawCodec(size);
    const cache = `${String(typeId)}:${String(size)}`;
    let codec = this.#codecs.get(cache);
    if (!codec) {
      const typed = compile(this.#data.byId(typeId), this.#int64);
      codec = typed.size === size ? typed : rawCodec(size);
      this.#codecs.set(cache, codec);
    }
    return codec;
  }
}
