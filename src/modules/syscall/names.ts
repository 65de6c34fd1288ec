/**
 * Owns: system call numbers and names of this machine, as its C library's headers give them; set-up writes
 * them to build/syscalls.txt, "number name" a line. A call newer than the headers is shown by number.
 */
import * as fs from "node:fs";

const file = new URL("../../../build/syscalls.txt", import.meta.url);

export class SyscallNames {
  readonly #names = new Map<number, string>();
  readonly #numbers = new Map<string, number>();

  constructor(text = fs.readFileSync(file, "utf8")) {
    for (const line of text.split("\n")) {
      const [number, name] = line.split(" ");
      if (number === undefined || name === undefined) continue;
      this.#names.set(Number(number), name);
      this.#numbers.set(name, Number(number));
    }
  }

  /** A 32-bit call's number means another table than ours. */
  name(number: number, compat = false): string {
    if (compat) return `compat_${String(number)}`;
    return this.#names.get(number) ?? `syscall_${String(number)}`;
  }

  number(name: string): number | undefined {
    return this.#numbers.get(name);
  }

  get all(): readonly string[] {
    return [...this.#numbers.keys()];
  }
}
