/**
 * tcp_connection: a row for each TCP connection that is established (bpf/modules/tcp_connection.bpf.c).
 */
import { attachAll, defineModule, host, onOff, processColumns } from "../core/module.js";
import { losses } from "../services/losses.js";
import { connectionColumns, ownerNeeds, ownerParts, ownSockets } from "../services/sockets.js";

/** As enum tcp_connection_direction numbers them. */
const directions = ["", "connect", "accept"] as const;

interface Options {
  /** Either end's; null: all. */
  readonly ports: readonly number[] | null;
  readonly direction: "connect" | "accept" | null;
  readonly ip: 4 | 6 | null;
}

/** One bit a port. */
export function portBits(ports: readonly number[] | null): bigint[] {
  const bits = new Array<bigint>(65536 / 64).fill(ports === null ? 2n ** 64n - 1n : 0n);
  for (const port of ports ?? []) {
    const index = Math.floor(port / 64);
    bits[index] = (bits[index] ?? 0n) | (1n << BigInt(port % 64));
  }
  return bits;
}

/** In this order: whoever takes a connection that waits is there before the first one waits. */
const programs = [
  "tcp_connection_destroy",
  "tcp_connection_release",
  "tcp_connection_send",
  "tcp_connection_receive",
  "tcp_connection_peername4",
  "tcp_connection_peername6",
  "tcp_connection_ops",
];

const keys = onOff("tcp_connection");

export default defineModule<Options>({
  name: "tcp_connection",
  summary: "TCP connections, and who connected or accepted",
  config: {
    ...keys.config,
    tcp_connection_ports: {
      type: ["array", "null"],
      items: { type: "integer", minimum: 0, maximum: 65535 },
      default: null,
      description: "Only connections with one of these ports at either end.",
    },
    tcp_connection_direction: {
      enum: ["connect", "accept", null],
      default: null,
      description: "Only connections made, or only connections accepted.",
    },
    tcp_connection_ip: { enum: [4, 6, null], default: null, description: "Only this version of IP." },
  },
  fileKey: keys.fileKey,
  request(config) {
    const on = keys.request(config);
    if (!on) return undefined;
    const options = {
      ports: config["tcp_connection_ports"] ?? null,
      direction: config["tcp_connection_direction"] ?? null,
      ip: config["tcp_connection_ip"] ?? null,
    } as Options;
    return { options, file: on.file };
  },
  columns: () => [
    ...processColumns,
    ...connectionColumns(["d", "s"]),
    {
      name: "DIRECTION",
      type: "text",
      description: "connect or accept",
      from: { field: "direction", as: { names: directions, other: "" } },
    },
  ],
  bpf: () => ({
    programs: [...ownerParts.programs, ...programs, "tcp_connection_walk"],
    maps: [...ownerParts.maps, "tcp_connection_sockets"],
    stream: { number: "tcp_connection_stream", record: "struct tcp_connection_event" },
  }),
  needs: () => [
    ...ownerNeeds(),
    host.programType("cgroup_sock_addr", "cgroup/getpeername4"),
    host.mapType("ringbuf", "ring buffer"),
    host.programType("sock_ops", "sockops"),
    host.tracepoint("tcp_destroy_sock"),
  ],
  start(context, { ports, direction, ip }) {
    const variable = (name: string) => context.object.variable<number>(`tcp_connection_${name}`);
    context.object.variable<bigint[]>("tcp_connection_ports").set(portBits(ports));
    variable("only").set(directions.indexOf(direction ?? ""));
    variable("ip").set(ip ?? 0);
    // What waited when the module was last switched off is not waited for any more.
    variable("run").set(variable("run").get() + 1);
    variable("waiting").set(0);
    const queued = variable("queued");
    queued.set(0);
    const lost = losses(context, ["tcp_connection_lost"]);
    ownSockets(context);
    const detach = attachAll(context, programs);
    const stop = (): void => {
      detach();
      if (variable("waiting").get() === 0) return;
      using walk = context.object.program("tcp_connection_walk").attachIterator();
      walk.read();
      const count = queued.get();
      if (count === 0) return;
      context.warn(
        `tcp_connection: ${String(count)} established but not yet accepted connections are in no row.`,
      );
    };
    return { kind: "stream", backend: "bpf", lost, stop };
  },
});
