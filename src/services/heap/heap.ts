/**
 * Owns: the heap ledger as modules use it: the probes that feed it, in the tree's address spaces only;
 * reading a process's live bytes; clearing away what ended. Shared by mem and memleak_probes.
 * Owns not: the ledger itself (bpf/include/heap.h).
 */
import * as fs from "node:fs";
import * as os from "node:os";
import { type BpfMap, elfInfo, elfSymbols, readCode } from "libbpf-ts";
import { attachAll, type Context, Counters, type Process } from "../../core/module.js";
import { ProbeSites, type Site } from "../uprobes.js";
import { isAllocator, observed, observedNames } from "./functions.js";
import { commandFile } from "../programs.js";
import { firstFiles, installedAllocators, mappedFiles } from "./libraries.js";
import { type Machine, probeOffset } from "./skip.js";

export const heapParts = {
  programs: ["mem_entry", "mem_return", "heap_newtask", "heap_exec", "heap_release", "heap_sweep"],
  maps: ["heap_sites", "heap_threads", "heap_spaces", "heap_processes", "heap_blocks", "heap_graves"],
};

/** Live heap of a process: bytes as asked for, and blocks. */
export interface HeapSize {
  readonly size: number;
  readonly times: number;
}

/** When a process is looked at for allocators that were not known before: so long after an exec, ms. */
const lookAfter = [5, 50, 500, 5000] as const;
/** Code bytes decoded for a better place of a probe. */
const prologue = 24;

const machine: Machine =
  os.machine() === "x86_64" ? "x86_64" : os.machine() === "aarch64" ? "aarch64" : "other";

export class Heap {
  readonly #context: Context;
  readonly #probes: ProbeSites;
  readonly #detach: () => void;
  readonly #stopListening: () => void;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #processes: BpfMap<number, number>;
  readonly #spaces: Counters;
  readonly #sweepAbove: number;
  /** Files looked at, by device and inode. */
  readonly #files = new Set<string>();
  #running = false;

  constructor(context: Context) {
    this.#context = context;
    this.#processes = context.map<number>("heap_processes");
    this.#spaces = new Counters(context.object, "heap_spaces", "struct heap_space", [
      "size",
      "times",
    ]);
    this.#sweepAbove = context.map("heap_blocks").maxEntries / 8;
    this.#probes = new ProbeSites(context, {
      label: "heap",
      map: "heap_sites",
      entry: "mem_entry",
      return: "mem_return",
    });
    this.#detach = attachAll(context, ["heap_newtask", "heap_exec"]);
    const { scope } = context;
    const program = scope.launch && commandFile(scope.launch.command, scope.launch.env);
    this.#examine([
      ...(program === undefined ? [] : [program]),
      ...installedAllocators(scope.launch?.env ?? process.env),
      ...scope.pids().flatMap(mappedFiles),
    ]);
    this.#running = true;
    this.#stopListening = scope.onExec(({ pid }) => {
      this.#examine(firstFiles(pid));
      for (const delay of lookAfter) this.#lookLater(pid, delay);
    });
  }

  /** The loader maps libraries a moment after exec, a program those it opens itself any time later. */
  #lookLater(pid: number, delay: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#examine(mappedFiles(pid));
    }, delay).unref();
    this.#timers.add(timer);
  }

  /** Probes those of the files that are allocators not seen before. */
  #examine(files: readonly string[]): void {
    const sites = files.flatMap((file) => this.#sitesIn(file));
    if (sites.length === 0) return;
    const fit = this.#probes.add(sites);
    for (const file of this.#running || !fit ? new Set(sites.map((site) => site.file)) : []) {
      const name = file.startsWith("/proc/") ? linkTarget(file) : file;
      this.#context.warn(
        fit
          ? `${name} was met while running: what it allocated up to then is not counted.`
          : `${name}: there are too many allocators, this one is not counted.`,
      );
    }
  }

  #sitesIn(file: string): Site[] {
    try {
      const { dev, ino } = fs.statSync(file);
      const identity = `${String(dev)}:${String(ino)}`;
      if (this.#files.has(identity)) return [];
      this.#files.add(identity);
      const functions = elfSymbols(file, { names: observedNames }).filter(
        (each) => each.type === "function",
      );
      if (!isAllocator(new Set(functions.map((each) => each.name)))) return [];
      if (elfInfo(file).machine !== elfInfo("/proc/self/exe").machine) return [];
      const sites = new Map<number, Site>();
      for (const symbol of functions) {
        const call = observed(symbol.name);
        if (!call) continue;
        const code = readCode(file, symbol.offset, Math.min(prologue, symbol.size || prologue));
        const offset = symbol.offset + probeOffset(code, machine, !call.returns);
        // Names for the same code (aligned_alloc is memalign in glibc) are one place.
        sites.set(offset, { file, offset, value: call.site, returns: call.returns });
      }
      return [...sites.values()];
    } catch {
      return []; // Not ELF, or gone: nothing to observe in it.
    }
  }

  /** Live heap by process, of those that have used the heap since the probes are in. */
  read(): Map<number, HeapSize> {
    const spaces = new Map<number, HeapSize>();
    this.#spaces.read((space, [size = 0, times = 0]) => spaces.set(space, { size, times }));
    const sizes = new Map<number, HeapSize>();
    const { count, keys, values } = this.#processes.entriesRaw();
    for (let i = 0; i < count; i++) {
      const size = spaces.get(values.readUInt32LE(i * 4));
      if (size) sizes.set(keys.readUInt32LE(i * 4), size);
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
    for (const timer of this.#timers) clearTimeout(timer);
    this.#stopListening();
    this.#probes.stop();
    this.#detach();
  }
}

function linkTarget(link: string): string {
  try {
    return fs.readlinkSync(link);
  } catch {
    return link; // the process is gone
  }
}

/** The run's one heap ledger. */
export function heapOf(context: Context): Heap {
  return context.shared("heap", () => new Heap(context));
}
