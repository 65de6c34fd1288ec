// Prints: what iperf3 gets through a veth pair, one TCP stream and 64-byte UDP, bare, with each network module, with all that count, with
// all, and with a bpftrace that counts the same packets and bytes; and how long our programs run for a packet. Watched is the
// whole host, so both ends are: each packet is sent here and received here.
import { alternate, heading, installed, line, pause, Running, times } from "./support/measure.js";
import { datagrams, makeHosts, perPacket, removeHosts, smallSegments, stream, watching } from "./support/packets.js";

const rounds = 3;

const counting = { snoop_nic: "bpf", nic_name: "veth", snoop_tcp_bytes: "bpf", snoop_udp_latency_summary: "bpf" };
const delays = { snoop_delay_in: "bpf", snoop_delay_out: "bpf" };
const sets: Readonly<Record<string, object>> = {
  nic: { snoop_nic: "bpf", nic_name: "veth" },
  tcp_bytes: { snoop_tcp_bytes: "bpf" },
  udp_latency_summary: { snoop_udp_latency_summary: "bpf" },
  "these three: what counts per interval": counting,
  tcp_connection: { snoop_tcp_connection: "bpf" },
  tcp_inerrs: { snoop_tcp_inerrs: "bpf" },
  udp_latency: { snoop_udp_latency: "bpf" },
  delay_in: { snoop_delay_in: "bpf" },
  delay_out: { snoop_delay_out: "bpf" },
  "network (of the core modules)": { snoop_network: "bpf" },
  "all of them": { ...counting, ...delays, snoop_tcp_connection: "bpf", snoop_tcp_inerrs: "bpf", snoop_udp_latency: "bpf", snoop_network: "bpf" },
};

/** Counts the same packets and bytes as nic. */
async function withBpftrace(measure: () => Promise<number>): Promise<number> {
  const program =
    "tracepoint:net:netif_receive_skb { @rx = count(); @rxb = sum(args->len); } tracepoint:net:net_dev_xmit { @tx = count(); @txb = sum(args->len); }";
  const running = new Running(["bpftrace", "-e", program]);
  while (!running.stdout.includes("Attaching")) await pause(50);
  await pause(1000);
  const value = await measure();
  running.child.kill("SIGINT");
  await running.finish();
  return value;
}

removeHosts();
makeHosts();
try {
  for (const [name, load] of [
    ["one TCP stream, Gbit/s", stream],
    ["64-byte datagrams, 1000 a second", datagrams],
  ] as const) {
    heading(`${name}, median of ${rounds}`);
    const measurements: Record<string, () => Promise<number>> = { bare: load };
    for (const [set, config] of Object.entries(sets)) measurements[set] = () => watching(config, load);
    if (installed("bpftrace")) measurements["bpftrace, packets and bytes"] = () => withBpftrace(load);
    const taken = await alternate(rounds, measurements);
    const bare = taken["bare"] ?? NaN;
    for (const [set, value] of Object.entries(taken)) line(set, value, "", set === "bare" ? "" : `${times(value, bare)} bare`);
  }
  for (const [name, load] of [
    ["a 64-byte datagram", datagrams],
    ["a 64-byte TCP segment, read before the next is sent", smallSegments],
  ] as const) {
    heading(`run time of our programs for ${name}, sent and received, the measuring of it included`);
    for (const [set, config] of Object.entries(sets)) {
      const { ns, runs } = await watching(config, ({ pid }) => perPacket(pid, load));
      line(set, ns, "ns", `${runs.toFixed(1)} programs`);
    }
  }
} finally {
  removeHosts();
}
