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

  name(number: number): string {
    return this.#names.get(number) ?? `syscall_${String(number)}`;
  }

  /** Index: number; "" where there is no call. */
  get byNumber(): readonly string[] {
    const length = Math.max(...this.#names.keys()) + 1;
    return Array.from({ length }, (_, number) => this.#names.get(number) ?? "");
  }

  number(name: string): number | undefined {
    return this.#numbers.get(name);
  }

  get all(): readonly string[] {
    return [...this.#numbers.keys()];
  }
}
