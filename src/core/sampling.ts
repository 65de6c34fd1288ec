/**
 * Owns: what sampled modules share: attaching several programs as one, and turning running totals into
 * what happened since the last tick. Totals are never cleared in the kernel, since what comes between the
 * read and the clear would be lost.
 */
import type { BpfMap, Link } from "libbpf-ts";
import type { Context, Process } from "./module.js";

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

/** Differences of the cumulative counters in a map of struct of integers, by process. */
export class Totals<Value extends Readonly<Record<string, number>>> {
  readonly #map: BpfMap<number, Value>;
  #before: Map<number, Value>;

  /** What the map holds now belongs to an earlier time the module was on. */
  constructor(map: BpfMap<number, Value>) {
    this.#map = map;
    this.#before = new Map(map.entries());
  }

  /** What each process added since the last call. */
  take(): Map<number, Value> {
    const now = new Map(this.#map.entries());
    const changes = new Map<number, Value>();
    for (const [process, value] of now) {
      const before = this.#before.get(process);
      const change = Object.fromEntries(
        Object.entries(value).map(([key, total]) => [key, total - (before?.[key] ?? 0)]),
      );
      changes.set(process, change as unknown as Value);
    }
    this.#before = now;
    return changes;
  }

  forget(ended: readonly Process[]): void {
    const ids = ended.map((process) => process.id).filter((id) => this.#before.delete(id));
    this.#map.deleteMany(ids);
  }
}
