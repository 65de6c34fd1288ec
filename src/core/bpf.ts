/**
 * Owns: the BPF side of a run: what is loaded, and each program's attachment, counted, since modules share
 * some.
 * Owns not: how it is loaded (bpf-steps.ts), what any program does.
 */
import * as fs from "node:fs";
import { BpfError, type Link, type NetfilterOptions, type Program } from "libbpf-ts";
import type { BpfSteps } from "./bpf-steps.js";
import { errors } from "./errors.js";
import { host } from "./host.js";

/** Priorities tried at a netfilter hook; each may be another treesnoop's. */
const netfilterTries = 64;

export class Bpf {
  /** Everything that is loaded by now. */
  readonly object: BpfSteps;
  readonly #attached = new Map<string, { link: Link; users: number }>();

  constructor(object: BpfSteps) {
    this.object = object;
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
    return /^(cgroup|sockops)/.test(program.section) ? this.#attachCgroup(program) : program.attach();
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
