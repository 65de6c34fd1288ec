/**
 * Owns: the network namespaces the run is about, each once: found at the start, told of by the kernel when a
 * process of the tree is in a new one (bpf/core/namespaces.bpf.c) and when one is named, looked for again each tick.
 * Owns not: what a module does in them.
 */
import * as fs from "node:fs";
import { RingBuffer } from "libbpf-ts";
import { attachAll, type BpfParts, type Context, type Service } from "../core/module.js";

const programs = ["namespaces_newtask", "namespaces_exec"];

export const namespaceParts: BpfParts = { programs, maps: ["namespaces_known", "namespaces_entered"] };

/** What a module has in one namespace; closed when the namespace is to go, or with the module. */
export interface Presence {
  close(): void;
}

/** The descriptor is valid during the call; `inode` is what the kernel calls ns.inum. */
export type Enter = (fd: number, inode: number) => Presence;

/** Where `ip netns` keeps namespaces by name. */
const namedFolder = "/run/netns";

/** Processes looked at in one tick, 5 µs each; where there are more, the next tick goes on. */
const readsAtOnce = 1000;

/** A name is there before its namespace is mounted on it: looked at again after 1, 2, 4 … ms, up to this. */
const longestWaitMs = 64;

/** A message for each that could not be entered, but run.json must not grow for ever. */
const mostMessages = 20;

function entries(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return []; // nobody has named one
  }
}

/** A module in its namespaces. */
class Visitor {
  readonly #enter: Enter;
  readonly #warn: Context["warn"];
  readonly #present = new Map<number, Presence>();
  #messages = 0;

  constructor(enter: Enter, warn: Context["warn"]) {
    this.#enter = enter;
    this.#warn = warn;
  }

  /** Into those that are there when it comes. It may be kept out of some, not of all. */
  begin(known: ReadonlyMap<number, number>): void {
    let last: unknown;
    for (const [inode, fd] of known) last = this.enter(fd, inode) ?? last;
    if (this.#present.size === 0) throw last;
  }

  /** Gives the reason when it was kept out. */
  enter(fd: number, inode: number): unknown {
    try {
      this.#present.set(inode, this.#enter(fd, inode));
      return undefined;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#messages++ < mostMessages) {
        this.#warn(`network namespace ${String(inode)} is not watched: ${reason}`);
      }
      return error;
    }
  }

  leave(inode: number): void {
    this.#present.get(inode)?.close();
    this.#present.delete(inode);
  }

