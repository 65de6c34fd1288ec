/**
 * Owns: how large the event rings are and which CPUs have one; what is in their records, by name.
 * Owns not: reading them (streams.ts).
 */
import * as fs from "node:fs";
import * as os from "node:os";
import type { EventProtocol } from "libbpf-ts";

/** As bpf/include/events.h and tree.h have it. */
export const protocol: EventProtocol = {
  header: { record: "struct event", stream: "stream", source: "process", time: "ns" },
  identity: { record: "struct identity_event", pid: "pid", name: "comm" },
  loss: { record: "struct loss_event", of: "of", count: "count" },
  sources: { record: "struct process", pid: "pid", name: "comm" },
};

/** "0-3,8" → 0, 1, 2, 3, 8: the form of the kernel's CPU lists. */
export function parseCpuList(text: string): number[] {
  return text
    .trim()
    .split(",")
    .filter(Boolean)
    .flatMap((range) => {
      const [first = 0, last = first] = range.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

export function onlineCpus(): number[] {
  return parseCpuList(fs.readFileSync("/sys/devices/system/cpu/online", "utf8"));
}

const [least, most] = [1 << 20, 16 << 20];

function powerOfTwo(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(bytes));
}

/**
 * Bytes of one CPU's ring: as configured, else so that all together take less than a 128th of the
 * machine's memory. 16 MiB hold what comes in a tenth of a second at three million records a second.
 */
export function ringBytes(configuredKib: number | undefined): number {
  if (configuredKib !== undefined) return powerOfTwo(configuredKib * 1024);
  const share = powerOfTwo(os.totalmem() / 128 / onlineCpus().length / 2);
  return Math.min(most, Math.max(least, share));
}

/** The reader is woken each time so much has come: often enough for a small ring, seldom for the others. */
export function wakeBytes(ring: number): number {
  return Math.min(256 << 10, ring / 4);
}
