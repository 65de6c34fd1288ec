// Prints: what being watched costs per scheduler switch, per packet and per malloc/free pair: from BPF's own run-time account and from
// the workload's clock, in the tree and beside it; and the same for tools a user might pick instead, where installed.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alternate, bare, beside, heading, installed, line, times, watched, workload, type RunRecord } from "./support/measure.js";

const rounds = 5;

const figure = ({ stdout }: { stdout: string }): number => Number(stdout.trim().split("\n").at(-1));

/** Runs once bare, once in the tree, once beside it, in turn; keeps what BPF said of the run in the tree. */
async function compare(config: object, command: readonly string[]): Promise<{ bare: number; tree: number; beside: number; record: RunRecord }> {
  let record: RunRecord | undefined;
  const values = await alternate(rounds, {
    bare: async () => figure(await bare(command)),
    tree: async () => {
      const run = await watched(config, command);
      record = run.record;
      return figure(run);
    },
    beside: () => beside(config, async () => figure(await bare(command))),
  });
  if (record === undefined) throw new Error("no run");
  return { ...values, record };
}

function print(values: { bare: number; tree: number; beside: number; record: RunRecord }, per: number): void {
  line("bare", values.bare / per, "ns");
  line("in the tree", values.tree / per, "ns", `${times(values.tree, values.bare)} bare, + ${((values.tree - values.bare) / per).toFixed(0)} ns`);
  line("beside the tree", values.beside / per, "ns", `${times(values.beside, values.bare)} bare`);
}

/** Run time is measured in windows (docs/performance.md): a figure a run, not a sum. */
function account(record: RunRecord, module: string): string {
  const { bpf_run_ns: ns = Number.NaN, bpf_runs: runs = 0 } = record.modules[module] ?? {};
  return `BPF's own account: ${(ns / runs).toFixed(0)} ns a program run, of ${String(runs)} measured`;
}

const roundTrips = 200000;

heading(`a scheduler switch (two processes and a pipe on one CPU, median of ${rounds})`);
const switches = await compare({ snoop_cpu: "bpf", cpu_output_file: "cpu.csv" }, [workload("net_pingpong"), "pipe", roundTrips.toString()]);
print(switches, 2);
console.log(`  ${account(switches.record, "cpu")}`);

heading(`a packet (the same over UDP on loopback: one sent and received is one, median of ${rounds})`);
const packets = await compare({ snoop_network: "bpf", network_output_file: "network.csv" }, [workload("net_pingpong"), "udp", roundTrips.toString()]);
print(packets, 2);
console.log(`  ${account(packets.record, "network")}`);

const pairs = 300000;
heading(`a malloc/free pair (median of ${rounds})`);
const heap = await compare({ snoop_mem: "bpf", mem_output_file: "mem.csv" }, [workload("heap_pair"), pairs.toString()]);
print(heap, 1);
console.log(`  ${account(heap.record, "mem")}`);
const threaded = await compare({ snoop_mem: "bpf", mem_output_file: "mem.csv" }, [workload("heap_pair"), pairs.toString(), "2"]);
line("two threads: bare", threaded.bare, "ns");
line("two threads: in the tree", threaded.tree, "ns", `${times(threaded.tree, threaded.bare)} bare`);

const folder = mkdtempSync(join(tmpdir(), "treesnoop-bench-"));
try {
  const pair = [workload("heap_pair"), pairs.toString()];
  if (installed("heaptrack")) {
    const peer = await alternate(3, { heaptrack: async () => Number(/^(\d+\.\d)$/m.exec((await bare(["heaptrack", "-o", join(folder, "out"), ...pair])).stdout)?.[1]) });
    line("heaptrack", peer.heaptrack, "ns", `${times(peer.heaptrack, heap.bare)} bare`);
  }
  if (installed("valgrind")) {
    const peer = await alternate(3, { valgrind: async () => figure(await bare(["valgrind", "-q", "--leak-check=no", ...pair])) });
    line("valgrind (memcheck)", peer.valgrind, "ns", `${times(peer.valgrind, heap.bare)} bare`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
