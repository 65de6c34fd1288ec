/**
 * Owns: who owns a socket, switched on for whichever modules ask, and the columns that show its two ends
 * (bpf/core/owner.bpf.c, bpf/include/connection.h).
 */
import { attachAll, type Column, type Context, host, type Need } from "../core/module.js";

const held = ["owner_create", "owner_connect4", "owner_connect6", "owner_release"];
const used = ["owner_send", "owner_receive"];

/** What {@link holdSockets} needs. */
export const holderParts = { programs: [...held, "owner_walk"], maps: ["socket_owners"] };

export const ownerParts = { programs: [...holderParts.programs, ...used], maps: holderParts.maps };

export const holderNeeds = (): Need[] => [
  host.cgroup2Mounted(),
  host.programType("cgroup_sock_addr", "cgroup/connect4"),
  host.mapType("sk_storage", "socket storage"),
];

/** What {@link ownSockets} needs. */
export const ownerNeeds = (): Need[] => [
  ...holderNeeds(),
  host.tracepoint("sock_send_length"),
  host.tracepoint("sock_recv_length"),
];

/** Sockets that are made, inherited or open already have owners, until the last module stops. Costs nothing a call. */
export function holdSockets(context: Context): void {
  context.shared("socket holders", () => {
    const stop = attachAll(context, held);
    using walk = context.object.program("owner_walk").attachIterator();
    walk.read();
    return { stop };
  });
}

/** Whoever uses a socket owns it: also one that accepted it, or that it was passed to. */
export function ownSockets(context: Context): void {
  // First: what the walk finds is not to be older than a use.
  context.shared("socket users", () => ({ stop: attachAll(context, used) }));
  holdSockets(context);
}

/** What {@link rememberOwners} needs. */
export const pastParts = { programs: ["owner_pass"], maps: ["past_owners"] };

/** A connection that is over keeps its owner for as long as packets of it may come. */
export function rememberOwners(context: Context): void {
  context.shared("past owners", () => ({ stop: attachAll(context, pastParts.programs) }));
}

/** IP, and the two ends in the given order, of a record's `struct connection` called `connection`. */
export function connectionColumns(order: readonly ("s" | "d")[]): Column[] {
  const names = { s: ["local", "SADDR", "SPORT"], d: ["remote", "DADDR", "DPORT"] } as const;
  return [
    { name: "IP", type: "integer", description: "4 or 6", from: { field: "connection.ip" } },
    ...order.flatMap((end): Column[] => {
      const [side, address, port] = names[end];
      return [
        {
          name: address,
          type: "text",
          description: `${side} address`,
          from: [
            { field: `connection.${end}addr4`, as: "ipv4", when: { field: "connection.ip", is: 4 } },
            { field: `connection.${end}addr6`, as: "ipv6", when: { field: "connection.ip", is: 6 } },
          ],
        },
        {
          name: port,
          type: "integer",
          description: `${side} port`,
          from: { field: `connection.${end}port` },
        },
      ];
    }),
  ];
}
