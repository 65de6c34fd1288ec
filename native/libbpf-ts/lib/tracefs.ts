// SPDX-License-Identifier: MIT
import * as fs from "node:fs";
import { native, type NativeTracefs, type NativeUprobeEvent } from "./native.js";

/** What to probe. */
export interface UprobeDefinition {
  /** `[A-Za-z0-9_]`, up to 63. Put your pid in it, so that removeStale can tell whose it is. */
  group: string;
  /** `[A-Za-z0-9_]`, up to 63; unique in the group. */
  name: string;
  /** The executable or library; any path the caller can open. */
  path: string;
  /** File offset of the instruction (not its address); elfSymbols gives it. */
  offset: number | bigint;
  /** Fires when the function returns instead. */
  retprobe?: boolean;
}

export let nativeEvent: (event: UprobeEvent) => NativeUprobeEvent;

/**
 * A probe whose scope is chosen task by task. It has breakpoints only in processes that were
 * included and in what these fork; programs attach with Program.attachScopedUprobe.
 */
export class UprobeEvent {
  readonly #native: NativeUprobeEvent;
  readonly group: string;
  readonly name: string;
  /** The kernel's number for the event. */
  readonly id: number;
  readonly retprobe: boolean;

  static {
    nativeEvent = (event) => event.#native;
  }

  /** @internal */
  constructor(nativeEvent: NativeUprobeEvent, group: string, name: string, retprobe: boolean) {
    this.#native = nativeEvent;
    this.group = group;
    this.name = name;
    this.retprobe = retprobe;
    this.id = nativeEvent.id();
  }

  get closed(): boolean {
    return this.#native.closed();
  }

  /**
   * Puts this task in scope, with all threads and children it makes from now on. For a running
   * process call it for every thread.
   * @param tid a thread id in the caller's pid namespace
   * @returns false when there is no such task (any more)
   * @throws BpfError
   */
  include(tid: number): boolean {
    return this.#native.include(tid);
  }

  /** Puts every process in scope, present and future. @throws BpfError */
  includeEveryone(): void {
    this.#native.includeEveryone();
  }

  /** Closes its links, takes the breakpoints out and removes the definition. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The kernel's tracing file system, mounted for this process only. */
export class Tracefs {
  readonly #native: NativeTracefs;

  /** @internal */
  constructor() {
    this.#native = new native.NativeTracefs();
  }

  /**
   * Defines a uprobe. Nothing traps until a task is included.
   * @throws BpfError: EEXIST when group/name is taken, EINVAL for an offset outside of the file
   */
  defineUprobe(definition: UprobeDefinition): UprobeEvent {
    const { group, name, path, offset, retprobe = false } = definition;
    return new UprobeEvent(
      this.#native.defineUprobe(group, name, path, offset, retprobe),
      group,
      name,
      retprobe,
    );
  }

  /**
   * Adds a place to an event before any task is included: the event fires at each of its places, and
   * its programs are attached, inherited and detached once (kernel ≥ 5.4). Detaching waits for the
   * kernel's readers, so one event with many places ends many times faster than many events.
   * @throws BpfError: EEXIST for a place the event has, EINVAL for an offset outside of the file
   */
  addPlace(event: UprobeEvent, path: string, offset: number | bigint): void {
    const fd = fs.openSync(path, fs.constants.O_RDONLY);
    try {
      const place = `/proc/self/fd/${String(fd)}:0x${offset.toString(16)}`;
      const kind = event.retprobe ? "r" : "p";
      this.#native.appendText("uprobe_events", `${kind}:${event.group}/${event.name} ${place}\n`);
    } finally {
      fs.closeSync(fd);
    }
  }

  /**
   * Removes definitions a killed process left behind.
   * @param groupPrefix only groups whose names start with it are looked at
   * @param isDead asked once per group
   * @returns how many definitions were removed
   */
  removeStale(groupPrefix: string, isDead: (group: string) => boolean): number {
    const verdicts = new Map<string, boolean>();
    let removed = 0;
    for (const line of this.#native.readText("uprobe_events").split("\n")) {
      const match = /^[pr]\d*:([^/\s]+)\/(\S+) /.exec(line);
      const group = match?.[1];
      const name = match?.[2];
      if (group === undefined || name === undefined || !group.startsWith(groupPrefix)) continue;
      let dead = verdicts.get(group);
      if (dead === undefined) verdicts.set(group, (dead = isDead(group)));
      if (!dead) continue;
      try {
        this.#native.appendText("uprobe_events", `-:${group}/${name}\n`);
        removed++;
      } catch {
        // In use after all, or removed by somebody else in the meantime: not ours to force.
      }
    }
    return removed;
  }

  /**
   * The number of a tracepoint, as perf_event_open takes it.
   * @throws BpfError (ENOENT) when the kernel has no such tracepoint
   */
  tracepointId(category: string, name: string): number {
    for (const part of [category, name]) {
      if (!/^[\w-]+$/.test(part)) throw new TypeError(`${part} is not a tracepoint's name`);
    }
    return Number(this.#native.readText(`events/${category}/${name}/id`));
  }

  /** Closes the events defined through it. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Opens tracefs as a detached mount that nobody else sees (kernel ≥ 5.2), else through a mount that
 * exists. @throws BpfError
 */
export function openTracefs(): Tracefs {
  return new Tracefs();
}
