// SPDX-License-Identifier: MIT
// What an object file has before it is loaded, as an author may change it.
import type { NativeMapSpec, NativeObject, NativeProgramSpec } from "./native.js";

/** A program before loading. */
export interface ProgramSpec {
  readonly name: string;
  /** As in SEC(). */
  readonly section: string;
  /** "tracing", "kprobe" (also uprobes), "raw_tracepoint" … */
  readonly type: string;
  /** Whether load() loads it; SEC("?…") starts as false. */
  autoload: boolean;
}

/** A map before loading; sizes in bytes. */
export interface MapSpec {
  readonly name: string;
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly flags: number;
  /** Of a reopened object: the map is there already, as it is, and programs of both use it. */
  readonly shared: boolean;
  /** For a ring buffer its size in bytes: a power of two of pages. */
  maxEntries: number;
  /** Whether load() creates it; programs that use it must not be loaded then. */
  autocreate: boolean;
}

/** @internal libbpf puts the object's name before the standard sections' names. */
export function shortName(spec: NativeMapSpec): string {
  return spec.internal ? (/\.(?:rodata|data|bss|kconfig)(?:$|\.).*$/.exec(spec.name)?.[0] ?? spec.name) : spec.name;
}

/** @internal */
export class NativeProgramView implements ProgramSpec {
  readonly #native: NativeObject;
  readonly #spec: NativeProgramSpec;

  constructor(nativeObject: NativeObject, spec: NativeProgramSpec) {
    this.#native = nativeObject;
    this.#spec = spec;
  }

  get name(): string {
    return this.#spec.name;
  }

  get section(): string {
    return this.#spec.section;
  }

  get type(): string {
    return this.#spec.type;
  }

  get autoload(): boolean {
    return this.#spec.autoload;
  }

  set autoload(value: boolean) {
    this.#native.setAutoload(this.#spec.name, value);
    this.#spec.autoload = value;
  }
}

/** @internal */
export class NativeMapView implements MapSpec {
  readonly #native: NativeObject;
  readonly #spec: NativeMapSpec;
  readonly name: string;

  constructor(nativeObject: NativeObject, spec: NativeMapSpec) {
    this.#native = nativeObject;
    this.#spec = spec;
    this.name = shortName(spec);
  }

  get type(): string {
    return this.#spec.type;
  }

  get keySize(): number {
    return this.#spec.keySize;
  }

  get valueSize(): number {
    return this.#spec.valueSize;
  }

  get flags(): number {
    return this.#spec.flags;
  }

  get shared(): boolean {
    return this.#spec.shared;
  }

  get maxEntries(): number {
    return this.#spec.maxEntries;
  }

  set maxEntries(value: number) {
    this.#native.setMaxEntries(this.#spec.name, value);
    this.#spec.maxEntries = value;
  }

  get autocreate(): boolean {
    return this.#spec.autocreate;
  }

  set autocreate(value: boolean) {
    this.#native.setAutocreate(this.#spec.name, value);
    this.#spec.autocreate = value;
  }
}
