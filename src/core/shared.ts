/**
 * Owns: what modules share beyond single programs: made by the first that asks, stopped with the last.
 */
import type { Bpf } from "./bpf.js";
import type { Context, Process, Scope, Service } from "./contract.js";

interface Held {
  readonly value: Service;
  /** What it has taken itself when it was made: given back with it, not with the module that asked first. */
  readonly taken: string[];
  users: number;
}

export class Shared {
  readonly #held = new Map<string, Held>();

  tick(): void {
    for (const { value } of this.#held.values()) value.tick?.();
  }

  /** The last rows of these processes are written. */
  forget(ended: readonly Process[]): void {
    for (const { value } of this.#held.values()) value.forget?.(ended);
  }

  #giveBack(taken: string[]): void {
    for (const name of taken.splice(0).reverse()) {
      const held = this.#held.get(name);
      if (!held || --held.users > 0) continue;
      this.#held.delete(name);
      held.value.stop();
      this.#giveBack(held.taken);
    }
  }

  /** The context of one module, and the function that gives back what it took. */
  contextFor(
    bpf: Bpf,
    scope: Scope,
    warn: (sentence: string) => void,
  ): { context: Context; release: () => void } {
    const byModule: string[] = [];
    let taken = byModule;
    const make = (maker: () => Service): Held => {
      const outer = taken;
      const own: string[] = [];
      taken = own;
      try {
        return { value: maker(), taken: own, users: 0 };
      } catch (error) {
        this.#giveBack(own);
        throw error;
      } finally {
        taken = outer;
      }
    };
    const context: Context = {
      object: bpf.object,
      scope,
      processes: () => scope.processes(),
      warn,
      attach: (program) => bpf.attach(program),
      attachNetfilter: (program, place) => bpf.attachNetfilter(program, place),
      map: (name) => bpf.object.map(name),
      shared: <T extends Service>(name: string, maker: () => T): T => {
        const held = this.#held.get(name) ?? make(maker);
        this.#held.set(name, held);
        held.users++;
        taken.push(name);
        return held.value as T;
      },
    };
    return {
      context,
      release: () => {
        this.#giveBack(byModule);
      },
    };
  }
}
