/**
 * Owns: what is in the kernel of the BPF object. It is loaded in steps, since the verifier's time is spent
 * before the target may run: first what is switched on, then what a module switched on later needs beyond
 * that. Every step has the maps, variables and constants of those before it.
 * Owns not: when there is a next step (module-set.ts), attaching (bpf.ts).
 */
import { BpfObject, type LoadedObject, type Program } from "libbpf-ts";
import type { BpfParts, LoadedParts } from "./contract.js";

const objectFile = new URL("../../build/treesnoop.bpf.o", import.meta.url).pathname;

/** What the object is told before its first step; later ones have the same. */
export interface BpfSettings {
  /** `const volatile` variables, also of modules that are off. */
  readonly constants: Readonly<Record<string, number>>;
  /** Entries of the maps whose number the host decides. */
  readonly sizes: Readonly<Record<string, number>>;
}

function choose(object: BpfObject, parts: readonly BpfParts[], loaded: (program: string) => boolean): void {
  const programs = new Set(parts.flatMap((part) => part.programs));
  const maps = new Set(parts.flatMap((part) => part.maps));
  for (const [name, program] of object.programs) program.autoload = programs.has(name) && !loaded(name);
  for (const [name, map] of object.maps) {
    if (!map.shared && !name.startsWith(".")) map.autocreate = maps.has(name);
  }
}

export class BpfSteps implements LoadedParts {
  readonly #steps: [LoadedObject, ...LoadedObject[]];

  /** @throws VerifierError, BpfError */
  constructor(parts: readonly BpfParts[], settings: BpfSettings, file = objectFile) {
    using object = BpfObject.open(file, { name: "treesnoop", int64: "number" });
    choose(object, parts, () => false);
    for (const [name, size] of Object.entries(settings.sizes)) {
      const map = object.maps.get(name);
      if (map) map.maxEntries = size;
    }
    for (const [name, value] of Object.entries(settings.constants)) object.setConstant(name, value);
    this.#steps = [object.load()];
  }

  /** What of these is not there yet, all or nothing. @throws VerifierError, BpfError */
  add(parts: BpfParts): void {
    const { programs, maps } = parts;
    if (programs.every((name) => this.hasProgram(name)) && maps.every((name) => this.hasMap(name))) return;
    using object = (this.#steps.at(-1) ?? this.#steps[0]).reopen();
    choose(object, [parts], (name) => this.hasProgram(name));
    this.#steps.push(object.load());
  }

  get btf(): LoadedObject["btf"] {
    return this.#steps[0].btf;
  }

  hasProgram(name: string): boolean {
    return this.#steps.some((step) => step.hasProgram(name));
  }

  program(name: string): Program {
    return this.#find((step) => step.hasProgram(name)).program(name);
  }

  programs(): Program[] {
    return this.#steps.flatMap((step) => step.programs());
  }

  hasMap(name: string): boolean {
    return this.#steps.some((step) => step.hasMap(name));
  }

  readonly map: LoadedObject["map"] = (name) => this.#find((step) => step.hasMap(name)).map(name);

  readonly variable: LoadedObject["variable"] = (name) => this.#steps[0].variable(name);

  /** The first step that has it; where none has, any will say so. */
  #find(has: (step: LoadedObject) => boolean): LoadedObject {
    return this.#steps.find(has) ?? this.#steps[0];
  }

  close(): void {
    for (const step of this.#steps.reverse()) step.close();
  }
}
