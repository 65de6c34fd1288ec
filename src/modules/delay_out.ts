/**
 * delay_out: how long each sent TCP packet took through each layer, from the program's write to the driver
 * (bpf/modules/delay_out.bpf.c).
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
import { sentNeeds, sentParts, stampSent } from "../services/packets.js";
import { ownerParts, ownSockets } from "../services/sockets.js";

const programs = ["delay_out_drop", "delay_out_send", "delay_out_queue", "delay_out_write"];

const translated = { field: "translated", is: 1 } as const;

/** Behind the sender's own address and port. */
const natColumns: readonly Column[] = [
  {
    name: "NATADDR",
    type: "text",
    description: "the sender's address after translation (NAT); empty where there was none",
    from: [
      { field: "nat4", as: "ipv4", when: [translated, { field: "connection.ip", is: 4 }] },
      { field: "nat6", as: "ipv6", when: [translated, { field: "connection.ip", is: 6 }] },
    ],
  },
  {
    name: "NATPORT",
    type: "integer",
    description: "the sender's port after translation; empty where there was none",
    from: { field: "nat_port", when: translated },
  },
];

const [saddr, sport, ...destination] = endColumns();

const columns: readonly Column[] = [
  ...processColumns,
  ...[saddr, sport].filter((column) => column !== undefined),
  ...natColumns,
  ...destination,
  ...placeColumns,
  timeColumn("TOTAL", "from the write, or from TCP where no write is known, to the driver", "total_ns"),
  timeColumn("QDISC", "from the device's queue to the driver", "qdisc_ns"),
  timeColumn("IP", "from TCP to the device's queue: routing, netfilter, the neighbour found", "ip_ns"),
  timeColumn("TCP", "from the write of its first byte until TCP sent it; empty where it has none", "tcp_ns", "written"),
  ...sizeColumns,
  {
    name: "RETRANS",
    type: "integer",
    description: "1: TCP sends it again",
    from: { field: "retransmitted" },
  },
];

export default defineModule<DelayOptions>({
  name: "delay_out",
  summary: "time of each sent TCP packet in each layer",
  ...delayKeys("delay_out"),
  columns: () => columns,
  bpf: () => ({
    programs: [...ownerParts.programs, ...sentParts.programs, ...programs],
    maps: [...ownerParts.maps, ...sentParts.maps, "delay_out_packets", "delay_out_sockets"],
    stream: { number: "delay_out_stream", record: "struct delay_out_event" },
  }),
  needs: () => [
    ...delayNeeds(),
    ...sentNeeds(),
    host.tracepoint("tcp_sendmsg_locked"),
    host.tracepoint("kfree_skb"),
  ],
  start(context, options) {
    const lost = losses(context, ["delay_out_lost", "owner_lost"]);
    const begun = losses(context, ["delay_out_begun"]);
    const ended = losses(context, ["delay_out_told", "delay_out_dropped"]);
    const dropped = losses(context, ["delay_out_dropped"]);
    // A time the queue's program was left out is a packet more that is not told, if it was wanted.
    const unstamped = losses(context, ["delay_out_unstamped"], ["delay_out_queue"]);
    const unmatched = (): number => begun() - ended() + unstamped();
    choose(context, "delay_out", options);
    ownSockets(context);
    stampSent(context, "all");
    const detach = attachAll(context, programs);
    return {
      kind: "stream",
      backend: "bpf",
      lost: () => lost() + unmatched(),
      stop: () => {
        detach();
        if (unmatched() > 0) {
          context.warn(
            `delay_out: of ${unmatched().toString()} segments the way could not be followed to its end (cut, cloned, or under way at the end); they have no row.`,
          );
        }
        if (dropped() > 0) {
          context.warn(`delay_out: ${dropped().toString()} segments were dropped on their way to the device; they have no row.`);
        }
      },
    };
  },
});
