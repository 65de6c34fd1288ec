// SPDX-License-Identifier: MIT
// What several tests need: the object, the probed program, waiting.
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { BpfObject, type LoadedObject } from "libbpf-ts";

export function out(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

export const MAIN = out("main.bpf.o");
export const REFUSED = out("refused.bpf.o");
export const PROBED = out("probed");

/** Loads the main object, with only these programs: loading is most of a test's time. */
export function load(...programs: string[]): LoadedObject {
  return open(...programs).load();
}

export function open(...programs: string[]): BpfObject {
  const object = BpfObject.open(MAIN);
  for (const program of object.programs.values()) program.autoload = programs.includes(program.name);
  return object;
}

/** Calls `check` until it answers true. */
export async function until(check: () => boolean, milliseconds = 5000): Promise<void> {
  const end = Date.now() + milliseconds;
  while (!check()) {
    if (Date.now() > end) throw new Error(`not so within ${milliseconds.toString()} ms`);
    await sleep(5);
  }
}

/** The program of target/probed.c, told what to do letter by letter. */
export class Probed {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #waiting: ((line: string) => void)[] = [];

  private constructor() {
    this.#child = spawn(PROBED, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#lines.on("line", (line) => this.#waiting.shift()?.(line));
  }

  static async start(): Promise<Probed> {
    const probed = new Probed();
    await probed.#line();
    return probed;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  async tell(command: "c" | "f" | "b"): Promise<string> {
    const answer = this.#line();
    this.#child.stdin.write(command);
    return answer;
  }

  async stop(): Promise<void> {
    const exit = once(this.#child, "exit");
    this.#child.stdin.end();
    await exit;
  }

  #line(): Promise<string> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** The bytes of consecutive u32. */
export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
}
