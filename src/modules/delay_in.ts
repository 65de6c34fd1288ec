/**
 * delay_in: how long each received TCP packet took through each layer, up to its reader
 * (bpf/modules/delay_in.bpf.c).
 */
import { attachAll, type Column, defineModule, host, processColumns } from "../core/module.js";
import {
  choose,
  delayKeys,
  delayNeeds,
  type DelayOptions,
  endColumns,
  placeColumns,
  sizeColumns,
  timeColumn,
} from "../services/delays.js";
import { losses } from "../services/losses.js";
import { receivedNeeds, receivedParts, stampReceived } from "../services/packets.js";
import { ownerParts, ownSockets, pastParts, rememberOwners } from "../services/sockets.js";

const programs = ["delay_in_read", "delay_in_refused", "delay_in_transport"];

const columns: readonly Column[] = [
  ...processColumns,
  ...endColumns(),
  ...placeColumns,
  timeColumn("TOTAL", "from the driver to the reader, or to TCP where nobody reads it", "total_ns"),
  timeColumn("MAC", "from the driver to the protocols: GRO, backlog", "mac_ns"),
  timeColumn("IP", "from there to TCP: routing, netfilter, the socket found", "ip_ns"),
  timeColumn("TCP", "from there until its last byte is read; empty where it has none to read", "tcp_ns", "read"),
  ...sizeColumns,
  {
    name: "RETRANS",
    type: "integer",
    description: "1: it lies before what had come by then, sent again or overtaken",
    from: { field: "retransmitted" },
  },
];

export default defineModule<DelayOptions>({
  name: "delay_in",
  summary: "time of each received TCP packet in each layer",
  ...delayKeys("delay_in"),
  columns: () => columns,
  bpf: () => ({
    programs: [...ownerParts.programs, ...pastParts.programs, ...receivedParts.programs, ...programs],
    maps: [...ownerParts.maps, ...pastParts.maps, ...receivedParts.maps, "delay_in_packets", "delay_in_arrivals", "delay_in_sockets"],
    stream: { number: "delay_in_stream", record: "struct delay_in_event" },
  }),
  needs: () => [...delayNeeds(), ...receivedNeeds(), host.tracepoint("tcp_rcv_space_adjust"), host.tracepoint("kfree_skb")],
  start(context, options) {
    const lost = losses(context, ["delay_in_lost", "delay_in_unstamped", "delay_in_missed", "owner_lost"]);
    const unstamped = losses(context, ["delay_in_unstamped"]);
    const kept = losses(context, ["delay_in_kept"]);
    const told = losses(context, ["delay_in_told", "delay_in_missed"]);
    choose(context, "delay_in", options);
    ownSockets(context);
    rememberOwners(context);
    stampReceived(context, "all");
    const detach = attachAll(context, programs);
    return {
      kind: "stream",
      backend: "bpf",
      lost,
      stop: () => {
        detach();
        const unread = kept() - told();
        if (unstamped() > 0) {
          context.warn(`delay_in: of ${unstamped().toString()} packets the way to TCP could not be told; they have no row.`);
        }
        if (unread > 0) {
          context.warn(`delay_in: ${unread.toString()} packets were not read by the end, or not told apart by then; they have no row.`);
        }
      },
    };
  },
});
