/**
 * Owns: the one relation between the clocks. BPF stamps CLOCK_MONOTONIC, tables show Unix time; the
 * offset is taken once, so that rows of one run stay in order whatever adjusts the wall clock.
 */
import { performance } from "node:perf_hooks";

/** CLOCK_MONOTONIC in ns: exact to 2^53 ns, 104 days of uptime, and to 2 ns in the year after. */
export function monotonicNs(): number {
  return Number(process.hrtime.bigint());
}

/** What has to be added to CLOCK_MONOTONIC to have Unix time, ns. */
export const unixOffsetNs =
  BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n -
  process.hrtime.bigint();

const unixOffset = Number(unixOffsetNs) / 1e9;

/** Unix time in seconds of a CLOCK_MONOTONIC reading in ns. */
export function unixSeconds(ns: number): number {
  return ns / 1e9 + unixOffset;
}
