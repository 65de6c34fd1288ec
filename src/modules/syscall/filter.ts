/**
 * Owns: `syscall_filter`: which system calls are wanted, as one bit a number.
 */
import { nearest, RunError } from "../../core/module.js";
import type { SyscallNames } from "./names.js";

/** As SYSCALL_MAX in syscall.bpf.c. */
export const syscallMax = 1024;

function numberOf(word: string, names: SyscallNames): number {
  if (/^\d+$/.test(word) && Number(word) < syscallMax) return Number(word);
  const number = names.number(word);
  if (number !== undefined) return number;
  const [best] = nearest(word, names.all, 1);
  throw new RunError(
    2,
    `syscall_filter: there is no system call ${JSON.stringify(word)}.`,
    `Did you mean "${best?.name ?? "read"}"?`,
  );
}

/** Names or numbers; with `!` excluded. Only exclusions: everything else. */
export function wantedBits(filter: readonly string[], names: SyscallNames): bigint[] {
  const excluded = filter.filter((word) => word.startsWith("!"));
  const included = filter.filter((word) => !word.startsWith("!"));
  const bits = new Array<bigint>(syscallMax / 64).fill(included.length > 0 ? 0n : 2n ** 64n - 1n);
  const set = (number: number, wanted: boolean): void => {
    const index = Math.floor(number / 64);
    const bit = 1n << BigInt(number % 64);
    const word = bits[index] ?? 0n;
    bits[index] = wanted ? word | bit : word & ~bit;
  };
  for (const word of included) set(numberOf(word, names), true);
  for (const word of excluded) set(numberOf(word.slice(1), names), false);
  return bits;
}
