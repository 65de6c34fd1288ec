/**
 * Owns: the one BPF object of the run: which programs are loaded, which maps made, and each program's
 * attachment, counted, since modules share some.
 * Owns not: what any of them does.
 */
import * as fs from "node:fs";
import {
  BpfError,
  BpfObject,
  type Link,
  type LoadedObject,
  type NetfilterOptions,
  type Program,
  VerifierError,
} from "libbpf-ts";
import { describe, errors } from "./errors.js";
import { host } from "./host.js";
import type { BpfParts } from "./contract.js";

const objectFile = new URL("../../build/treesnoop.bpf.o", import.meta.url).pathname;

/** Priorities tried at a netfilter hook; each may be another treesnoop's. */
const netfilterTries = 64;

/** A set of parts that stands or falls together, by name. */
export type PartSets = ReadonlyMap<string, BpfParts>;

export interface Loaded {
  readonly bpf: Bpf;
  /** Sets the kernel refused, with its reason; all others are loaded. */
  readonly refused: ReadonlyMap<string, string>;
}

function open(sets: PartSets, constants: Readonly<Record<string, number>>, sizes: ReadonlyMap<string, number>): BpfObject {
  const object = BpfObject.open(objectFile, { name: "treesnoop", int64: "number" });
  const parts = [...sets.values()];
  const programs = new Set(parts.flatMap((part) => part.programs));
  const maps = new Set(parts.flatMap((part) => part.maps));
  for (const [name, program] of object.programs) program.autoload = programs.has(name);
  for (const [name, map] of object.maps) {
    if (!name.startsWith(".")) map.autocreate = maps.has(name);
    const size = sizes.get(name);
    if (size !== undefined) map.maxEntries = size;
  }
  for (const [name, value] of Object.entries(constants)) object.setConstant(name, value);
  return object;
}

/** Loads every set; one the kernel refuses is left out and the rest tried again. */
export function load(
  sets: PartSets,
  required: string,
  constants: Readonly<Record<string, number>>,
  sizes: ReadonlyMap<string, number>,
): Loaded {
  const remaining = new Map(sets);
  const refused = new Map<string, string>();
  for (;;) {
    try {
      const object = open(remaining, constants, sizes);
      const sections = new Map([...object.programs].map(([name, spec]) => [name, spec.section]));
      return { bpf: new Bpf(object.load(), sections), refused };
    } catch (error) {
      if (!(error instanceof VerifierError)) {
        throw errors.load(describe(error), (error as { hint?: string }).hint ?? "");
      }
      const guilty = [...remaining].filter(([, part]) => part.programs.includes(error.program));
      if (guilty.length === 0 || guilty.some(([name]) => name === required)) {
        throw errors.load(error.message, error.hint);
      }
      for (const [name] of guilty) {
        remaining.delete(name);
        refused.set(name, `the kernel's verifier refused ${error.program}: ${error.message}`);
      }
    }
  }
}

export class Bpf {
  readonly object: LoadedObject;
  readonly #sections: ReadonlyMap<string, string>;
  readonly #attached = new Map<string, { link: Link; users: number }>();

  constructor(object: LoadedObject, sections: ReadonlyMap<string, string>) {
    this.object = object;
    this.#sections = sections;
  }

  /** Everything that was loaded. */
  programs(): Program[] {
    return [...this.#sections.keys()]
      .filter((name) => this.object.hasProgram(name))
      .map((name) => this.object.program(name));
  }

  /** Attaches a program where its SEC() says, for as long as one of its links is open. */
  attach(name: string): Link {
    return this.#share(name, () => this.attachAgain(name));
  }

  /**
   * Attaches a netfilter program in a network namespace, for as long as one of its links there is open. The
   * kernel takes one BPF program a priority: where it is taken, the next one towards zero is tried.
   */
  attachNetfilter(name: string, place: NetfilterOptions): Link {
    const { family, hook, priority, namespace } = place;
    const { ino } = namespace === undefined ? fs.statSync("/proc/self/ns/net") : fs.fstatSync(namespace);
    const program = this.object.program(name);
    return this.#share([name, family, hook, priority, ino].join(" "), () => {
      for (let tries = 1; ; tries++) {
        const further = (tries - 1) * (priority < 0 ? 1 : -1);
        try {
          return program.attachNetfilter({ ...place, priority: priority + further });
        } catch (error) {
          if (!(error instanceof BpfError && error.code === "EBUSY") || tries === netfilterTries) throw error;
        }
      }
    });
  }

  /** The attachment of this key, made by the first that asks and closed with the last. */
  #share(key: string, make: () => Link): Link {
    let entry = this.#attached.get(key);
    if (!entry) {
      entry = { link: make(), users: 0 };
      this.#attached.set(key, entry);
    }
    const held = entry;
    held.users++;
    let closed = false;
    const close = (): void => {
      if (closed) return;
      closed = true;
      if (--held.users > 0) return;
      held.link.close();
      this.#attached.delete(key);
    };
    return {
      get closed() {
        return closed;
      },
      close,
      [Symbol.dispose]: close,
    };
  }

  /** A second, independent attachment, whatever is attached already. */
  attachAgain(name: string): Link {
    const program = this.object.program(name);
    return /^(cgroup|sockops)/.test(this.#sections.get(name) ?? "")
      ? this.#attachCgroup(program)
      : program.attach();
  }

  #attachCgroup(program: Program): Link {
    const root = host.cgroup2();
    if (root === undefined) throw errors.unavailable(program.name, host.cgroup2Mounted().reason);
    return program.attachCgroup(root);
  }

  close(): void {
    for (const { link } of this.#attached.values()) link.close();
    this.#attached.clear();
    this.object.close();
  }
}
