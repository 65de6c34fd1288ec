/**
 * Owns: waiting for a time, unless something else comes first.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { monotonicNs } from "./clock.js";

/** "time" at the given CLOCK_MONOTONIC time in ns, unless something else comes first. */
export async function until<Reason>(ns: number, over: Promise<Reason>): Promise<Reason | "time"> {
  const timer = new AbortController();
  const time = sleep(Math.max(0, (ns - monotonicNs()) / 1e6), "time" as const, timer).catch(
    () => "time" as const,
  );
  try {
    return await Promise.race([over, time]);
  } finally {
    timer.abort(); // or the process would wait for it
  }
}
