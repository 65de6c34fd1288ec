/**
 * Owns: the heap ledger as modules use it: the probes that feed it, in the tree's address spaces only;
 * reading a process's live bytes; clearing away what ended. Shared by mem and memleak_probes.
 * Owns not: the ledger itself (bpf/include/heap.h).
 */
import * as fs from "node:fs";
import * as os from "node:os";
import {
  type BpfMap,
  elfInfo,
  elfSymbols,
  type ElfSymbol,
  type Link,
  openTracefs,
  readCode,
  type Tracefs,
  type UprobeEvent,
} from "libbpf-ts";
import { attachAll, type Context, type Process } from "../../core/module.js";
import { heapPrograms, isAllocator, observed } from "./functions.js";
import { commandFile, installedAllocators, mappedAllocators } from "./libraries.js";
import { type Machine, probeOffset } from "./skip.js";

export const heapParts = {
  programs: [...heapPrograms, "heap_newtask", "heap_exec", "heap_release", "heap_sweep"],
  maps: ["heap_threads", "heap_spaces", "heap_processes", "heap_blocks", "heap_graves"],
};

/** Live heap of a process: bytes as asked for, and blocks. */
export interface HeapSize {
  readonly size: number;
  readonly times: number;
}

const groupPrefix = "treesnoop_";
/** How often processes are looked at for allocators that were not known before, ms. */
const lookEvery = 200;
/** Code bytes decoded for a better place of a probe. */
const prologue = 24;

const machine: Machine =
  os.machine() === "x86_64" ? "x86_64" : os.machine() === "aarch64" ? "aarch64" : "other";

export class Heap {
  readonly #context: Context;
  readonly #tracefs: Tracefs;
  readonly #detach: () => void;
  readonly #stopListening: () => void;
  readonly #timer: NodeJS.Timeout;
  readonly #processes: BpfMap<number, number>;
  readonly #spaces: BpfMap<number, HeapSize>;
  readonly #sweepAbove: number;
  /** Open probes, each with its event. */
  readonly #probes: { link: Link; event: UprobeEvent }[] = [];
  /** Files looked at, by device and inode. */
  readonly #files = new Set<string>();
  #unexamined = new Set<number>();
  #running = false;

  constructor(context: Context) {
    this.#context = context;
    this.#processes = context.map<number>("heap_processes");
    this.#spaces = context.map<HeapSize>("heap_spaces");
    this.#sweepAbove = context.map("heap_blocks").maxEntries / 8;
    this.#tracefs = openTracefs();
    this.#tracefs.removeStale(groupPrefix, (group) => {
      return !fs.existsSync(`/proc/${group.slice(groupPrefix.length)}`);
    });
    this.#detach = attachAll(context, ["heap_newtask", "heap_exec"]);
    const { launch } = context.scope;
    if (launch) {
      const program = commandFile(launch.command, launch.env);
      if (program !== undefined) this.#examine(program);
    }
    for (const file of installedAllocators(launch?.env ?? process.env)) this.#examine(file);
    for (const pid of context.scope.pids()) mappedAllocators(pid).forEach((file) => { this.#examine(file); });
    this.#running = true;
    this.#stopListening = context.scope.onExec((event) => {
      this.#examine(`/proc/${String(event.pid)}/exe`);
      this.#unexamined.add(event.pid);
    });
    this.#timer = setInterval(() => {
      this.#look();
    }, lookEvery).unref();
  }

  /** Libraries of processes that executed a moment ago: the loader has mapped them by now. */
  #look(): void {
    const pids = this.#unexamined;
    this.#unexamined = new Set();
    for (const pid of pids) for (const file of mappedAllocators(pid)) this.#examine(file);
  }

  /** Probes the file if it is an allocator not seen before. */
  #examine(file: string): void {
    try {
      const { dev, ino } = fs.statSync(file);
      const identity = `${String(dev)}:${String(ino)}`;
      if (this.#files.has(identity)) return;
      this.#files.add(identity);
      const symbols = elfSymbols(file).filter((each) => each.type === "function");
      if (!isAllocator(new Set(symbols.map((each) => each.name)))) return;
      if (elfInfo(file).machine !== elfInfo("/proc/self/exe").machine) return;
      this.#probe(file, symbols);
      if (this.#running) {
        const name = fs.realpathSync(file).replace(/^\/proc\/\d+\/root/, "");
        this.#context.warn(
          `${name} was met while running: what it allocated up to then is not counted.`,
        );
      }
    } catch {
      // Not ELF, or gone: nothing to observe in it.
    }
  }

  #probe(file: string, symbols: readonly ElfSymbol[]): void {
    const done = new Set<string>();
    for (const symbol of symbols) {
      const call = observed(symbol.name);
      if (!call || done.has(`${call.program} ${String(symbol.offset)}`)) continue;
      done.add(`${call.program} ${String(symbol.offset)}`);
      const frees = !call.returns;
      const code = readCode(file, symbol.offset, Math.min(prologue, symbol.size || prologue));
      const offset = symbol.offset + probeOffset(code, machine, frees);
      // The return first: an entry without its return would leave a call open.
      if (call.returns) this.#attach(file, offset, "mem_return", true);
      this.#attach(file, offset, call.program, false);
    }
  }

  #attach(file: string, offset: number, program: string, retprobe: boolean): void {
    const { scope, object } = this.#context;
    const event = this.#tracefs.defineUprobe({
      group: `${groupPrefix}${String(process.pid)}`,
      name: `heap${String(this.#probes.length)}`,
      path: file,
      offset,
      retprobe,
    });
    scope.cover(event);
    const link = object.program(program).attachScopedUprobe({ event, anchorPid: scope.anchor() });
    this.#probes.push({ link, event });
  }

  /** Live heap by process, of those that have used the heap since the probes are in. */
  read(): Map<number, HeapSize> {
    const spaces = new Map(this.#spaces.entries());
    const sizes = new Map<number, HeapSize>();
    for (const [process, space] of this.#processes.entries()) {
      const size = spaces.get(space);
      if (size) sizes.set(process, size);
    }
    return sizes;
  }

  forget(ended: readonly Process[]): void {
    const { object } = this.#context;
    const release = object.program("heap_release");
    const context = Buffer.alloc(8);
    for (const process of ended) {
      context.writeBigUInt64LE(BigInt(process.id));
      release.testRun({ context });
    }
    if (object.variable<number>("heap_garbage").get() > this.#sweepAbove) {
      object.program("heap_sweep").testRun({ context });
    }
  }

  /** Blocks that found no room in the ledger. */
  lost(): number {
    return this.#context.object.variable<number>("heap_lost").get();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#stopListening();
    for (const { link, event } of this.#probes.reverse()) {
      link.close();
      event.close();
    }
    this.#detach();
    this.#tracefs.close();
  }
}

/** The run's one heap ledger. */
export function heapOf(context: Context): Heap {
  return context.shared("heap", () => new Heap(context));
}
