/**
 * Owns: following the datagrams that wait in UDP sockets, switched on for whichever modules ask
 * (bpf/core/udp_queue.bpf.c).
 */
import { attachAll, type BpfParts, type Context, host, monotonicNs, type Need } from "../core/module.js";
import { losses } from "./losses.js";
import { ownerNeeds, ownerParts, ownSockets } from "./sockets.js";

/** The stamps come last: nothing may be stamped whose way is not watched to its end. */
const programs = ["udp_queue_received", "udp_queue_drop", "udp_queue_ingress"];

export const udpParts: BpfParts = {
  programs: [...ownerParts.programs, ...programs],
  maps: [...ownerParts.maps, "udp_stamps", "udp_queues", "udp_queue_dropped", "udp_queue_read", "udp_queue_drops"],
};

export function udpNeeds(): readonly Need[] {
  return [
    ...ownerNeeds(),
    host.programType("cgroup_skb", "cgroup_skb"),
    host.tracepoint("kfree_skb"),
    host.kernelFunction("bpf_cast_to_kern_ctx"),
    host.kernelFunction("bpf_rdonly_cast"),
  ];
}

/**
 * From now on every read of a datagram has its outcome, for programs on sock_recv_length that are attached
 * after this; until the last module stops. Returns what was lost to this module since, with its own counters.
 */
export function followUdp(context: Context, ...lost: readonly string[]): () => number {
  const { object } = context;
  context.shared("udp queues", () => {
    ownSockets(context);
    object.variable<bigint>("udp_queue_began").set(BigInt(monotonicNs()));
    const drops = losses(context, ["udp_queue_all_drops"]);
    const unread = losses(context, ["udp_queue_unread"]);
    const missed = losses(context, [], ["udp_queue_drop"]);
    const detach = attachAll(context, programs);
    return {
      stop: () => {
        const counts: readonly (readonly [number, string])[] = [
          [drops(), "datagrams were dropped before they could be read: receive queue full, bad checksum"],
          [unread(), "datagrams were thrown away unread with their sockets"],
          [missed(), "drops, of packets of any kind, came while another was being looked at, and were not"],
        ];
        detach();
        for (const [count, what] of counts) {
          if (count > 0) context.warn(`udp_latency: ${String(count)} ${what}.`);
        }
      },
    };
  });
  return losses(context, ["owner_lost", ...lost]);
}
