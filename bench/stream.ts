// Prints: what `dd bs=1`, which does nothing but system calls, takes bare, summed up, with every entry and return in a CSV,
// and under the tools one would use otherwise; how many rows a second that is and how many were lost; and what a program
// outside the tree pays. The others are so much slower that they get a smaller count, and are compared per call.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alternate, bare, beside, heading, installed, line, times, watched, type RunRecord } from "./support/measure.js";

const rounds = 5;
const blocks = 2_000_000;
const fewBlocks = 20_000;
const callsPerBlock = 2;

const dd = (count: number): string[] => ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", `count=${count}`, "status=none"];
const events = { snoop_syscall: "bpf", syscall_output_file: "syscall.csv", interval: 1 };
const summary = { ...events, syscall_mode: "summary" };

const records: RunRecord[] = [];

async function took(config: object, count: number): Promise<number> {
  const { ms, record } = await watched(config, dd(count));
  if (count === blocks && config === events) records.push(record);
  return ms;
}

heading(`dd bs=1 count=${blocks}, start and end of the monitor taken off (median of ${rounds})`);
const whole = await alternate(rounds, {
  bare: async () => (await bare(dd(blocks))).ms,
  // A run with next to nothing to watch: what no call pays for.
  start: () => took(events, 1),
  summary: () => took(summary, blocks),
  events: () => took(events, blocks),
});
const own = { bare: whole.bare, summary: whole.summary - whole.start, events: whole.events - whole.start };
line("bare", own.bare, "ms");
line("summary", own.summary, "ms", `${times(own.summary, own.bare)} bare`);
line("events to CSV", own.events, "ms", `${times(own.events, own.bare)} bare`);
for (const record of records.slice(-1)) {
  const { rows = 0, events_lost: lost } = record.modules.syscall ?? {};
  line("  rows", rows, "", `${String(lost)} lost, ${(rows / own.events / 1e3).toFixed(2)} million a second`);
  const { cpu_ms, peak_rss_kb, max_tick_late_ms } = record.monitor;
  line("  CPU time of the monitor", cpu_ms, "ms", `${((cpu_ms * 1e6) / rows).toFixed(0)} ns a row`);
  line("  its peak RSS", peak_rss_kb / 1024, "MB");
  line("  latest start of a tick (interval 1 s)", max_tick_late_ms, "ms");
}
const lost = records.reduce((sum, record) => sum + (record.modules.syscall?.events_lost ?? 0), 0);
line(`  lost in all ${records.length} runs`, lost, "");

heading(`a call, the others (dd bs=1 count=${fewBlocks}, median of 3)`);
const scratch = mkdtempSync(join(tmpdir(), "treesnoop-bench-"));
const others = {
  "strace -f": ["strace", "-f", "-o", join(scratch, "strace.txt")],
  "perf trace": ["perf", "trace", "-o", join(scratch, "perf.txt")],
};
const perCall = (ms: number, count: number): number => (ms * 1e6) / (count * callsPerBlock);
const bareCall = perCall(own.bare, blocks);
line("bare", bareCall, "ns");
line("treesnoop, summary", perCall(own.summary, blocks), "ns");
line("treesnoop, events", perCall(own.events, blocks), "ns");
for (const [name, prefix] of Object.entries(others)) {
  if (!installed(prefix[0] ?? "")) {
    console.log(`  ${name}: not installed`);
    continue;
  }
  const other = await alternate(3, {
    some: async () => (await bare([...prefix, ...dd(fewBlocks)])).ms,
    none: async () => (await bare([...prefix, ...dd(1)])).ms,
  });
  const call = perCall(other.some - other.none, fewBlocks);
  line(name, call, "ns", `${times(call, bareCall)} bare`);
}
rmSync(scratch, { recursive: true, force: true });

const python = ["python3", "-c", "import hashlib, json, re\nfor i in range(40): json.dumps(list(range(20000))); hashlib.sha256(b'x' * 10**6)"];
for (const [name, command] of [
  ["which does nothing but calls (dd)", dd(blocks / 4)],
  ["which looks at files (find /usr -newer)", ["find", "/usr", "-newer", "/etc/passwd", "-fprint", "/dev/null"]],
  ["which computes (python3)", python],
] as const) {
  heading(`a program outside the tree, ${name}, median of ${rounds}`);
  const outside = await alternate(rounds, {
    bare: async () => (await bare(command)).ms,
    beside: () => beside(events, async () => (await bare(command)).ms),
  });
  line("bare", outside.bare, "ms");
  line("while treesnoop watches another", outside.beside, "ms", `${times(outside.beside, outside.bare)} bare`);
}
