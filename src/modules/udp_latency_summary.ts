/**
 * udp_latency_summary: how long datagrams waited in receive queues, per tick and process
 * (bpf/modules/udp_latency_summary.bpf.c).
 */
import type { BpfMap } from "libbpf-ts";
import { attachAll, type Column, defineModule, onOff, processColumns, type RowOf, type Tick, Totals } from "../core/module.js";
import { type Histogram, longestNs, noTimes, percentileNs, since } from "../services/histogram.js";
import { followUdp, udpNeeds, udpParts } from "../services/udp.js";

const us = { type: "number", unit: "µs" } as const;

const columns = [
  ...processColumns,
  { name: "DATAGRAMS", type: "integer", description: "read by the process in this tick" },
  { name: "P50", ...us, description: "wait in the receive queue, median, within 12.5 %" },
  { name: "P90", ...us, description: "wait, 90th percentile, within 12.5 %" },
  { name: "P99", ...us, description: "wait, 99th percentile, within 12.5 %" },
  { name: "MAX", ...us, description: "longest wait" },
  { name: "DROPS", type: "integer", description: "dropped by its sockets before they could be read" },
] as const satisfies readonly Column[];

const programs = ["udp_latency_summary_received"];
const map = "udp_latency_summary_totals";

export default defineModule<null>({
  name: "udp_latency_summary",
  summary: "how long datagrams waited, per tick and process, and drops",
  ...onOff("udp_latency_summary"),
  columns: () => columns,
  bpf: () => ({ programs: [...udpParts.programs, ...programs], maps: [...udpParts.maps, map] }),
  needs: udpNeeds,
  start(context) {
    const { object } = context;
    const lost = followUdp(context, "udp_latency_summary_lost", "udp_queue_late_drops");
    const totals = object.map(map) as unknown as BpfMap<number, Histogram>;
    const tickNumber = object.variable<number>("udp_latency_summary_tick");
    const drops = new Totals(object, "udp_queue_drops", "struct udp_drops", ["drops"]);
    const before = new Map(totals.entries());
    const detach = attachAll(context, programs);

    function* sample(tick: Tick): Iterable<RowOf<typeof columns>> {
      const tickNow = tickNumber.get();
      tickNumber.set(tickNow + 1); // from here on a longest wait belongs to the next row
      const now = new Map(totals.entries());
      const dropped = drops.take(tick.processes);
      for (const process of tick.processes) {
        const times = now.get(process.id) ?? noTimes;
        const buckets = since(times, before.get(process.id) ?? noTimes);
        const count = buckets.reduce((sum, each) => sum + each, 0);
        const drop = dropped.get(process.id)?.drops ?? 0;
        if (count === 0 && drop === 0 && !(process.ended && before.has(process.id))) continue;
        before.set(process.id, times);
        // What was read while the totals were may have its longest in the next tick.
        const longest = longestNs(times, tickNow) || percentileNs(buckets, 1);
        const percentile = (share: number): number => Math.min(percentileNs(buckets, share), longest) / 1e3;
        const { Ticks, PID, COMM } = tick.identify(process);
        const waits =
          count === 0
            ? { P50: "", P90: "", P99: "", MAX: "" }
            : { P50: percentile(0.5), P90: percentile(0.9), P99: percentile(0.99), MAX: longest / 1e3 };
        yield { Ticks, PID, COMM, DATAGRAMS: count, ...waits, DROPS: drop };
      }
    }

    return {
      kind: "sampler",
      backend: "bpf",
      sample,
      forget: (ended) => {
        const gone = ended.map((process) => process.id).filter((process) => before.delete(process));
        totals.deleteMany(gone);
        drops.forget(ended);
      },
      lost,
      stop: detach,
    };
  },
});
