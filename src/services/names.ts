/**
 * Owns: whose a number is that a BPF program left behind, also where the process ended and a tick has forgotten it
 * before somebody came to read.
 */
import { type Context, monotonicNs, type Process } from "../core/module.js";

export interface Identity {
  readonly pid: number;
  readonly comm: string;
}

/** So long after the tick that forgets it an ended process is still known: windows are a second, and may be read late. */
const keptNs = 3e9;

export interface Names {
  /** Undefined: none of the run, or long gone. */
  find(process: number): Identity | undefined;
  lives(process: number): boolean;
}

/** From now on, as long as somebody has this. */
export function namesOf(context: Context): Names {
  return context.shared("names of the ended", () => {
    const table = context.map<Identity & { readonly end_ns: number }>("processes");
    const ended = new Map<number, { identity: Identity; until: number }>();
    return {
      find: (process: number) => table.get(process) ?? ended.get(process)?.identity,
      lives: (process: number) => table.get(process)?.end_ns === 0,
      forget: (processes: readonly Process[]) => {
        const now = monotonicNs();
        // In the order they were forgotten.
        for (const [process, { until }] of ended) {
          if (until > now) break;
          ended.delete(process);
        }
        for (const { id, pid, comm } of processes) ended.set(id, { identity: { pid, comm }, until: now + keptNs });
      },
      stop: () => {
        ended.clear();
      },
    };
  });
}
