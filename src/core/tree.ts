/**
 * Owns: the monitor's view of the tree: marking its roots, reading the process table each tick, and
 * hearing of starts, execs and ends at once.
 * Owns not: membership itself, which lives in the kernel (bpf/core/tree.bpf.c).
 */
import { type BpfMap, type Link, type RecordDecoder, RingBuffer } from "libbpf-ts";
import type { Bpf } from "./bpf.js";
import type { BpfParts, Process } from "./contract.js";

export const treeParts: BpfParts = {
  programs: ["tree_introduce", "tree_newtask", "tree_rename", "tree_exec", "tree_switch", "tree_walk"],
  maps: ["threads", "processes", "life", "event_rings", "stream_lost", "stream_losses"],
};

/** As enum life_kind in tree.h. */
export const lifeKinds = { exec: 1, end: 2 } as const;

export interface LifeEvent {
  readonly kind: number;
  readonly process: number;
  readonly pid: number;
}

interface ProcessRecord {
  readonly end_ns: number;
  readonly cpu_ns: number;
  readonly pid: number;
  readonly parent: number;
  readonly threads: number;
  readonly exit_code: number;
  readonly comm: string;
}

function processOf(id: number, record: ProcessRecord): Process {
  return {
    id,
    pid: record.pid,
    comm: record.comm,
    parent: record.parent,
    threads: record.threads,
    ended: record.end_ns !== 0,
    cpuNs: record.cpu_ns,
  };
}

export class Tree {
  readonly #bpf: Bpf;
  readonly #table: BpfMap<number, ProcessRecord>;
  readonly #decoder: RecordDecoder<ProcessRecord>;
  readonly #known = new Map<number, { bytes: Buffer; process: Process }>();
  readonly #listeners = new Map<(event: LifeEvent) => void, readonly number[]>();
  readonly #ring: RingBuffer;
  #links: Link[] = [];
  #lastLink: Link;
  /** Serial number of the root; 0 in host mode. */
  root = 0;
  #rootEnd: number | undefined;

  constructor(bpf: Bpf) {
    this.#bpf = bpf;
    this.#table = bpf.object.map<number, ProcessRecord>("processes");
    this.#decoder = bpf.object.btf.decoder<ProcessRecord>("struct process");
    this.#ring = new RingBuffer([bpf.object.map("life")], { onReadable: () => { this.#hear(); } });
    bpf.object.program("tree_introduce").testRun();
    for (const name of ["tree_newtask", "tree_rename", "tree_exec"]) this.#links.push(bpf.attach(name));
    this.#lastLink = bpf.attachAgain("tree_switch");
  }

  /**
   * Puts the program that declares a process ended behind every other one of the same tracepoint, so that
   * all have counted before. To be called whenever modules have attached programs.
   */
  goLast(): void {
    const earlier = this.#lastLink;
    this.#lastLink = this.#bpf.attachAgain("tree_switch");
    earlier.close();
  }

  /** Marks a process with all it has started so far, or everything. */
  mark(rootPid: number | undefined): void {
    if (rootPid !== undefined) this.#bpf.object.variable<number>("root_pid").set(rootPid);
    const found = this.#bpf.object.variable<number>("walk_found");
    using walk = this.#bpf.object.program("tree_walk").attachIterator();
    for (let before = -1; found.get() !== before; ) {
      before = found.get();
      walk.read();
    }
    this.root = this.#bpf.object.variable<number>("root_process").get();
  }

  /** Every process in the kernel's table, the ended ones included, in the order they were met. */
  read(): Process[] {
    const { count, keys, values } = this.#table.entriesRaw();
    const size = this.#table.valueSize;
    const read: Process[] = [];
    for (let i = 0; i < count; i++) {
      const id = keys.readUInt32LE(i * 4);
      const bytes = values.subarray(i * size, (i + 1) * size);
      let known = this.#known.get(id);
      // Decoded anew only when something in it has changed.
      if (!known?.bytes.equals(bytes)) {
        known = { bytes: Buffer.from(bytes), process: processOf(id, this.#decoder.decode(bytes)) };
        this.#known.set(id, known);
      }
      read.push(known.process);
    }
    return read.sort((a, b) => a.id - b.id);
  }

  find(id: number): Process | undefined {
    const record = this.#table.get(id);
    return record && processOf(id, record);
  }

  /** Wait status of the root as wait(2) gives it, once its last thread is gone; also when it is forgotten. */
  rootEnd(): number | undefined {
    if (this.root !== 0 && this.#rootEnd === undefined) {
      const record = this.#table.get(this.root);
      if (record && record.end_ns !== 0) this.#rootEnd = record.exit_code;
    }
    return this.#rootEnd;
  }

  /** Ended processes whose last row is written. */
  forget(ended: readonly Process[]): void {
    this.rootEnd(); // a tick may be quicker than the event that tells of it
    for (const process of ended) this.#known.delete(process.id);
    this.#table.deleteMany(ended.map((process) => process.id));
  }

  /** Forks that found no room in the table. */
  lost(): number {
    return this.#bpf.object.variable<number>("processes_lost").get();
  }

  listen(kinds: readonly number[], listener: (event: LifeEvent) => void): () => void {
    this.#listeners.set(listener, kinds);
    this.#setMask();
    return () => {
      this.#listeners.delete(listener);
      this.#setMask();
    };
  }

  #setMask(): void {
    const mask = [...this.#listeners.values()].flat().reduce((all, kind) => all | (1 << kind), 0);
    this.#bpf.object.variable<number>("life_mask").set(mask);
  }

  #hear(): void {
    this.#ring.consume((record) => {
      const event = {
        kind: record.readUInt32LE(0),
        process: record.readUInt32LE(4),
        pid: record.readUInt32LE(8),
      };
      for (const [listener, kinds] of this.#listeners) {
        if (kinds.includes(event.kind)) listener(event);
      }
    });
  }

  close(): void {
    this.#ring.close();
    this.#lastLink.close();
    for (const link of this.#links.reverse()) link.close();
    this.#links = [];
  }
}
