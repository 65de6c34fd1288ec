// Rows of delay_in and delay_out beside packets of a capture. Owns: what makes them the same packet, what is missing, what the run says is
// missing, and what a program (tcp_talk.py) says of its own writes and reads. Does not own: how many may be missing.
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Packet } from "./capture.js";
import type { Row, Table } from "./csv.js";
import { answers, configureWebServer, type Host } from "./netns.js";
import { root, scratch } from "./paths.js";
import { Command, execute, Run } from "./run.js";
import { until } from "./wait.js";

export const inHeader = "Ticks,PID,COMM,SADDR,SPORT,DADDR,DPORT,SEQ,ACK,TOTAL,MAC,IP,TCP,LEN,SEGS,RETRANS";
export const outHeader = "Ticks,PID,COMM,SADDR,SPORT,NATADDR,NATPORT,DADDR,DPORT,SEQ,ACK,TOTAL,QDISC,IP,TCP,LEN,SEGS,RETRANS";

/** The rows about packets; every one adds up. */
export function packetRows(table: Table): Row[] {
  const { header } = table;
  assert.ok([inHeader, outHeader].includes(header.join()), header.join());
  const parts = header.includes("QDISC") ? ["QDISC", "IP", "TCP"] : ["MAC", "IP", "TCP"];
  const rows = table.rows.filter((row) => !row.isEnd && !row.isLost);
  for (const row of rows) {
    const sum = parts.reduce((all, part) => all + (row.isEmpty(part) ? 0 : row.number(part)), 0);
    assert.ok(Math.abs(sum - row.number("TOTAL")) < 0.01, row.toString());
    if (row.number("LEN") === 0) assert.ok(row.isEmpty("TCP"), row.toString());
  }
  return rows;
}

const ends = ["SADDR", "SPORT", "DADDR", "DPORT"];

/** The connection, in either direction. */
export function connectionOf(row: Row): string {
  const [saddr = "", sport = "", daddr = "", dport = ""] = ends.map((column) => row.text(column));
  return [`${saddr} ${sport}`, `${daddr} ${dport}`].sort().join(" ");
}

export function connectionOfPacket({ saddr, sport, daddr, dport }: Packet): string {
  return [`${saddr} ${sport}`, `${daddr} ${dport}`].sort().join(" ");
}

export function keyOf(row: Row): string {
  return [...ends, "SEQ", "ACK", "LEN"].map((column) => row.text(column)).join(" ");
}

export function keyOfPacket({ saddr, sport, daddr, dport, seq, ack, length }: Packet): string {
  return [saddr, sport, daddr, dport, seq, ack, length].join(" ");
}

/** Each packet that has no row of its own, and each row that is no packet. */
export function compare(rows: readonly Row[], packets: readonly Packet[]): { missing: Packet[]; extra: string[] } {
  const left = new Map<string, number>();
  for (const row of rows) left.set(keyOf(row), (left.get(keyOf(row)) ?? 0) + 1);
  const missing = packets.filter((packet) => {
    const count = left.get(keyOfPacket(packet)) ?? 0;
    left.set(keyOfPacket(packet), count - 1);
    return count <= 0;
  });
  return { missing, extra: [...left].filter(([, count]) => count > 0).map(([key, count]) => `${key} ×${count}`) };
}

/** A packet that is for no socket: its receiver says so, or it says that itself. */
export function forNobody(packets: readonly Packet[], packet: Packet): boolean {
  return packet.reset || packets.some(({ saddr, sport, reset }) => reset && saddr === packet.daddr && sport === packet.dport);
}

/** Packets without data that come when their receiver has said all it had to: in a tree its process has ended. */
export function afterEnd(packets: readonly Packet[], missing: readonly Packet[]): boolean {
  return missing.every((packet) => {
    const back = packets.filter(({ saddr, sport, time }) => saddr === packet.daddr && sport === packet.dport && time <= packet.time);
    return packet.length === 0 && back.some(({ fin, reset }) => fin || reset);
  });
}

/** Watches the whole host; comes back when the modules are at work, which is before the first tick's end. */
export async function watching(t: TestContext, config: object, ...tables: readonly string[]): Promise<Run> {
  const run = new Run(t, { config, options: ["--host"] });
  await until("the tables", () => tables.every((table) => run.growing(table) !== undefined), 15);
  for (let ticks = 0; ticks < 2; ticks++) {
    const written = (): number => statSync(run.path("run.json")).mtimeMs;
    const before = written();
    await until("the next tick", () => written() !== before, 15);
  }
  return run;
}

export function warnings(run: Run): string[] {
  return (run.record() as unknown as { warnings: string[] }).warnings;
}

/** How many packets the run says have no row: those that were lost, and those its messages of this kind tell. */
export function told(run: Run, name: string, kind: RegExp): number {
  const said = warnings(run).filter((each) => each.startsWith(`${name}: `) && kind.test(each));
  const numbers = said.map((each) => Number(/\d+/.exec(each.slice(name.length))?.[0]));
  return numbers.reduce((all, each) => all + each, run.record().modules[name]?.events_lost ?? 0);
}

