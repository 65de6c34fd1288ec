// The tcp_inerrs module against segments made by hand, of known kinds and numbers, from one network namespace to another. Owns: that each
// is a row with its reason, state, ends and process, and that nothing else is. The witnesses are the sender's own count, tshark's capture on
// the receiving interface and the kernel's counters in the receiver's namespace.
import assert from "node:assert/strict";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { test } from "./support/attempts.js";
import type { Row, Table } from "./support/csv.js";
import { answers, twoHosts, type Host } from "./support/netns.js";
import { root, scratch } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_tcp_inerrs: "bpf", interval: 0.2 };
const script = join(root, "test/support/bad_segments.py");
const port = "7411";
/** Those the sender uses: the second is closed. */
const ports = [port, "7412"];

/** What the kernel calls it, and the state of the socket; whether a process owns that. */
const expected: Readonly<Record<string, readonly [reason: string, state: string, owned: boolean]>> = {
  checksum: ["TCP_CSUM", "ESTABLISHED", true],
  "behind window": ["TCP_INVALID_SEQUENCE", "ESTABLISHED", true],
  "old sequence": ["TCP_OLD_SEQUENCE", "ESTABLISHED", true],
  "old stamp": ["TCP_RFC7323_PAWS", "ESTABLISHED", true],
  "reset in window": ["TCP_RESET", "ESTABLISHED", true],
  "reset behind window": ["TCP_INVALID_SEQUENCE", "ESTABLISHED", true],
  "unsent acknowledged": ["TCP_ACK_UNSENT_DATA", "ESTABLISHED", true],
  syn: ["TCP_INVALID_SYN", "ESTABLISHED", true],
  "no flags": ["TCP_FLAGS", "ESTABLISHED", true],
  "past options": ["TCP_INVALID_SEQUENCE", "ESTABLISHED", true],
  "not accepted": ["TCP_INVALID_SEQUENCE", "ESTABLISHED", true],
  "to listener": ["TCP_FLAGS", "LISTEN", true],
  "reset to listener": ["TCP_RESET", "LISTEN", true],
  "short checksum": ["TCP_CSUM", "", false],
  "small offset": ["PKT_TOO_SMALL", "", false],
  "large offset": ["NOT_SPECIFIED", "", false],
  "closed port": ["NO_SOCKET", "", false],
};

interface Sent {
  readonly name: string;
  readonly kind: number;
  readonly count: number;
  readonly sport: number;
  readonly dport: number;
}

async function sendTo(t: TestContext, near: Host, from: string, to: string): Promise<Sent[]> {
  const { code, stdout, stderr } = await execute(t, near.inside("python3", script, "send", from, to, port, "veth"));
  assert.equal(code, 0, stderr);
  const sent = stdout.trim().split("\n").map((line) => JSON.parse(line) as Sent);
  const bad = sent.filter((each) => each.count > 0).map((each) => each.name);
  assert.deepEqual(bad.sort(), Object.keys(expected).sort());
  return sent;
}

/** How often each text occurs, in order of the texts. */
function tally(texts: Iterable<readonly [text: string, count: number]>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [text, count] of texts) counts[text] = (counts[text] ?? 0) + count;
  return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Of this test: on the same machine others may run, between hosts of the same addresses. */
function rowsFrom(table: Table, address: string): Row[] {
  const own = (row: Row): boolean => ["SPORT", "DPORT"].some((column) => ports.includes(row.text(column)));
  return table.rows.filter((row) => !row.isEnd && row.text("SADDR") === address && own(row));
}

function told(rows: readonly Row[]): Record<string, number> {
  const columns = ["PID", "COMM", "IP", "SADDR", "SPORT", "DADDR", "DPORT", "REASON", "STATE"];
  return tally(rows.map((row) => [columns.map((column) => row.text(column)).join(), 1] as const));
}

function wanted(sent: readonly Sent[], from: string, to: string, server: number, ownedOnly: boolean): Record<string, number> {
  return tally(
    sent.flatMap(({ name, count, sport, dport }) => {
      const [reason, state, owned] = expected[name] ?? [];
      if (reason === undefined || (ownedOnly && owned !== true)) return [];
      const process = owned === true ? `${server},python3` : "0,";
      const ip = from.includes(":") ? 6 : 4;
      return [[[process, ip, from, sport, to, dport, reason, state].join(), count] as const];
    }),
  );
}

/** The kernel's own counters in a namespace: "Tcp.InErrs", "TcpExt.PAWSEstab"… */
function counters(host: Host): (name: string) => number {
  const lines = host.ask("cat", "/proc/net/snmp", "/proc/net/netstat").trim().split("\n");
  const values = new Map<string, number>();
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [group = "", ...names] = (lines[i] ?? "").split(" ");
    const [, ...numbers] = (lines[i + 1] ?? "").split(" ");
    for (const [index, name] of names.entries()) values.set(`${group.replace(":", ".")}${name}`, Number(numbers[index]));
  }
  return (name) => values.get(name) ?? assert.fail(`no counter ${name}`);
}

