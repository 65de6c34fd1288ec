/**
 * Owns: who owns a socket, switched on for whichever modules ask, and the columns that show its two ends
 * (bpf/core/owner.bpf.c, bpf/include/connection.h).
 */
import { attachAll, type Column, type Context } from "../core/module.js";

/** Who holds a socket must be known before its first packet: these are attached first. */
const programs = ["owner_create", "owner_release", "owner_send", "owner_receive"];

export const ownerParts = { programs: [...programs, "owner_walk"], maps: ["socket_owners"] };

/** From now on sockets have owners, those that are open already included; until the last module stops. */
export function ownSockets(context: Context): void {
  context.shared("socket owners", () => {
    const stop = attachAll(context, programs);
    using walk = context.object.program("owner_walk").attachIterator();
    walk.read();
    return { stop };
  });
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
