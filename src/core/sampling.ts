/**
 * Owns: what sampled modules share: attaching several programs as one, reading the counters of a thousand
 * processes cheaply, and turning running totals into what happened since the last tick. Totals are never
 * cleared in the kernel, since what comes between the read and the clear would be lost.
 */
import type { Link } from "libbpf-ts";
import type { Context, LoadedParts, Process } from "./contract.js";

/** Attaches all or none; the function detaches in reverse order. */
export function attachAll(context: Context, programs: readonly string[]): () => void {
  const links: Link[] = [];
  const detach = (): void => {
    for (const link of links.reverse()) link.close();
    links.length = 0;
  };
  try {
    for (const program of programs) links.push(context.attach(program));
  } catch (error) {
    detach();
    throw error;
  }
  return detach;
}

/**
 * The unsigned 64-bit fields of a map from u32 to a struct, without decoding all the rest into objects:
 * an idle tick over a thousand processes must not be felt.
 */
export class Counters {
  readonly #object: LoadedParts;
  readonly #map: string;
  readonly #offsets: readonly number[];

  /** `struct` as in "struct cpu_total"; places are taken from the object's BTF. */
  constructor(object: LoadedParts, map: string, struct: string, fields: readonly string[]) {
    this.#object = object;
    this.#map = map;
    const { fields: known } = object.btf.decoder(struct);
    this.#offsets = fields.map((name) => {
      const field = known.find((each) => each.name === name);
      if (field?.bitSize !== 64) throw new TypeError(`${struct} has no 64-bit field ${name}`);
      return field.bitOffset / 8;
    });
  }

  /** Calls back for each entry; the array is used again for the next. */
  read(each: (key: number, values: Float64Array) => void): void {
    const map = this.#object.map(this.#map);
    const { count, keys, values } = map.entriesRaw();
    const found = new Float64Array(this.#offsets.length);
    for (let i = 0; i < count; i++) {
      const base = i * map.valueSize;
      for (const [index, offset] of this.#offsets.entries()) {
        const at = base + offset;
        found[index] = values.readUInt32LE(at) + values.readUInt32LE(at + 4) * 2 ** 32;
      }
      each(keys.readUInt32LE(i * 4), found);
    }
  }

  delete(keys: readonly number[]): void {
    this.#object.map<number>(this.#map).deleteMany(keys);
  }
}

/** What each process added to its cumulative counters since the last look. */
export class Totals<Field extends string> {
  readonly #fields: readonly Field[];
  readonly #counters: Counters;
  readonly #before = new Map<number, Float64Array>();

  constructor(object: LoadedParts, map: string, struct: string, fields: readonly Field[]) {
    this.#fields = fields;
    this.#counters = new Counters(object, map, struct, fields);
    this.#take(() => true); // what is there now belongs to an earlier time the module was on
  }

  /**
   * By process; one that added nothing is not in it. Those born since the tick's list was made wait for the
   * next one, which has them.
   */
  take(processes: readonly Process[]): Map<number, Readonly<Record<Field, number>>> {
    const listed = new Set(processes.map((process) => process.id));
    return this.#take((process) => listed.has(process));
  }

  #take(wanted: (process: number) => boolean): Map<number, Readonly<Record<Field, number>>> {
    const changes = new Map<number, Readonly<Record<Field, number>>>();
    this.#counters.read((process, now) => {
      if (!wanted(process)) return;
      const before = this.#before.get(process);
      if (before === undefined) this.#before.set(process, Float64Array.from(now));
      const change = {} as Record<Field, number>;
      let changed = false;
      for (const [index, field] of this.#fields.entries()) {
        const value = (now[index] ?? 0) - (before?.[index] ?? 0);
        change[field] = value;
        changed ||= value !== 0;
      }
      before?.set(now);
      if (changed) changes.set(process, change);
    });
    return changes;
  }

  forget(ended: readonly Process[]): void {
    this.#counters.delete(
      ended.map((process) => process.id).filter((process) => this.#before.delete(process)),
    );
  }
}
