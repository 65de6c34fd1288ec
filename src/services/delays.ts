/**
 * Owns: what delay_in and delay_out have in common: their options, and the columns that name a TCP packet
 * (bpf/include/delay.h).
 */
import { type Column, type ConfigProperties, type Context, host, type Need, onOff, type Request } from "../core/module.js";
import { connectionColumns, ownerNeeds } from "./sockets.js";

export interface DelayOptions {
  readonly sport: number | null;
  readonly dport: number | null;
  readonly sample: number;
}

/** The config keys of the module and reading them: to be spread into it. */
export function delayKeys(name: string): {
  readonly config: ConfigProperties;
  readonly fileKey: string;
  request(config: Readonly<Record<string, unknown>>): Request<DelayOptions> | undefined;
} {
  const keys = onOff(name);
  const port = (end: string): Readonly<Record<string, unknown>> => ({
    type: ["integer", "null"],
    minimum: 1,
    maximum: 65535,
    default: null,
    description: `Only packets with this ${end} port.`,
  });
  return {
    config: {
      ...keys.config,
      [`${name}_sport`]: port("source"),
      [`${name}_dport`]: port("destination"),
      [`${name}_sample`]: {
        type: "integer",
        minimum: 1,
        maximum: 2 ** 32 - 1,
        default: 1,
        description: "One connection in so many, each of them whole.",
      },
    },
    fileKey: keys.fileKey,
    request(config) {
      const on = keys.request(config);
      if (!on) return undefined;
      const options = {
        sport: (config[`${name}_sport`] ?? null) as number | null,
        dport: (config[`${name}_dport`] ?? null) as number | null,
        sample: (config[`${name}_sample`] ?? 1) as number,
      };
      return { options, file: on.file };
    },
  };
}

/** Tells the module's programs what is wanted. */
export function choose(context: Context, name: string, { sport, dport, sample }: DelayOptions): void {
  const { object } = context;
  const run = object.variable<number>(`${name}_run`);
  run.set(run.get() + 1); // what is noted of sockets by now counts no more
  object.variable<Record<string, number>>(`${name}_choice`).set({ sport: sport ?? 0, dport: dport ?? 0, sample });
}

/** SADDR, SPORT, DADDR and DPORT, as in the packet. */
export function endColumns(): Column[] {
  const ends: Readonly<Record<string, string>> = {
    SADDR: "address of the sender",
    SPORT: "port of the sender",
    DADDR: "address of the receiver",
    DPORT: "port of the receiver",
  };
  return connectionColumns(["s", "d"])
    .filter(({ name }) => name in ends)
    .map((column) => ({ ...column, description: ends[column.name] ?? column.description }));
}

export const placeColumns: readonly Column[] = [
  { name: "SEQ", type: "integer", description: "sequence number, as in the packet", from: { field: "seq" } },
  { name: "ACK", type: "integer", description: "acknowledgement number, as in the packet", from: { field: "ack" } },
];

export const sizeColumns: readonly Column[] = [
  { name: "LEN", type: "integer", unit: "B", description: "data it carries", from: { field: "length" } },
  {
    name: "SEGS",
    type: "integer",
    description: "segments on the wire: of a super-packet (GSO, GRO) more than one",
    from: { field: "segments" },
  },
];

/** A column of microseconds from a field of nanoseconds; empty unless `when`. */
export function timeColumn(name: string, description: string, field: string, when?: string): Column {
  const from = { field, as: { per: 1000, digits: 3 } } as const;
  return {
    name,
    type: "number",
    unit: "µs",
    description,
    from: when === undefined ? from : { ...from, when: { field: when, is: 1 } },
  };
}

export const delayNeeds = (): Need[] => [...ownerNeeds(), host.mapType("ringbuf", "ring buffer")];
