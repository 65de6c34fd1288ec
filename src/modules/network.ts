/**
 * network: link-layer kilobytes per process, by the owner of the socket (bpf/modules/network.bpf.c).
 */
import {
  attachAll,
  type Column,
  defineModule,
  host,
  onOff,
  processColumns,
  type RowOf,
  type Tick,
  Totals,
} from "../core/module.js";
import { losses } from "../services/losses.js";
import { ownerNeeds, ownerParts, ownSockets } from "../services/sockets.js";

const columns = [
  ...processColumns,
  { name: "RX_KB", type: "number", unit: "KB", digits: 3, description: "received; 1 KB = 1024 B" },
  { name: "TX_KB", type: "number", unit: "KB", digits: 3, description: "sent; 1 KB = 1024 B" },
] as const satisfies readonly Column[];

const packets = ["network_ingress", "network_egress", "network_raw"];

export default defineModule<null>({
  name: "network",
  summary: "bytes received and sent per process",
  ...onOff("network"),
  columns: () => columns,
  bpf: () => ({
    programs: [...ownerParts.programs, ...packets],
    maps: [...ownerParts.maps, "network_totals"],
  }),
  needs: () => [
    ...ownerNeeds(),
    host.programType("cgroup_skb", "cgroup_skb"),
    host.kernelFunction("bpf_cast_to_kern_ctx"),
    host.kernelFunction("bpf_rdonly_cast"),
  ],
  start(context) {
    const totals = new Totals(context.object, "network_totals", "struct network_total", [
      "rx_bytes",
      "tx_bytes",
    ]);
    const lost = losses(context, ["network_lost", "owner_lost"]);
    const lateBytes = context.object.variable<number>("network_late_bytes");
    const lateBefore = lateBytes.get();
    ownSockets(context);
    const detach = attachAll(context, packets);

    function* sample(tick: Tick): Iterable<RowOf<typeof columns>> {
      const changes = totals.take(tick.processes);
      for (const process of tick.processes) {
        const change = changes.get(process.id);
        const { Ticks, PID, COMM } = tick.identify(process);
        yield {
          Ticks,
          PID,
          COMM,
          RX_KB: (change?.rx_bytes ?? 0) / 1024,
          TX_KB: (change?.tx_bytes ?? 0) / 1024,
        };
      }
    }

    return {
      kind: "sampler",
      backend: "bpf",
      sample,
      forget: (ended) => {
        totals.forget(ended);
      },
      lost,
      stop: () => {
        detach();
        const late = lateBytes.get() - lateBefore;
        if (late === 0) return;
        const kilobytes = (late / 1024).toFixed(1);
        context.warn(
          `network: ${kilobytes} KB passed through sockets after the process that owned them had ended; they are in no row.`,
        );
      },
    };
  },
});
