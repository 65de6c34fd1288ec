/**
 * udp_latency: datagrams that waited long in a socket's receive queue, each one (bpf/modules/udp_latency.bpf.c).
 */
import { attachAll, type Column, defineModule, host, onOff, processColumns } from "../core/module.js";
import { connectionColumns } from "../services/sockets.js";
import { followUdp, udpNeeds, udpParts } from "../services/udp.js";

interface Options {
  readonly thresholdNs: number;
  readonly dport: number;
}

/** As the datagram says it, which for the receiver is the other way round than for a connection. */
const ends: Readonly<Record<string, string>> = {
  SADDR: "address it was sent from",
  SPORT: "port it was sent from",
  DADDR: "address it was sent to",
  DPORT: "port it was sent to",
};

const columns: readonly Column[] = [
  ...processColumns,
  ...connectionColumns(["s", "d"]).flatMap((column) => {
    const description = ends[column.name];
    return description === undefined ? [] : [{ ...column, description }];
  }),
  {
    name: "LAT",
    type: "number",
    unit: "µs",
    description: "from the socket's queue to its reader",
    from: { field: "wait_ns", as: { per: 1000, digits: 3 } },
  },
  { name: "IP", type: "integer", description: "4 or 6", from: { field: "connection.ip" } },
  { name: "LEN", type: "integer", unit: "B", description: "payload", from: { field: "length" } },
];

const keys = onOff("udp_latency");

export default defineModule<Options>({
  name: "udp_latency",
  summary: "datagrams that waited long for their reader",
  config: {
    ...keys.config,
    udp_latency_threshold_ns: {
      type: "integer",
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      default: 3000000,
      description: "A row for each datagram that waited longer than this.",
    },
    udp_latency_dport: {
      type: ["integer", "null"],
      minimum: 1,
      maximum: 65535,
      default: null,
      description: "Only datagrams that arrive at this port.",
    },
  },
  fileKey: keys.fileKey,
  request(config) {
    const on = keys.request(config);
    return (
      on && {
        options: {
          thresholdNs: (config["udp_latency_threshold_ns"] as number | undefined) ?? 3000000,
          dport: (config["udp_latency_dport"] as number | null | undefined) ?? 0,
        },
        file: on.file,
      }
    );
  },
  columns: () => columns,
  bpf: () => ({
    programs: [...udpParts.programs, "udp_latency_received"],
    maps: udpParts.maps,
    stream: { number: "udp_latency_stream", record: "struct udp_latency_event" },
  }),
  needs: () => [...udpNeeds(), host.mapType("ringbuf", "ring buffer")],
  start(context, { thresholdNs, dport }) {
    const { object } = context;
    object.variable<bigint>("udp_latency_threshold_ns").set(BigInt(thresholdNs));
    object.variable<number>("udp_latency_dport").set(dport);
    const lost = followUdp(context, "udp_latency_doubtful");
    return { kind: "stream", backend: "bpf", lost, stop: attachAll(context, ["udp_latency_received"]) };
  },
});
