// SPDX-License-Identifier: MIT
import { BtfData, type BtfVariable } from "./btf.js";
import { encodeValue, rawCodec, type DecodedValue, type Int64Mode } from "./codec.js";
import { failure } from "./errors.js";
import { BpfMap } from "./map.js";
import { suggestion } from "./names.js";
import { native, type NativeMapSpec, type NativeObject, type NativeProgramSpec } from "./native.js";
import { ObjectBtf } from "./object-btf.js";
import {
  NativeMapView,
  NativeProgramView,
  shortName,
  type MapSpec,
  type ProgramSpec,
} from "./object-spec.js";
import { Program } from "./program.js";
import { Variable } from "./variable.js";

export interface OpenOptions {
  /** Names the object; default: the file's name. */
  name?: string;
  /** How 64-bit integers decode, everywhere in this object; default "bigint". */
  int64?: Int64Mode;
}

function byName<T extends { readonly name: string }>(list: readonly T[]): ReadonlyMap<string, T> {
  return new Map(list.map((entry) => [entry.name, entry]));
}

function isConstant(variable: BtfVariable): boolean {
  return variable.section === ".rodata" || variable.section.startsWith(".rodata.");
}

/** An object file, opened and configurable; nothing is in the kernel yet. */
export class BpfObject {
  readonly #native: NativeObject;
  readonly #mapSpecs: NativeMapSpec[];
  readonly #programs: ReadonlyMap<string, ProgramSpec>;
  readonly #maps: ReadonlyMap<string, MapSpec>;
  #consumed = false;
  /** The types of this object. */
  readonly btf: ObjectBtf;