function of(sent: readonly Sent[], ...names: string[]): number {
  return sent.filter((each) => names.includes(each.name)).reduce((sum, each) => sum + each.count, 0);
}

test("tcp_inerrs: every kind with its reason, state and owner; nothing else (host)", async (t) => {
  const { near, far } = await twoHosts(t);
  const capture = join(scratch(t), "far.pcap");
  far.ask("sysctl", "-q", "-w", "net.ipv4.ipfrag_time=1");
  const server = new Command(t, far.inside("python3", script, "serve", port, "6"), { deadline: 60 });
  await answers(far, port);
  const tshark = new Command(t, far.inside("tshark", "-q", "-i", "veth", "-f", "ip or ip6", "-w", capture), { deadline: 60 });
  await until("tshark to capture", () => tshark.stderr.includes("Capturing on"));
  const run = new Run(t, { config, options: ["--host"], deadline: 60 });
  await until("the table", () => run.growing("tcp_inerrs.csv"));
  const before = counters(far);

  const sent4 = await sendTo(t, near, near.ipv4, far.ipv4);
  const sent6 = await sendTo(t, near, near.ipv6, far.ipv6);
  const sent = [...sent4, ...sent6];
  assert.equal((await server.finished).code, 0, server.stderr);
  await until("the lone fragment to be given up", () => counters(far)("Ip.ReasmFails") === 1);
  const after = counters(far);
  run.child.kill("SIGINT");
  await run.finished;
  tshark.child.kill("SIGINT");
  await tshark.finished;

  const table = run.table("tcp_inerrs.csv");
  assert.deepEqual(table.header, "Ticks,PID,COMM,IP,SADDR,SPORT,DADDR,DPORT,REASON,STATE".split(","));
  assert.equal(run.record().modules["tcp_inerrs"]?.events_lost, 0);
  assert.deepEqual(told(rowsFrom(table, near.ipv4)), wanted(sent4, near.ipv4, far.ipv4, server.pid, false));
  assert.deepEqual(told(rowsFrom(table, near.ipv6)), wanted(sent6, near.ipv6, far.ipv6, server.pid, false));

  // tshark: as many of each kind came in, with these ports.
  const fields = ["ip.id", "ipv6.flow", "ip.src", "ipv6.src", "tcp.srcport", "tcp.dstport", "tcp.flags.reset"];
  const shown = await execute(t, ["tshark", "-r", capture, "-Y", "tcp", "-T", "fields", ...fields.flatMap((field) => ["-e", field])]);
  assert.equal(shown.code, 0, shown.stderr);
  const packets = shown.stdout.trim().split("\n").map((line) => line.split("\t"));
  for (const { kind, count, sport, dport, name } of sent4.filter((each) => each.count > 0)) {
    for (const [column, source] of [[0, near.ipv4], [1, near.ipv6]] as const) {
      const same = packets.filter((packet) => Number(packet[column]) === kind && packet[2 + column] === source);
      const to = column === 0 ? sport : sent6.find((each) => each.kind === kind)?.sport;
      assert.equal(same.length, count, `${name} from ${source}`);
      assert.ok(same.every((packet) => packet[4] === String(to) && packet[5] === String(dport)), `${name}: ports`);
    }
  }
  // The receiver answered what was addressed to nobody with resets; to their receiver they were, again, for nobody.
  for (const [source, column] of [[far.ipv4, 2], [far.ipv6, 3]] as const) {
    const resets = packets.filter((packet) => packet[column] === source && packet[6] !== "0" && packet[6] !== "False");
    const toNobody = resets.filter((packet) => ["41001", "41006"].includes(packet[5] ?? ""));
    const rows = rowsFrom(table, source).filter((row) => row.text("REASON") === "NO_SOCKET");
    assert.ok(toNobody.length > 0);
    assert.deepEqual(
      tally(rows.map((row) => [row.text("DPORT"), 1])),
      tally(toNobody.map((packet) => [packet[5] ?? "", 1])),
    );
    assert.ok(rows.every((row) => row.pid === 0 && row.text("COMM") === "" && row.text("STATE") === ""));
  }

  // The kernel's own counters.
  const moved = (name: string): number => after(name) - before(name);
  const checksums = of(sent, "checksum", "short checksum");
  assert.equal(moved("Tcp.InCsumErrors"), checksums);
  assert.equal(moved("Tcp.InErrs"), checksums + of(sent, "small offset", "syn"));
  assert.equal(moved("TcpExt.PAWSEstab"), of(sent, "old stamp"));
  assert.equal(moved("TcpExt.TCPSYNChallenge"), of(sent, "syn"));
});

