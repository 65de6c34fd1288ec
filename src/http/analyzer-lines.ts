/**
 * Owns: the thirteen lines that tell of one window of a connection.
 * Owns not: counting (services/analyzer.ts).
 */
import type { Direction, Window } from "../services/analyzer.js";

/** The connection, as it was asked for. */
export interface Named {
  readonly type: "ipv4" | "ipv6";
  readonly saddr: string;
  readonly daddr: string;
  readonly sport: number;
  readonly dport: number;
}

const directions = ["send", "receive"] as const;
const layers = ["link", "network", "trans"] as const;
/** In the order of {@link Direction}, and in the order they are told in. */
const crossings = ["linknetwork", "linktrans", "networktrans"] as const;
const told = ["linknetwork", "networktrans", "linktrans"] as const;

const nobody = { pid: -1, name: "NULL" };

/** Micro-units are as far as it can be trusted. */
function rounded(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}

function line(inner: object): string {
  return JSON.stringify({ type: "NumLatencyFrequency", data: JSON.stringify(inner) });
}

export function linesOf({ type, ...ends }: Named, window: Window): string[] {
  const { elapsed, owner, drops } = window;
  const known = owner ? { pid: owner.pid, name: owner.comm } : { pid: 0, name: "" };
  const seen = (count: number): typeof nobody => (count > 0 ? known : nobody);

  const crossing = (direction: (typeof directions)[number], name: (typeof told)[number]): string => {
    const figures: Direction = window[direction];
    const at = crossings.indexOf(name);
    const count = figures.crossings[at] ?? 0;
    const { pid, name: pidName } = seen(count);
    const meanMs = count > 0 ? (figures.crossingNs[at] ?? 0) / count / 1e6 : 0;
    return line({
      crosslayer: name,
      direction,
      type,
      pid,
      pid_name: pidName,
      ...ends,
      "LAT(ms)": rounded(meanMs),
      "frequency(s)": rounded(count / elapsed),
    });
  };

  const layer = (direction: (typeof directions)[number], index: number): string => {
    const num = window[direction].packets[index] ?? 0;
    const { pid } = seen(num);
    return line({ layer: layers[index], direction, type, pid, ...ends, num, "pps(s)": rounded(num / elapsed) });
  };

  return [
    ...directions.flatMap((direction) => told.map((name) => crossing(direction, name))),
    ...directions.flatMap((direction) => layers.map((_, index) => layer(direction, index))),
    // As counted: there is no other figure to sum up, and a window is a second as nearly as a timer has it.
    line({ type, pid: seen(drops).pid, ...ends, "drop(s)": drops }),
  ];
}
