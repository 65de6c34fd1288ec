/**
 * Owns: counting what modules lose in the kernel.
 * Owns not: events that find no room in a ring (core/streams.ts).
 */
import type { Context } from "../core/module.js";

/**
 * What the counters of the BPF object have gained since this call, and how often one of the programs was left
 * out: the kernel does so where it would interrupt itself on a CPU.
 */
export function losses(
  { object }: Context,
  counters: readonly string[],
  programs: readonly string[] = [],
): () => number {
  const variables = counters.map((name) => object.variable<number>(name));
  const count = (): number =>
    variables.reduce((sum, variable) => sum + variable.get(), 0) +
    programs.reduce((sum, name) => sum + Number(object.program(name).stats().recursionMisses), 0);
  const before = count();
  return () => count() - before;
}