  stop(): void {
    for (const inode of [...this.#present.keys()].reverse()) this.leave(inode);
  }
}

class Namespaces implements Service {
  readonly #context: Context;
  readonly #visitors = new Set<Visitor>();
  /** Open descriptors by inode. They keep a namespace alive, as the modules' links do. */
  readonly #known = new Map<number, number>();
  readonly #device = fs.statSync("/proc/self/ns/net").dev;
  readonly #ring: RingBuffer;
  readonly #detach: () => void;
  #names: fs.FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Processes the sweep has not come to, and the namespaces it has met so far. */
  #ahead: string[] = [];
  #met = new Set<number>();

  constructor(context: Context) {
    this.#context = context;
    this.#ring = new RingBuffer([context.object.map("namespaces_entered")], {
      onReadable: () => { this.#hear(); },
    });
    this.#detach = attachAll(context, programs);
    this.#watchNames();
    // Everybody's: the target may enter any of these with its first instruction.
    this.#sweep(Infinity, () => true);
  }

  visit(enter: Enter, warn: Context["warn"]): Visitor {
    const visitor = new Visitor(enter, warn);
    visitor.begin(this.#known);
    this.#visitors.add(visitor);
    return visitor;
  }

  part(visitor: Visitor): void {
    visitor.stop();
    this.#visitors.delete(visitor);
  }

  tick(): void {
    this.#watchNames();
    let ours: Set<number> | undefined;
    this.#sweep(readsAtOnce, (pid) => (ours ??= new Set(this.#context.scope.pids())).has(Number(pid)));
  }

  /** Goes on through all processes; one that is not wanted keeps a known namespace, but makes none known. */
  #sweep(most: number, wanted: (pid: string) => boolean): void {
    if (this.#ahead.length === 0) {
      this.#ahead = entries("/proc").filter((name) => /^\d+$/.test(name));
      this.#met = new Set();
    }
    for (const pid of this.#ahead.splice(0, most)) {
      this.#meetProcess(pid, () => wanted(pid));
    }
    this.#meetNamed();
    if (this.#ahead.length > 0) return;
    for (const inode of this.#known.keys()) {
      if (!this.#met.has(inode)) this.#leave(inode);
    }
  }

  #watchNames(): void {
    if (this.#names) return;
    try {
      this.#names = fs.watch(namedFolder, { persistent: false }, () => { this.#awaitNamed(1); });
      this.#names.on("error", () => { this.#names = undefined; });
    } catch {
      this.#names = undefined; // there is no such folder before the first name
    }
  }

  #awaitNamed(waitMs: number): void {
    clearTimeout(this.#timer);
    if (this.#meetNamed() || waitMs > longestWaitMs) return;
    this.#timer = setTimeout(() => { this.#awaitNamed(waitMs * 2); }, waitMs);
    this.#timer.unref();
  }

  /** Whether every name stands for a namespace. */
  #meetNamed(): boolean {
    let all = true;
    for (const name of entries(namedFolder)) {
      const file = `${namedFolder}/${name}`;
      const status = fs.statSync(file, { throwIfNoEntry: false });
      if (status?.dev === this.#device) this.#meet(file, status.ino, () => true);
      else if (status) all = false;
    }
    return all;
  }

  /** The link's text, "net:[4026531840]", costs a fifth of asking for the file it stands for. */
  #meetProcess(pid: string, wanted: () => boolean): void {
    const file = `/proc/${pid}/ns/net`;
    let text: string;
    try {
      text = fs.readlinkSync(file);
    } catch {
      return; // gone
    }
    this.#meet(file, Number(text.slice("net:[".length, -1)), wanted);
  }

  #hear(): void {
    this.#ring.consume((record) => {
      this.#meetProcess(String(record.readUInt32LE(0)), () => true);
    });
  }

  #meet(file: string, inode: number, wanted: () => boolean): void {
    this.#met.add(inode);
    if (this.#known.has(inode) || !wanted()) return;
    let fd: number;
    try {
      fd = fs.openSync(file, "r");
    } catch {
      return; // gone
    }
    // Asked again of what was opened: the process may be in another one by now.
    const { dev, ino } = fs.fstatSync(fd);
    if (dev !== this.#device || this.#known.has(ino)) {
      fs.closeSync(fd);
      return;
    }
    this.#known.set(ino, fd);
    this.#met.add(ino);
    this.#context.map<number>("namespaces_known").set(ino, 1);
    for (const visitor of this.#visitors) visitor.enter(fd, ino);
  }

  #leave(inode: number): void {
    for (const visitor of this.#visitors) visitor.leave(inode);
    this.#context.map<number>("namespaces_known").delete(inode);
    const fd = this.#known.get(inode);
    this.#known.delete(inode);
    if (fd !== undefined) fs.closeSync(fd);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#names?.close();
    this.#detach();
    this.#ring.close();
    for (const inode of [...this.#known.keys()]) this.#leave(inode);
  }
}

/**
 * Has `enter` called in every network namespace the run is about, now and later. In a tree these are its processes'
 * own, those that existed at the start, and those with a name; with --host all.
 *
 * Late is one that a process enters with unshare(2) or setns(2) and then neither executes a program nor gives it a name:
 * it is found with the next tick, and only if the main thread is in it. One that nobody is in any more stays until then.
 */
export function eachNamespace(context: Context, enter: Enter): { stop(): void } {
  const namespaces = context.shared("network namespaces", () => new Namespaces(context));
  const visitor = namespaces.visit(enter, (sentence) => { context.warn(sentence); });
  return { stop: () => { namespaces.part(visitor); } };
}
