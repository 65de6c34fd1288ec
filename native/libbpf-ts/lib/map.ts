// SPDX-License-Identifier: MIT
import { encodeValue, type Codec, type DecodedValue } from "./codec.js";
import { failure } from "./errors.js";
import type { NativeMap, NativeShape } from "./native.js";

/** Whether the key may, must not, or must exist already. */
export type UpdateMode = "any" | "create" | "exist";

const FLAGS: Readonly<Record<UpdateMode, number>> = { any: 0, create: 1, exist: 2 };

/** Entries as the kernel gave them: `count` keys back to back, and as many values. */
export interface RawEntries {
  count: number;
  keys: Buffer;
  values: Buffer;
}

export let nativeMap: (map: BpfMap<unknown, unknown>) => NativeMap;

/**
 * A map in the kernel. Keys and values are typed by the object's BTF; where a map was declared by
 * sizes only, they are bytes. All methods throw BpfError; a value of the wrong shape is a TypeError
 * or RangeError before anything reaches the kernel.
 */
export class BpfMap<K = DecodedValue, V = DecodedValue> {
  readonly #native: NativeMap;
  readonly #shape: NativeShape;
  readonly #key: Codec;
  readonly #value: Codec;
  readonly name: string;
  /** "hash", "percpu_array", "ringbuf" … */
  readonly type: string;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; of one CPU's value in per-CPU maps. */
  readonly valueSize: number;
  /** The size in bytes of a ring buffer. */
  readonly maxEntries: number;

  static {
    nativeMap = (map) => map.#native;
  }

  /** @internal */
  constructor(native: NativeMap, name: string, type: string, key: Codec, value: Codec) {
    this.#native = native;
    this.#shape = native.shape();
    this.#key = key;
    this.#value = value;
    this.name = name;
    this.type = type;
    this.keySize = this.#shape.keySize;
    this.valueSize = this.#shape.valueSize;
    this.maxEntries = this.#shape.maxEntries;
  }

  /** The descriptor; it belongs to the object and closes with it. */
  get fd(): number {
    return this.#native.fd();
  }

  /** The value, or undefined when the key is not there. Not for per-CPU maps: getPerCpu. */
  get(key: K): V | undefined {
    this.#refusePerCpu("get", "getPerCpu");
    const bytes = this.#native.lookup(this.#encodeKey(key));
    return bytes && this.#decodeValue(bytes, 0);
  }

  /** In a per-CPU map every CPU gets the value. */
  set(key: K, value: V, mode: UpdateMode = "any"): void {
    const { perCpu, valueStride, valueBytes } = this.#shape;
    let bytes = encodeValue(this.#value, value, `value of ${this.name}`);
    if (perCpu) {
      const every = Buffer.alloc(valueBytes);
      for (let at = 0; at < valueBytes; at += valueStride) bytes.copy(every, at);
      bytes = every;
    }
    this.#native.update(this.#encodeKey(key), bytes, FLAGS[mode]);
  }

  /** Whether the key was there. */
  delete(key: K): boolean {
    return this.#native.remove(this.#encodeKey(key));
  }

  /**
   * Everything, read in batches (kernel ≥ 5.6; one by one where the map type has no batch read). Not
   * a snapshot: a map that changes meanwhile may show entries of before and after.
   */
  entries(): [K, V][] {
    this.#refusePerCpu("entries", "entriesPerCpu");
    return this.#decodeAll(this.entriesRaw());
  }

  /**
   * Reads and deletes everything, each entry atomically where the kernel can (hash maps: batches
   * ≥ 5.6); elsewhere an update between the read and the delete is lost.
   */
  drain(): [K, V][] {
    this.#refusePerCpu("drain", "drainPerCpu");
    return this.#decodeAll(this.drainRaw());
  }

  /** Deletes these keys in batches; keys that are not there do not count. */
  deleteMany(keys: readonly K[]): number {
    if (keys.length === 0) return 0;
    const size = this.keySize;
    const bytes = Buffer.alloc(keys.length * size);
    for (const [index, key] of keys.entries()) {
      this.#key.encode(key, bytes, index * size, `key of ${this.name}`);
    }
    return this.#native.removeMany(bytes);
  }

  /** One value per possible CPU, or undefined. */
  getPerCpu(key: K): V[] | undefined {
    this.#requirePerCpu("getPerCpu");
    const bytes = this.#native.lookup(this.#encodeKey(key));
    return bytes && this.#decodePerCpu(bytes, 0);
  }

  /** Everything, one value per possible CPU. */
  entriesPerCpu(): [K, V[]][] {
    this.#requirePerCpu("entriesPerCpu");
    return this.#decodeAllPerCpu(this.entriesRaw());
  }

  /** Reads and deletes everything, one value per possible CPU. */
  drainPerCpu(): [K, V[]][] {
    this.#requirePerCpu("drainPerCpu");
    return this.#decodeAllPerCpu(this.drainRaw());
  }

  /** Bytes as the kernel has them; in per-CPU maps those of all possible CPUs, each padded to 8. */
  getRaw(key: Uint8Array): Buffer | undefined {
    return this.#native.lookup(key);
  }

  setRaw(key: Uint8Array, value: Uint8Array, mode: UpdateMode = "any"): void {
    this.#native.update(key, value, FLAGS[mode]);
  }

  deleteRaw(key: Uint8Array): boolean {
    return this.#native.remove(key);
  }

  entriesRaw(): RawEntries {
    return this.#native.entries(false);
  }

  drainRaw(): RawEntries {
    return this.#native.entries(true);
  }

  #encodeKey(key: K): Buffer {
    return encodeValue(this.#key, key, `key of ${this.name}`);
  }

  #decodeValue(bytes: Buffer, offset: number): V {
    return this.#value.decode(bytes, offset) as V;
  }

  #decodePerCpu(bytes: Buffer, offset: number): V[] {
    const { valueStride, valueBytes } = this.#shape;
    const values: V[] = [];
    for (let at = 0; at < valueBytes; at += valueStride) {
      values.push(this.#decodeValue(bytes, offset + at));
    }
    return values;
  }

  #decodeAll(raw: RawEntries): [K, V][] {
    const entries: [K, V][] = [];
    const { keySize, valueBytes } = this.#shape;
    for (let index = 0; index < raw.count; index++) {
      const key = this.#key.decode(raw.keys, index * keySize) as K;
      entries.push([key, this.#decodeValue(raw.values, index * valueBytes)]);
    }
    return entries;
  }

  #decodeAllPerCpu(raw: RawEntries): [K, V[]][] {
    const entries: [K, V[]][] = [];
    const { keySize, valueBytes } = this.#shape;
    for (let index = 0; index < raw.count; index++) {
      const key = this.#key.decode(raw.keys, index * keySize) as K;
      entries.push([key, this.#decodePerCpu(raw.values, index * valueBytes)]);
    }
    return entries;
  }

  #refusePerCpu(method: string, instead: string): void {
    if (!this.#shape.perCpu) return;
    throw failure(method, this.name, "EINVAL", `a per-CPU map has many values: use ${instead}`);
  }

  #requirePerCpu(method: string): void {
    if (this.#shape.perCpu) return;
    throw failure(method, this.name, "EINVAL", `a map of type ${this.type} is not per CPU`);
  }
}