/** Every packet without a row is told by the run, but for those that belong to nobody. */
export function accounted(run: Run, name: string, kind: RegExp, packets: readonly Packet[], missing: readonly Packet[]): void {
  const owned = missing.filter((packet) => !afterEnd(packets, [packet]));
  const count = told(run, name, kind);
  assert.ok(count >= owned.length && count <= missing.length, JSON.stringify({ count, owned, warnings: warnings(run) }));
}

/** Reads to the end; prints who connected. Both ends are on one processor, so that packets stay in order. */
const reader = `import json, socket
listener = socket.create_server(("", 7700), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
peer, (address, port, *_) = listener.accept()
print(json.dumps([address.removeprefix("::ffff:"), port]), flush=True)
while peer.recv(1 << 20): pass
peer.close()`;

export async function reading(t: TestContext, host: Host): Promise<Command> {
  const command = new Command(t, host.inside("taskset", "-c", "0", "/usr/bin/python3", "-uc", reader));
  await command.says(/^ready$/m);
  return command;
}

/** Sends what the lines say, waits until all is acknowledged, and prints TCP's own counts: bytes and segments sent again. */
export async function send(t: TestContext, host: Host, address: string, lines: string): Promise<{ bytes: number; segments: number }> {
  const script = `import json, socket, struct, time
peer = socket.create_connection(("${address}", 7700)); peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
${lines}
peer.shutdown(socket.SHUT_WR); peer.recv(1)
info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
print(json.dumps({"bytes": struct.unpack_from("Q", info, 208)[0], "segments": struct.unpack_from("I", info, 100)[0]}))`;
  const { code, stdout, stderr } = await execute(t, host.inside("taskset", "-c", "0", "/usr/bin/python3", "-c", script));
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as { bytes: number; segments: number };
}

/** A web server with a large page, on a port of its own. */
export async function servePage(t: TestContext, host: Host): Promise<{ nginx: Command; port: number }> {
  const folder = scratch(t);
  const port = 17800;
  const server = configureWebServer(folder, 0);
  const file = join(folder, "nginx.conf");
  writeFileSync(file, readFileSync(file, "utf8").replace("listen 80;", `listen ${port};`).replace("listen [::]:80;", `listen [::]:${port};`));
  writeFileSync(join(server.folder, "page"), "x".repeat(300_000));
  const nginx = new Command(t, host.inside(...server.command), { deadline: 120 });
  await answers(host, port.toString());
  return { nginx, port };
}

/** Fetches it over IPv4 and IPv6; gives curl's pids by its ports. */
export async function fetchPage(t: TestContext, from: Host, to: Host, port: number): Promise<Map<string, number>> {
  const pids = new Map<string, number>();
  for (const address of [to.ipv4, `[${to.ipv6}]`]) {
    const curl = new Command(t, from.inside("curl", "-sSf", "-o", "/dev/null", "-w", "%{local_port}", `http://${address}:${port}/page`));
    const { code, stdout, stderr } = await curl.finished;
    assert.equal(code, 0, stderr);
    pids.set(stdout, curl.pid);
  }
  return pids;
}

/** Of [bytes so far, ns before, ns after]. */
type Moment = readonly [number, number, number];

/** What tcp_talk.py said. Times are CLOCK_MONOTONIC, ns; `unix` makes them Unix time. */
export interface Talk {
  readonly writer: number;
  readonly reader: number;
  readonly unix: number;
  readonly writes: readonly Moment[];
  readonly reads: readonly Moment[];
}

export function talk(address: string, ...steps: readonly string[]): string[] {
  return ["/usr/bin/python3", join(root, "test/support/tcp_talk.py"), address, ...steps];
}

/** What runs a command in a namespace of its own, where TCP need not wait before it sends: each write is a packet. */
export function eager(): string[] {
  const local = (change: string, to: string): string => `ip route ${change} table local local ${to} dev lo`;
  const routes = ["127.0.0.1", "::1"].map((to) => `${local("del", to)} && ${local("add", to)} metric 1 initcwnd 1000 quickack 1`);
  return ["unshare", "--net", "sh", "-c", `ip link set lo up && ${routes.join(" && ")} && exec "$@"`, "sh"];
}

/** The one in which the byte before `end` was written or read. */
export function momentOf(moments: readonly Moment[], end: number): Moment {
  return moments.find(([total]) => total >= end) ?? assert.fail(`nobody came to ${end}`);
}

/** Where in the stream the row's data ends. The row's sequence numbers begin with that of the first. */
export function endOf(row: Row, first: number): number {
  return ((row.number("SEQ") - first + 2 ** 32) % 2 ** 32) + row.number("LEN");
}
