/**
 * Owns: which processes the run is about, for probes that live in user space: a uprobe is put into the
 * tree's own address spaces, so nobody else runs into it.
 */
import * as fs from "node:fs";
import type { UprobeEvent } from "libbpf-ts";
import type { ExecEvent, Process, Scope } from "./contract.js";
import { lifeKinds, type Tree } from "./tree.js";

export class TreeScope implements Scope {
  readonly #tree: Tree;
  readonly #host: boolean;
  readonly #follow: boolean;
  readonly #anchorPid: number;
  readonly launch: { readonly command: string; readonly env: NodeJS.ProcessEnv } | undefined;

  constructor(
    tree: Tree,
    options: {
      host: boolean;
      follow: boolean;
      anchorPid: number;
      launch?: { command: string; env: NodeJS.ProcessEnv } | undefined;
    },
  ) {
    this.#tree = tree;
    this.#host = options.host;
    this.#follow = options.follow;
    this.#anchorPid = options.anchorPid;
    this.launch = options.launch;
  }

  anchor(): number {
    if (this.#host || threadsOf(this.#anchorPid).length > 0) return this.#anchorPid;
    return this.pids()[0] ?? this.#anchorPid;
  }

  processes(): Process[] {
    return this.#tree.read();
  }

  pids(): number[] {
    return this.processes()
      .filter((process) => !process.ended && process.pid > 0)
      .map((process) => process.pid);
  }

  cover(event: UprobeEvent): void {
    if (this.#host) {
      event.includeEveryone();
      return;
    }
    // Without children the program's own anchor event covers the target's address space.
    if (!this.#follow) return;
    // Each thread: a thread started later inherits from the one that started it. Twice, since one may
    // fork while the list is read; what it forks after it was included inherits.
    const included = new Set<number>();
    for (let pass = 0; pass < 2; pass++) {
      for (const tid of this.pids().flatMap(threadsOf)) {
        if (included.has(tid)) continue;
        included.add(tid);
        event.include(tid);
      }
    }
  }

  onExec(listener: (event: ExecEvent) => void): () => void {
    return this.#tree.listen([lifeKinds.exec], listener);
  }
}

function threadsOf(pid: number): number[] {
  try {
    return fs.readdirSync(`/proc/${String(pid)}/task`).map(Number);
  } catch {
    return []; // gone
  }
}
