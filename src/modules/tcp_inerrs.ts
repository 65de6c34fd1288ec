/**
 * tcp_inerrs: TCP segments that were received and refused, each with the kernel's own reason
 * (bpf/modules/tcp_inerrs.bpf.c).
 */
import { kernel } from "libbpf-ts";
import { attachAll, type Column, defineModule, host, type Need, onOff, processColumns } from "../core/module.js";
import { losses } from "../services/losses.js";
import { connectionColumns, ownerNeeds, ownerParts, ownSockets, pastParts, rememberOwners } from "../services/sockets.js";

interface Options {
  readonly ip: 4 | 6 | null;
}

/** By number, as every kernel has them: include/uapi/linux/bpf.h lays them down (BPF_TCP_…). */
const states = [
  "",
  "ESTABLISHED",
  "SYN_SENT",
  "SYN_RECV",
  "FIN_WAIT1",
  "FIN_WAIT2",
  "TIME_WAIT",
  "CLOSE",
  "CLOSE_WAIT",
  "LAST_ACK",
  "LISTEN",
  "CLOSING",
  "NEW_SYN_RECV",
  "BOUND_INACTIVE",
];

/** What the running kernel calls them, by number. */
function reasons(): string[] {
  const names: string[] = [];
  if (kernel.hasType("enum skb_drop_reason").supported !== true) return names;
  for (const [name, value] of kernel.enumerators("skb_drop_reason")) {
    if (value < 0x10000n) names[Number(value)] = name.replace(/^SKB_(DROP_REASON_)?/, "");
  }
  return Array.from(names, (name: string | undefined) => name ?? "");
}

const ends: Readonly<Record<string, string>> = {
  SADDR: "address the segment came from",
  SPORT: "port the segment came from",
  DADDR: "address the segment went to",
  DPORT: "port the segment went to",
};

function columns(): Column[] {
  return [
    ...processColumns,
    ...connectionColumns(["s", "d"]).map((column) => ({
      ...column,
      description: ends[column.name] ?? column.description,
    })),
    {
      name: "REASON",
      type: "text",
      description: "why it was refused, in the kernel's words",
      from: { field: "reason", as: { names: reasons(), other: "REASON_" } },
    },
    {
      name: "STATE",
      type: "text",
      description: "state of the socket; empty where none was found",
      from: { field: "state", as: { names: states, other: "STATE_" }, when: { field: "state", not: 0 } },
    },
  ];
}

/** The tracepoint has an argument for it. */
function argument(name: string): Need {
  const { supported } = kernel.hasMember("struct trace_event_raw_kfree_skb", name);
  const reason =
    supported === true
      ? `The kernel says the ${name} of what it drops.`
      : `The kernel does not say the ${name} of what it drops. It needs a newer kernel.`;
  return { feature: `kfree_skb: ${name}`, supported, reason };
}

const keys = onOff("tcp_inerrs");

export default defineModule<Options>({
  name: "tcp_inerrs",
  summary: "TCP segments received and refused, with the reason",
  config: {
    ...keys.config,
    tcp_inerrs_ip: { enum: [4, 6, null], default: null, description: "Only this version of IP." },
  },
  fileKey: keys.fileKey,
  request(config) {
    const on = keys.request(config);
    if (!on) return undefined;
    return { options: { ip: (config["tcp_inerrs_ip"] ?? null) as Options["ip"] }, file: on.file };
  },
  columns,
  bpf: () => ({
    programs: [...ownerParts.programs, ...pastParts.programs, "tcp_inerrs_drop"],
    maps: [...ownerParts.maps, ...pastParts.maps],
    stream: { number: "tcp_inerrs_stream", record: "struct tcp_inerrs_event" },
  }),
  needs: () => [
    host.tracepoint("kfree_skb"),
    argument("reason"),
    ...ownerNeeds(),
    host.mapType("ringbuf", "ring buffer"),
  ],
  start(context, options) {
    const { object } = context;
    object.variable<number>("tcp_inerrs_ip").set(options.ip ?? 0);
    const lost = losses(context, ["tcp_inerrs_lost", "owner_lost"]);
    const missed = losses(context, [], ["tcp_inerrs_drop"]);
    if (argument("rx_sk").supported !== true) {
      context.warn(
        "tcp_inerrs: before Linux 6.11 the kernel does not say which socket a dropped segment was for; rows have no process and no state, and there are none without --host.",
      );
    }
    ownSockets(context);
    rememberOwners(context);
    const detach = attachAll(context, ["tcp_inerrs_drop"]);
    return {
      kind: "stream",
      backend: "bpf",
      lost,
      stop: () => {
        const count = missed();
        detach();
        if (count === 0) return;
        context.warn(
          `tcp_inerrs: ${String(count)} drops, of packets of any kind, came while another was being looked at, and were not.`,
        );
      },
    };
  },
});
