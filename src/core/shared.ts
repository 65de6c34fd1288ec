/**
 * Owns: what modules share beyond single programs: made by the first that asks, stopped with the last.
 */
import type { Bpf } from "./bpf.js";
import type { Context, Process, Scope, Service } from "./contract.js";

export class Shared {
  readonly #held = new Map<string, { value: Service; users: number }>();

  tick(): void {
    for (const { value } of this.#held.values()) value.tick?.();
  }

  /** The last rows of these processes are written. */
  forget(ended: readonly Process[]): void {
    for (const { value } of this.#held.values()) value.forget?.(ended);
  }

  /** The context of one module, and the function that gives back what it took. */
  contextFor(
    bpf: Bpf,
    scope: Scope,
    warn: (sentence: string) => void,
  ): { context: Context; release: () => void } {
    const taken: string[] = [];
    const context: Context = {
      object: bpf.object,
      scope,
      processes: () => scope.processes(),
      warn,
      attach: (program) => bpf.attach(program),
      attachNetfilter: (program, place) => bpf.attachNetfilter(program, place),
      map: (name) => bpf.object.map(name),
      shared: <T extends Service>(name: string, make: () => T): T => {
        let entry = this.#held.get(name);
        if (!entry) {
          entry = { value: make(), users: 0 };
          this.#held.set(name, entry);
        }
        entry.users++;
        taken.push(name);
        return entry.value as T;
      },
    };
    const release = (): void => {
      for (const name of taken.splice(0)) {
        const entry = this.#held.get(name);
        if (!entry || --entry.users > 0) continue;
        this.#held.delete(name);
        entry.value.stop();
      }
    };
    return { context, release };
  }
}
