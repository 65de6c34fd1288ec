// A reader of UDP datagrams under treesnoop (test/workloads/udp_wait.c), and its senders. Owns: what the reader itself found of each
// datagram, by the kernel's own stamp of its arrival, and the kernel's counters. Does not own: what the tables are to say.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Row } from "./csv.js";
import type { Host } from "./netns.js";
import { workload } from "./paths.js";
import { Command, execute, Run } from "./run.js";
import { until } from "./wait.js";

export const tool = workload("udp_wait");
export const table = "udp_latency.csv";
export const summary = "udp_latency_summary.csv";

export interface Letter {
  readonly length: number;
  readonly port: number;
  /** µs. */
  readonly waited: number;
}

/** Both modules at once. */
export function configuration(options: object = {}): object {
  return { snoop_udp_latency: "bpf", snoop_udp_latency_summary: "bpf", interval: 0.2, ...options };
}

export function letters(stdout: string): Letter[] {
  return [...stdout.matchAll(/^read (\d+) (\d+) (-?\d+)$/gm)].map(([, length, port, waited]) => ({
    length: Number(length),
    port: Number(port),
    waited: Number(waited),
  }));
}

export async function send(t: TestContext, host: Host, ...args: readonly string[]): Promise<{ count: number; port: number }> {
  const { code, stdout, stderr } = await execute(t, host.inside(tool, "send", ...args));
  assert.equal(code, 0, stderr);
  const [, count, port] = /^sent (\d+) (\d+)$/m.exec(stdout) ?? [];
  return { count: Number(count), port: Number(port) };
}

/** Until the test ends the kernel stamps every arrival, so that readers know how long each datagram waited. */
export async function stamping(t: TestContext): Promise<void> {
  await new Command(t, [tool, "stamps"], { deadline: 300 }).says(/^stamping$/m);
}

export interface Listened {
  readonly run: Run;
  /** Of udp_latency, each a datagram. */
  readonly rows: readonly Row[];
  /** Of udp_latency_summary. */
  readonly sums: readonly Row[];
  readonly read: readonly Letter[];
  readonly pid: number;
  /** Reads of which it is not certain what they took. */
  readonly lost: number;
}

/** Starts a reader in a tree, lets others send, waits for the end. */
export async function listen(
  t: TestContext,
  host: Host,
  args: readonly string[],
  sending: (pid: number, run: Run) => Promise<unknown>,
  options: object = {},
): Promise<Listened> {
  const run = new Run(t, {
    config: configuration(options),
    // A closed socket's queue is emptied a moment after its process has gone.
    command: host.inside("sh", "-c", `${[tool, "read", ...args].join(" ")} && sleep 0.5`),
  });
  const pid = Number((await run.says(/^ready (\d+)$/m))[1]);
  await sending(pid, run);
  const { code, stdout, stderr } = await run.finished;
  assert.equal(code, 0, stderr);
  const { modules } = run.record();
  const lost = modules.udp_latency?.events_lost ?? -1;
  assert.equal(modules.udp_latency_summary?.events_lost, lost);
  return {
    run,
    rows: run.table(table).rows.filter((row) => !row.isEnd),
    sums: run.table(summary).of(pid),
    read: letters(stdout),
    pid,
    lost,
  };
}

/** The module is on, and its first tick is over. */
export async function watching(run: Run, name = table): Promise<void> {
  await until("the first tick", () => {
    const record = run.growing(name) && (run.record() as unknown as { ticks: number });
    return record !== undefined && record.ticks > 0;
  });
}

/**
 * Every datagram that waited longer than the threshold has its row, no other has, and what the row says is what the reader found. The
 * reader may be held up between its read and its look at the clock: it can find more, seldom much, and never less.
 */
export function agree(rows: readonly Row[], read: readonly Letter[], thresholdUs = 3000): void {
  const rest = new Map(rows.map((row) => [`${row.number("SPORT")} ${row.number("LEN")}`, row.number("LAT")]));
  assert.equal(rest.size, rows.length, "rows are of different datagrams");
  const differences: number[] = [];
  for (const { length, port, waited } of read) {
    const key = `${port} ${length}`;
    const latency = rest.get(key);
    rest.delete(key);
    // Between the row's figure and the reader's lies the threshold, or the row would be there.
    assert.ok(latency !== undefined ? latency > thresholdUs : waited < thresholdUs + 5000, `${key}: ${latency} µs, the reader ${waited}`);
    const difference = waited - (latency ?? thresholdUs);
    if (latency !== undefined) assert.ok(difference > -500, `${key}: the row says ${latency} µs, the reader ${waited}`);
    differences.push(difference);
  }
  assert.deepEqual([...rest.keys()], [], "rows of datagrams nobody read");
  const near = differences.filter((difference) => difference < 5000).length;
  assert.ok(near >= differences.length * 0.75, `rows less than the reader's figures by ${differences.join(" ")} µs`);
}

/** A counter of the kernel's own, by its name in the line above the figures. */
export function udpCounter(host: Host, name: string): number {
  const [names, figures] = [...host.ask("cat", "/proc/net/snmp").matchAll(/^Udp: (.*)$/gm)].map(([, line = ""]) => line.split(" "));
  return Number(figures?.[names?.indexOf(name) ?? -1]);
}

/** The socket's own counter, of the only one there is. */
export function socketDrops(host: Host): number {
  return Number(/ 2 [0-9a-f]+ (\d+)\s*$/m.exec(host.ask("cat", "/proc/net/udp"))?.[1]);
}

export function warningsOf(run: Run): string {
  return (run.record() as unknown as { warnings: readonly string[] }).warnings.join("\n");
}
