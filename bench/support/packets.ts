// What benchmarks of packets share. Owns: two namespaces joined by a veth pair, iperf3 between them, treesnoop watching the whole host
// meanwhile. Does not own: any claim.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitor, pause, Running, type RunRecord } from "./measure.js";

/** A measurement's length. */
const seconds = 2;
const [near, far] = ["treesnoop-bench-near", "treesnoop-bench-far"] as const;
/** far's. */
const address = "10.78.0.2";

function ip(...args: string[]): string {
  return execFileSync("ip", args, { encoding: "utf8" });
}

export function makeHosts(): void {
  for (const name of [near, far]) ip("netns", "add", name);
  ip("-n", near, "link", "add", "veth", "type", "veth", "peer", "name", "veth", "netns", far);
  for (const [index, name] of [near, far].entries()) {
    ip("-n", name, "address", "add", `10.78.0.${(index + 1).toString()}/24`, "dev", "veth");
    ip("-n", name, "link", "set", "veth", "up");
  }
}

export function removeHosts(): void {
  for (const name of [near, far])
    try {
      ip("netns", "del", name);
    } catch {
      // not made
    }
}

/** Packets either end has sent: each is received as well. */
function packets(): number {
  return [near, far].reduce((sum, name) => {
    const [link] = JSON.parse(ip("-n", name, "-s", "-j", "link", "show", "dev", "veth")) as { stats64: { tx: { packets: number } } }[];
    return sum + (link?.stats64.tx.packets ?? 0);
  }, 0);
}

interface Report {
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number };
    readonly sum?: { readonly packets: number; readonly seconds: number };
  };
}

async function iperf(...options: string[]): Promise<Report["end"]> {
  const server = new Running(["ip", "netns", "exec", far, "iperf3", "-s", "-1"]);
  await pause(300);
  const client = new Running(["ip", "netns", "exec", near, "iperf3", "-c", address, "-t", seconds.toString(), "--json", ...options]);
  const { stdout } = await client.finish();
  await server.finish();
  return (JSON.parse(stdout) as Report).end;
}

/** One TCP stream, Gbit/s. */
export async function stream(): Promise<number> {
  return ((await iperf()).sum_received?.bits_per_second ?? NaN) / 1e9;
}

/** Datagrams of 64 bytes, as fast as one process sends them: thousands a second. */
export async function datagrams(): Promise<number> {
  const { sum } = await iperf("-u", "-l", "64", "-b", "0");
  return (sum?.packets ?? NaN) / (sum?.seconds ?? NaN) / 1e3;
}

/** One TCP segment of 64 bytes there, one back, and so on, each read before the next is sent. */
export async function smallSegments(): Promise<void> {
  const server = `import socket
s = socket.create_server(("${address}", 7000)); print("ready", flush=True); c = s.accept()[0]
while d := c.recv(64): c.sendall(d)`;
  const client = `import socket, time
c = socket.create_connection(("${address}", 7000)); end = time.monotonic() + ${seconds.toString()}
while time.monotonic() < end: c.sendall(bytes(64)); c.recv(64)`;
  const [listening, asking] = [
    ["ip", "netns", "exec", far, "python3", "-c", server],
    ["ip", "netns", "exec", near, "python3", "-c", client],
  ] as const;
  const running = new Running(listening);
  while (!running.stdout.includes("ready")) await pause(20);
  await new Running(asking).finish();
  await running.finish();
}

export interface Watching {
  readonly pid: number;
  /** run.json as it is now. */
  readonly record: () => RunRecord;
}

/** treesnoop watches the whole host while something is measured; `inside`: near's interfaces are its own. */
export async function watching<T>(config: object, measure: (watching: Watching) => Promise<T>, inside = true): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "treesnoop-bench-"));
  try {
    const [file, run] = [join(folder, "config.json"), join(folder, "run.json")];
    writeFileSync(file, JSON.stringify({ interval: 1, ...config }));
    const place = inside ? ["nsenter", `--net=/run/netns/${near}`] : [];
    const running = new Running([...place, ...monitor, "-q", "-c", file, "--host"], folder);
    while (!existsSync(run)) {
      if (running.child.exitCode !== null) throw new Error(running.stderr);
      await pause(20);
    }
    await pause(1000);
    const value = await measure({ pid: running.pid, record: () => JSON.parse(readFileSync(run, "utf8")) as RunRecord });
    running.child.kill("SIGINT");
    await running.finish();
    return value;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Run time in ns and runs of all programs a process holds, by the kernel's own account. */
function spent(pid: number): { ns: number; runs: number } {
  const programs = new Map<string, { ns: number; runs: number }>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    let text = "";
    try {
      text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    } catch {
      continue; // closed meanwhile
    }
    const field = (name: string): string | undefined => new RegExp(`^${name}:\\s*(\\d+)$`, "m").exec(text)?.[1];
    const [id, ns, runs] = ["prog_id", "run_time_ns", "run_cnt"].map(field);
    if (id !== undefined && ns !== undefined) programs.set(id, { ns: Number(ns), runs: Number(runs) });
  }
  return [...programs.values()].reduce((sum, each) => ({ ns: sum.ns + each.ns, runs: sum.runs + each.runs }), { ns: 0, runs: 0 });
}

/** What the programs of a process spend on a packet, sent and received, while `load` runs. Measuring it is in it: a clock read twice a run. */
export async function perPacket(pid: number, load: () => Promise<unknown>): Promise<{ ns: number; runs: number }> {
  const statistics = "/proc/sys/kernel/bpf_stats_enabled";
  const setting = readFileSync(statistics, "utf8");
  writeFileSync(statistics, "1");
  try {
    const before = { ...spent(pid), packets: packets() };
    await load();
    const after = { ...spent(pid), packets: packets() };
    const count = after.packets - before.packets;
    return { ns: (after.ns - before.ns) / count, runs: (after.runs - before.runs) / count };
  } finally {
    writeFileSync(statistics, setting);
  }
}