test("tcp_inerrs: in a tree only its own sockets', and one version of IP", async (t) => {
  for (const version of [4, 6, null]) {
    const { near, far } = await twoHosts(t);
    const run = new Run(t, {
      config: { ...config, tcp_inerrs_output_file: "bad.csv", tcp_inerrs_ip: version },
      command: far.inside("python3", script, "serve", port, "6"),
      deadline: 60,
    });
    const [, pid] = await run.says(/^ready (\d+)$/m);
    const sent4 = await sendTo(t, near, near.ipv4, far.ipv4);
    const sent6 = await sendTo(t, near, near.ipv6, far.ipv6);
    await run.quietly();
    const table = run.table("bad.csv");
    assert.deepEqual(told(table.rows.filter((row) => !row.isEnd)), {
      ...(version === 6 ? {} : wanted(sent4, near.ipv4, far.ipv4, Number(pid), true)),
      ...(version === 4 ? {} : wanted(sent6, near.ipv6, far.ipv6, Number(pid), true)),
    });
    assert.equal(table.ends(Number(pid)).length, 1);
    assert.equal(run.record().modules["tcp_inerrs"]?.events_lost, 0);
  }
});

test("tcp_inerrs: connections that run well have no rows, whoever closes first", async (t) => {
  const { near, far } = await twoHosts(t);
  // The server's last megabytes are acknowledged after its end of the connection; so is the client's.
  const serve = `
import socket, sys
server = socket.create_server(("", ${port}))
print("ready", flush=True)
for first in (True, False):
    peer, _ = server.accept()
    if not first:
        while peer.recv(65536): pass
    peer.sendall(bytes(4000000))
    peer.close()
`;
  const client = `
import socket
for first in (True, False):
    peer = socket.create_connection(("${far.ipv4}", ${port}))
    if not first:
        peer.sendall(bytes(4000000))
        peer.shutdown(socket.SHUT_WR)
    total = 0
    while data := peer.recv(65536): total += len(data)
    assert total == 4000000
    peer.close()
`;
  const before = [near, far].map((host) => counters(host));
  const run = new Run(t, { config, options: ["--host"], deadline: 60 });
  await until("the table", () => run.growing("tcp_inerrs.csv"));
  const server = new Command(t, far.inside("python3", "-c", serve), { deadline: 60 });
  await server.says(/^ready$/m);
  const { code, stderr } = await execute(t, near.inside("python3", "-c", client));
  assert.equal(code, 0, stderr);
  assert.equal((await server.finished).code, 0, server.stderr);
  const after = [near, far].map((host) => counters(host));
  run.child.kill("SIGINT");
  await run.finished;
  const since = (counter: string): number => after.reduce((sum, count, index) => sum + count(counter) - (before[index]?.(counter) ?? 0), 0);
  assert.ok(since("Tcp.InSegs") > 200);
  const rows = [near.ipv4, far.ipv4].flatMap((address) => rowsFrom(run.table("tcp_inerrs.csv"), address));
  // What TCP sends again for nothing, in a hurry, is refused by the other side; mostly there is none.
  assert.ok(rows.length <= since("Tcp.RetransSegs"), `${JSON.stringify(told(rows))}, ${since("Tcp.RetransSegs")} sent again`);
  assert.equal(run.record().modules["tcp_inerrs"]?.events_lost, 0);
});

test("tcp_inerrs: of a connection that is over: whose it was", async (t) => {
  const { near, far } = await twoHosts(t);
  far.ask("sysctl", "-q", "-w", "net.ipv4.tcp_rfc1337=1"); // or the sender's reset would end what is kept of it
  // The last of the three is never connected: so the process is still there.
  const run = new Run(t, { config, command: far.inside("python3", script, "serve", port, "3"), deadline: 60 });
  const [, pid] = await run.says(/^ready (\d+)$/m);
  const expected: Record<string, number> = {};
  for (const [from, to] of [[near.ipv4, far.ipv4], [near.ipv6, far.ipv6]] as const) {
    const { code, stdout, stderr } = await execute(t, near.inside("python3", script, "late", from, to, port, "veth"));
    assert.equal(code, 0, stderr);
    const { sport, count } = JSON.parse(stdout) as Sent;
    expected[[pid, "python3", from.includes(":") ? 6 : 4, from, sport, to, port, "TCP_RFC7323_TW_PAWS", "TIME_WAIT"].join()] = count;
  }
  await until("the rows", () => run.table("tcp_inerrs.csv").rows.length >= 6);
  run.child.kill("SIGTERM");
  await run.finished;
  assert.deepEqual(told(run.table("tcp_inerrs.csv").rows.filter((row) => !row.isEnd)), expected);
});