  /** @internal */
  constructor(nativeObject: NativeObject, btf: ObjectBtf) {
    this.#native = nativeObject;
    this.#mapSpecs = nativeObject.maps();
    this.#programs = byName(
      nativeObject.programs().map((spec) => new NativeProgramView(nativeObject, spec)),
    );
    this.#maps = byName(this.#mapSpecs.map((spec) => new NativeMapView(nativeObject, spec)));
    this.btf = btf;
  }

  /**
   * Opens an object file, or its bytes.
   * @throws BpfError: ENOENT, or what libbpf says about a file it does not understand
   */
  static open(file: string | Uint8Array, options: OpenOptions = {}): BpfObject {
    const { name = "", int64 = "bigint" } = options;
    const nativeObject = new native.NativeObject(file, name);
    const bytes = nativeObject.btf();
    return new BpfObject(nativeObject, new ObjectBtf(bytes && new BtfData(bytes), int64));
  }

  /** By name. */
  get programs(): ReadonlyMap<string, ProgramSpec> {
    return this.#programs;
  }

  /** By name; global data sections are ".rodata", ".data", ".bss". */
  get maps(): ReadonlyMap<string, MapSpec> {
    return this.#maps;
  }

  /**
   * Sets a `const volatile` variable. The verifier knows its value and leaves out the code it
   * rules out.
   * @throws BpfError (ENOENT) naming the closest variables; TypeError, RangeError for the value
   */
  setConstant(name: string, value: DecodedValue): this {
    return this.#write("set constant", name, value, isConstant);
  }

  /** Sets the value a variable of .data or .bss starts with. @throws as setConstant */
  setInitial(name: string, value: DecodedValue): this {
    return this.#write("set initial value", name, value, (variable) => !isConstant(variable));
  }

  /**
   * Loads programs and creates maps. This object is used up by it, also when it fails.
   * @throws VerifierError when the verifier refuses a program, BpfError otherwise
   */
  load(): LoadedObject {
    this.#requireOpen("load");
    this.#consumed = true;
    this.#native.load();
    return new LoadedObject(this.#native, this.btf);
  }

  /** Frees an object that is not to be loaded; after load() it does nothing. */
  close(): void {
    if (this.#consumed) return;
    this.#consumed = true;
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #requireOpen(operation: string): void {
    if (this.#consumed) throw failure(operation, "object", "EBADF", "it is loaded or closed");
  }

  #write(
    operation: string,
    name: string,
    value: DecodedValue,
    accept: (variable: BtfVariable) => boolean,
  ): this {
    this.#requireOpen(operation);
    const variables = [...this.btf.variables().values()].filter(accept);
    const variable = variables.find((entry) => entry.name === name);
    const section = this.#mapSpecs.find((spec) => shortName(spec) === variable?.section);
    if (!variable || !section) {
      const known = variables.map((entry) => entry.name);
      throw failure(
        operation,
        name,
        "ENOENT",
        `the object has no such variable${suggestion(name, known)}`,
      );
    }
    const bytes = encodeValue(this.btf.variableCodec(variable), value, name);
    this.#native.writeInitial(section.name, variable.offset, bytes);
    return this;
  }
}

/** An object in the kernel. Closing it detaches its links and closes its ring buffers first. */
export class LoadedObject {
  readonly #native: NativeObject;
  readonly #programSpecs: ReadonlyMap<string, NativeProgramSpec>;
  readonly #mapSpecs: ReadonlyMap<string, NativeMapSpec>;
  readonly #programs = new Map<string, Program>();
  readonly #maps = new Map<string, BpfMap<unknown, unknown>>();
  /** The types of this object. */
  readonly btf: ObjectBtf;

  /** @internal */
  constructor(nativeObject: NativeObject, btf: ObjectBtf) {
    this.#native = nativeObject;
    this.#programSpecs = byName(nativeObject.programs());
    this.#mapSpecs = new Map(nativeObject.maps().map((spec) => [shortName(spec), spec]));
    this.btf = btf;
  }

  /** @throws BpfError (ENOENT) when it is not in the object, or was not loaded */
  program(name: string): Program {
    const known = this.#programs.get(name);
    if (known) return known;
    const spec = this.#programSpecs.get(name);
    if (!spec?.loaded) {
      const loaded = [...this.#programSpecs.values()].filter((entry) => entry.loaded);
      const message = spec
        ? "the program was not loaded (autoload is off)"
        : `the object has no such program${suggestion(name, loaded.map((entry) => entry.name))}`;
      throw failure("get program", name, "ENOENT", message);
    }
    const program = new Program(this.#native.program(name), name, spec.section);
    this.#programs.set(name, program);
    return program;
  }

  /** Every program that is loaded. */
  programs(): Program[] {
    const loaded = [...this.#programSpecs.values()].filter((spec) => spec.loaded);
    return loaded.map((spec) => this.program(spec.name));
  }

  /**
   * The type parameters are the caller's word for what the BTF says; nothing checks them.
   * @throws BpfError (ENOENT) when it is not in the object, or was not created
   */
  map<K = DecodedValue, V = DecodedValue>(name: string): BpfMap<K, V> {
    const known = this.#maps.get(name);
    if (known) return known as BpfMap<K, V>;
    const spec = this.#mapSpecs.get(name);
    if (!spec?.created) {
      const created = [...this.#mapSpecs].filter(([, entry]) => entry.created);
      const message = spec
        ? "the map was not created (autocreate is off)"
        : `the object has no such map${suggestion(name, created.map(([key]) => key))}`;
      throw failure("get map", name, "ENOENT", message);
    }
    const map = new BpfMap<K, V>(
      this.#native.map(spec.name),
      name,
      spec.type,
      this.btf.codecFor(spec.keyTypeId, spec.keySize),
      spec.internal ? rawCodec(spec.valueSize) : this.btf.codecFor(spec.valueTypeId, spec.valueSize),
    );
    this.#maps.set(name, map);
    return map;
  }

  /** Whether the program is loaded. */
  hasProgram(name: string): boolean {
    return this.#programSpecs.get(name)?.loaded ?? false;
  }

  /** Whether the map is created. */
  hasMap(name: string): boolean {
    return this.#mapSpecs.get(name)?.created ?? false;
  }

  /** A global variable. @throws BpfError (ENOENT) naming the closest variables */
  variable<T = DecodedValue>(name: string): Variable<T> {
    const variables = this.btf.variables();
    const variable = variables.get(name);
    const section = variable && this.#mapSpecs.get(variable.section);
    if (!variable || !section?.created) {
      throw failure(
        "get variable",
        name,
        "ENOENT",
        `the object has no such variable${suggestion(name, variables.keys())}`,
      );
    }
    const codec = this.btf.variableCodec(variable);
    return new Variable<T>(this.#native.map(section.name), variable, codec);
  }

  /**
   * The same file once more, to load programs that were left out. The maps this object has made, those of
   * its variables and constants included, are the new one's as well: not copied, not cleared, and not to be
   * configured (`MapSpec.shared`). The rest is as open() gives it. Both live on their own: a shared map is
   * there until both are closed. The file on disk is not read again.
   * @throws BpfError (ENOTSUP) for a map of programs
   */
  reopen(): BpfObject {
    return new BpfObject(new native.NativeObject(this.#native, ""), this.btf);
  }

  /** Detaches and frees everything of this object. Closing twice is fine. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
