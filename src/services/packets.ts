/**
 * Owns: the stamps of packets under way, made by one set of programs however many modules ask
 * (bpf/core/packets.bpf.c).
 */
import { attachAll, type BpfParts, type Context, host, type Need } from "../core/module.js";
import { eachNamespace, namespaceParts } from "./namespaces.js";

const received = [
  "packet_network_in",
  "packet_gro",
  "packet_frags",
  "packet_single",
  "packet_list",
  "packet_handed",
];

const sent = ["packet_network_out"];

/** Runs in each network namespace. */
const sentByTransport = "packet_transport_out";

/** The lowest that a BPF program may have: before anybody changes the packet. */
const first = -(2 ** 31) + 1;

const maps = ["packets", "analyzer_totals", "socket_owners"];

export const receivedParts: BpfParts = { programs: received, maps };

export const sentParts: BpfParts = {
  programs: [...sent, sentByTransport, ...namespaceParts.programs],
  maps: [...maps, ...namespaceParts.maps],
};

export const receivedNeeds = (): Need[] => [
  host.tracepoint("netif_receive_skb"),
  host.tracepoint("napi_gro_receive_entry"),
  host.tracepoint("netif_rx"),
  host.kernelFunction("bpf_rdonly_cast"),
];

export const sentNeeds = (): Need[] => [
  host.tracepoint("net_dev_queue"),
  host.tracepoint("net_dev_start_xmit"),
  host.programType("netfilter", "BPF netfilter"),
  host.kernelFunction("bpf_rdonly_cast"),
];

/** From now on received packets are stamped, until the last module stops: those asked for, or all. */
export function stampReceived(context: Context, which: "asked" | "all"): void {
  if (which === "all") wantAll(context, "packets_received_all");
  context.shared("stamps of received packets", () => ({ stop: attachAll(context, received) }));
}

/** The same for packets that TCP and UDP send. */
export function stampSent(context: Context, which: "asked" | "all"): void {
  if (which === "all") wantAll(context, "packets_sent_all");
  context.shared("stamps of sent packets", () => {
    const detach = attachAll(context, sent);
    const presence = eachNamespace(context, (namespace) => {
      const links = (["ipv4", "ipv6"] as const).map((family) =>
        context.attachNetfilter(sentByTransport, { family, hook: "local_out", priority: first, namespace }),
      );
      return {
        close: () => {
          for (const link of links) link.close();
        },
      };
    });
    return {
      stop: () => {
        presence.stop();
        detach();
      },
    };
  });
}

function wantAll(context: Context, variable: string): void {
  context.shared(variable, () => {
    const all = context.object.variable<number>(variable);
    all.set(1);
    return { stop: () => { all.set(0); } };
  });
}
