// The delay_out module against a program's own clock, tshark on the sender's interface, the queueing disciplines' and TCP's own counters. Owns:
// that every sent packet is one row or told as missing, and that each wait is in the column of its layer. Does not own: what is received
// (delay_in.test.ts).
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { test } from "./support/attempts.js";
import { Capture, type Packet } from "./support/capture.js";
import type { Row } from "./support/csv.js";
import { compare, eager, fetchPage, momentOf, packetRows, reading, send, servePage, talk, told, warnings, watching, type Talk } from "./support/delays.js";
import { behindNat, bridged, Host, shape, twoHosts } from "./support/netns.js";
import { execute, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_delay_out: "bpf", interval: 0.2 };
const both = { ...config, snoop_delay_in: "bpf" };
const dropped = /dropped/;

/** What the run says of the packets without a row. */
const lostBy = (run: Run): unknown[] => [run.record().modules.delay_out?.events_lost, ...warnings(run)];

const started = (t: TestContext, more: object = {}): Promise<Run> => watching(t, { ...config, ...more }, "delay_out.csv");

async function ended(run: Run): Promise<Row[]> {
  run.child.kill("SIGINT");
  assert.equal((await run.finished).stderr, "");
  return packetRows(run.table("delay_out.csv"));
}

const from = (host: Host, rows: readonly Row[]): Row[] => rows.filter((row) => [host.ipv4, host.ipv6].includes(row.text("SADDR")));
const sentBy = (host: Host, packets: readonly Packet[]): Packet[] => packets.filter(({ saddr }) => [host.ipv4, host.ipv6].includes(saddr));
const sum = (column: string, rows: readonly Row[]): number => rows.reduce((all, row) => all + row.number(column), 0);
const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? assert.fail("no numbers");

test("delay_out: TCP is the time since the write, also where the window is closed", async (t) => {
  for (const address of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) {
    const run = new Run(t, { config, command: [...eager(), ...talk(address, "room=4000", "write=1000x60", "wait=250", "read=60000")] });
    const said = JSON.parse((await run.quietly()).stdout) as Talk;
    assert.equal(run.record().modules.delay_out?.events_lost, 0);
    assert.deepEqual(warnings(run), []);
    const rows = packetRows(run.table("delay_out.csv")).filter((row) => row.number("SPORT") === said.writer && row.number("LEN") > 0);
    const first = rows[0]?.number("SEQ") ?? assert.fail("no rows");
    let late = 0;
    for (const row of rows) {
      const place = (row.number("SEQ") - first + 2 ** 32) % 2 ** 32;
      const [, before, after] = momentOf(said.writes, place + 1);
      const written = row.ticks * 1e9 - said.unix - row.number("TOTAL") * 1000;
      assert.ok(written >= before - 50_000 && written <= after + 50_000, row.toString());
      if (row.number("TCP") > 250_000) late++;
      assert.equal(row.text("DADDR"), address.replace("::ffff:", ""));
      assert.equal(row.text("NATADDR") + row.text("NATPORT"), "");
    }
    assert.equal(sum("LEN", rows.filter((row) => row.number("RETRANS") === 0)), 60_000);
    assert.ok(late > 3, `${late} waited for the window`);
  }
});

/** What a token bucket makes of the packets, µs: they come when the rows say; each has a link header. */
function bucket(rows: readonly Row[], bytesPerSecond: number, burst: number): number[] {
  let [tokens, then] = [burst, 0];
  return rows.map((row) => {
    const came = row.ticks - row.number("QDISC") / 1e6;
    const size = row.number("LEN") + (row.text("SADDR").includes(":") ? 40 : 20) + 32 + 14;
    const start = Math.max(came, then);
    tokens = Math.min(burst, tokens + (then === 0 ? 0 : (start - then) * bytesPerSecond));
    const wait = Math.max(0, (size - tokens) / bytesPerSecond);
    tokens += wait * bytesPerSecond - size;
    then = start + wait;
    return (then - came) * 1e6;
  });
}

test("delay_out: a token bucket's wait is in QDISC, as computed, and nowhere else; also under a bridge", async (t) => {
  const { near, far } = await twoHosts(t);
  near.ask("ethtool", "-K", "veth", "tso", "off", "gso", "off");
  shape(near, "800kbit", 1600);
  for (const device of ["veth", "br0"]) {
    if (device === "br0") {
      const mac = near.ask("cat", "/sys/class/net/veth/address").trim();
      for (const args of [`add br0 address ${mac} type bridge`, "set veth master br0", "set br0 up"]) near.ask("ip", "link", ...args.split(" "));
      near.ask("ip", "address", "del", `${near.ipv4}/24`, "dev", "veth");
      near.ask("ip", "address", "add", `${near.ipv4}/24`, "dev", "br0");
      await until("the bridge", () => near.ask("bash", "-c", `ping -c 1 -W 1 ${far.ipv4} || true`).includes(" 0% packet loss"));
    }
    const receiving = await reading(t, far);
    const run = await started(t, { ...both, delay_in_dport: 7700, delay_out_dport: 7700 });
    const capture = await Capture.start(t, near, far);
    await send(t, near, far.ipv4, `for i in range(20):
    for k in range(2): peer.sendall(bytes(1400))
    time.sleep(0.05)`);
    await receiving.finished;
    const packets = sentBy(near, await capture.packets());
    const all = await ended(run);
    const rows = from(near, all);
    assert.deepEqual({ ...compare(rows, packets), lost: lostBy(run) }, { missing: [], extra: [], lost: [0] });
    const full = rows.filter((row) => row.number("LEN") === 1400);
    const computed = bucket(full, 100_000, 1600);
    const waited = full.filter((_, index) => (computed[index] ?? 0) > 10_000);
    assert.ok(waited.length >= 15, `${waited.length} waited`);
    const off = full.map((row, index) => row.number("QDISC") - (computed[index] ?? 0));
    assert.ok(Math.min(...off) > -1000, `${Math.min(...off)} µs less than computed`);
    assert.ok(Math.abs(median(off)) < 1000, `${median(off)} µs off`);
    assert.ok(median(waited.map((row) => row.number("IP") + row.number("TCP"))) < 2000);
    const arrived = packetRows(run.table("delay_in.csv")).filter((row) => row.text("DADDR") === far.ipv4 && row.number("LEN") === 1400);
    assert.equal(arrived.length, 40);
    assert.ok(median(arrived.map((row) => row.number("TOTAL"))) < 2000);
  }
});

test("delay_out: sent again: as many as TCP itself counts, whoever cuts the packets", async (t) => {
  const { near, far, bridge } = await bridged(t);
  // Packets are then passed on with their sender's socket.
  bridge.ask("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0");
  for (const [tso, gso, one] of [["off", "off", 50], ["on", "on", 8], ["off", "on", 50]] as const) {
    bridge.ask("nft", `flush ruleset; table bridge loss {\nchain forward {\ntype filter hook forward priority 0\nip protocol tcp numgen inc mod ${one} == 5 counter drop\n}\n}`);
    near.ask("ethtool", "-K", "veth", "tso", tso, "gso", gso);
    const receiving = await reading(t, far);
    const run = await started(t, { delay_out_dport: 7700 });
    const capture = await Capture.start(t, near, far);
    near.ask("nstat", "-n");
    const own = await send(t, near, far.ipv4, "peer.sendall(bytes(3000000))");
    await receiving.finished;
    const counted = Number(/TcpRetransSegs\s+(\d+)/.exec(near.ask("nstat", "-z", "TcpRetransSegs"))?.[1]);
    const packets = sentBy(near, await capture.packets());
    const rows = from(near, await ended(run));
    assert.deepEqual({ ...compare(rows, packets), lost: lostBy(run) }, { missing: [], extra: [], lost: [0] }, `tso ${tso} gso ${gso}`);
    const again = rows.filter((row) => row.number("RETRANS") === 1);
    assert.ok(own.bytes > 10_000, `tso ${tso} gso ${gso}: ${own.bytes} bytes sent again`);
    assert.deepEqual([sum("LEN", again), sum("SEGS", again), sum("SEGS", again)], [own.bytes, own.segments, counted], `tso ${tso} gso ${gso}`);
    if (tso === "on") assert.ok(rows.some((row) => row.number("SEGS") > 1));
  }
});

test("delay_out: cut in software, and dropped by a full queue: rows, and what the run tells, are all that was sent", async (t) => {
  const { near, far } = await twoHosts(t);
  near.ask("ethtool", "-K", "veth", "tso", "off", "gso", "on");
  shape(near, "40mbit", 1600, 20_000); // a packet of more than one segment is cut before it waits
  const queue = (): { packets: number; drops: number } => {
    const [own] = JSON.parse(near.ask("tc", "-j", "-s", "qdisc", "show", "dev", "veth", "root")) as { packets: number; drops: number }[];
    return own ?? assert.fail("no queue");
  };
  const receiving = await reading(t, far);
  const run = await started(t, { delay_out_dport: 7700 });
  const capture = await Capture.start(t, near, far);
  const before = queue();
  await send(t, near, far.ipv4, "peer.sendall(bytes(600000))");
  await receiving.finished;
  const drops = queue().drops - before.drops;
  const packets = sentBy(near, await capture.packets());
  const rows = from(near, await ended(run));
  const { missing, extra } = compare(rows, packets);
  const say = `${packets.length} packets, ${rows.length} rows, ${drops} dropped, ${JSON.stringify(lostBy(run))}`;
  t.diagnostic(say);
  assert.deepEqual(extra, []);
  assert.ok(drops > 20, `${drops} drops`);
  assert.equal(told(run, "delay_out", dropped), missing.length + drops, say);
  assert.ok(missing.length < packets.length / 20, say);
});

test("delay_out: what a filter drops before the queue is told", async (t) => {
  const { near, far } = await twoHosts(t);
  near.ask("nft", "table inet loss {\nchain out {\ntype filter hook postrouting priority 0\ntcp dport 7700 numgen inc mod 5 == 4 counter drop\n}\n}");
  const receiving = await reading(t, far);
  const run = await started(t, { delay_out_dport: 7700 });
  const capture = await Capture.start(t, near, far);
  await send(t, near, far.ipv4, "for i in range(40): peer.sendall(bytes(100)); time.sleep(0.002)");
  await receiving.finished;
  const packets = sentBy(near, await capture.packets());
  const rows = from(near, await ended(run));
  assert.deepEqual(compare(rows, packets), { missing: [], extra: [] });
  const drops = Number(/counter packets (\d+)/.exec(near.ask("nft", "list", "ruleset"))?.[1]);
  assert.ok(drops > 5);
  assert.equal(told(run, "delay_out", dropped), drops);
  assert.equal(run.record().modules.delay_out?.events_lost, 0);
});

test("delay_out: translated addresses: by the sender itself, and by a router", async (t) => {
  for (const by of ["near", "router"] as const) {
    const { near, far, seenAs } = await behindNat(t, by);
    for (const family of ["ipv4", "ipv6"] as const) {
      const receiving = await reading(t, far);
      const run = await started(t, both);
      await send(t, near, far[family], "peer.sendall(bytes(3000))");
      const [, text = ""] = /^(\[.*\])$/m.exec((await receiving.finished).stdout) ?? [];
      const [address, port] = JSON.parse(text) as [string, number];
      assert.equal(address, seenAs[family]);
      const all = await ended(run);
      const rows = all.filter((row) => row.text("SADDR") === near[family] && row.text("DADDR") === far[family]);
      assert.ok(rows.length >= 4, `${by} ${family}\n${all.join("\n")}`);
      const shown = by === "near" ? `${address} ${port}` : " ";
      for (const row of rows) assert.equal(`${row.text("NATADDR")} ${row.text("NATPORT")}`, shown, row.toString());
      const arrived = packetRows(run.table("delay_in.csv"));
      assert.equal(sum("LEN", arrived.filter((row) => row.text("DADDR") === far[family] && row.text("SADDR") === address && row.number("SPORT") === port)), 3000);
      // What comes back has its own address again when TCP has it.
      assert.ok(arrived.some((row) => row.text("DADDR") === near[family] && row.text("SADDR") === far[family]));
      for (const row of all.filter((each) => each.text("SADDR") === far[family])) assert.equal(row.text("NATADDR"), "");
    }
  }
});

test("delay_out: with all others on: the packets tshark saw, each once, and whose; and the others are right", async (t) => {
  const { near, far } = await twoHosts(t);
  const { nginx, port } = await servePage(t, far);
  const others = { snoop_network: "bpf", snoop_tcp_connection: "bpf", tcp_connection_ports: [port], snoop_nic: "bpf", nic_name: "lo", snoop_tcp_inerrs: "bpf" };
  const run = await started(t, { ...both, ...others });
  const capture = await Capture.start(t, near, far);
  const pids = await fetchPage(t, near, far, port);
  for (const address of [far.ipv4, far.ipv6]) assert.notEqual((await execute(t, near.inside("bash", "-c", `echo > /dev/tcp/${address}/7999`))).code, 0);
  const packets = await capture.packets();
  const ours = (rows: readonly Row[]): Row[] => rows.filter((row) => [port, 7999].some((each) => [row.number("SPORT"), row.number("DPORT")].includes(each)));
  const all = ours(await ended(run));
  for (const host of [near, far]) assert.deepEqual(compare(from(host, all), sentBy(host, packets)), { missing: [], extra: [] });
  for (const row of from(far, all)) if (row.number("LEN") > 0) assert.deepEqual([row.text("COMM"), row.pid], ["nginx", nginx.pid]);
  for (const row of from(near, all)) {
    const pid = pids.get(row.text("SPORT"));
    if (pid !== undefined && row.number("LEN") > 0) assert.deepEqual([row.text("COMM"), row.pid], ["curl", pid]);
  }
  const record = run.record();
  for (const [name, module] of Object.entries(record.modules)) assert.equal(module.events_lost ?? 0, 0, `${name} ${warnings(run).join(" ")}`);
  const local = (name: string): Row[] => run.table(name).rows.filter((row) => !row.isEnd && [near.ipv4, near.ipv6, far.ipv4, far.ipv6].includes(row.text("SADDR")));
  assert.deepEqual(local("tcp_connection.csv").map((row) => row.text("DIRECTION")).sort(), ["accept", "accept", "connect", "connect"]);
  assert.equal(local("tcp_inerrs.csv").filter((row) => row.text("DPORT") === "7999" && row.text("REASON") === "NO_SOCKET").length, 2);
  const kilobytes = run.table("network.csv").rows.filter((row) => row.pid === nginx.pid);
  assert.ok(sum("TX_KB", kilobytes) > 585, "both pages");
  const arrived = ours(packetRows(run.table("delay_in.csv"))).filter((row) => [near.ipv4, near.ipv6].includes(row.text("DADDR")));
  assert.equal(sum("LEN", arrived), sentBy(far, packets).reduce((bytes, { length }) => bytes + length, 0));
});

/** Runs a script in the tree; gives the run, what the script said and the module's rows. */
async function scripted(t: TestContext, lines: string, inside = eager(), more: object = {}): Promise<{ run: Run; said: unknown; rows: Row[] }> {
  const run = new Run(t, { config: { ...config, ...more }, command: [...inside, "/usr/bin/python3", "-c", `import ctypes, json, os, resource, socket, struct, subprocess, time\n${lines}`] });
  const { stdout } = await run.quietly();
  return { run, said: stdout === "" ? undefined : JSON.parse(stdout), rows: packetRows(run.table("delay_out.csv")) };
}

test("delay_out: what waits is not forgotten for sixteen thousand packets of others", async (t) => {
  const { run, rows } = await scripted(
    t,
    `def shape(rate, burst): subprocess.run(["tc", "qdisc", "replace", "dev", "lo", "root", "tbf", "rate", rate, "burst", burst, "limit", "100000000"], check=True)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
listener = socket.create_server(("127.0.0.1", 7700))
pairs = [(socket.create_connection(("127.0.0.1", 7700)), listener.accept()[0]) for i in range(5)]
for peer, _ in pairs: peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
shape("8kbit", "1600")
for i in range(20):
    for peer, _ in pairs: peer.send(bytes(100))
def connect():
    other = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK); other.connect_ex(("127.0.0.1", 7800))
    return other
for i in range(0, 16000, limit - 50):
    if os.fork() == 0: others = [connect() for i in range(min(16000, limit - 50))]; os._exit(0)
    os.wait()
shape("10gbit", "1000000")
for _, reader in pairs: reader.recv(2000, socket.MSG_WAITALL)`,
    eager(),
    { delay_out_dport: 7700 },
  );
  const waited = rows.filter((row) => row.number("QDISC") > 100_000);
  assert.deepEqual({ bytes: sum("LEN", rows.filter((row) => row.number("RETRANS") === 0)), lost: lostBy(run) }, { bytes: 10_000, lost: [0] }, rows.join("\n"));
  assert.ok(waited.length > 5, `${waited.length} waited`);
});

test("delay_out: the reset of an aborted connection; one socket connected twice", async (t) => {
  const { run, said, rows } = await scripted(
    t,
    `listeners = [socket.create_server(("127.0.0.1", port)) for port in (7701, 7702)]
peer = socket.create_connection(("127.0.0.1", 7701)); aborted = peer.getsockname()[1]
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); peer.close()
again = socket.socket(); ports = []
for listener in listeners:
    again.connect(listener.getsockname()); ports.append(again.getsockname()[1])
    if listener is listeners[0]: again.send(b"x" * 100); time.sleep(0.3)
    else: again.send(b"x" * 100)
    time.sleep(0.05)
    ctypes.CDLL(None).connect(again.fileno(), bytes(16), 16)
print(json.dumps([aborted, ports]))`,
  );
  const [aborted, ports] = said as [number, number[]];
  assert.deepEqual(lostBy(run), [0]);
  const resets = rows.filter((row) => row.number("DPORT") === 7701 && row.number("SPORT") === aborted).map((row) => row.text("NATADDR") + row.text("NATPORT"));
  assert.deepEqual(resets, ["", "", ""], "SYN, ACK and the reset");
  for (const row of rows) assert.equal(row.text("NATADDR"), "", row.toString());
  const data = rows.filter((row) => row.number("LEN") === 100);
  assert.deepEqual(data.map((row) => row.number("SPORT")), ports);
  for (const row of data) assert.ok(row.number("TCP") < 100_000 && row.number("RETRANS") === 0, row.toString());
});

test("delay_out: through a tunnel: a row for each packet, with what it bears inside", async (t) => {
  const { near, far } = await twoHosts(t);
  const [one, two] = [new Host(near.namespace, 1, 9), new Host(far.namespace, 2, 9)] as const;
  for (const [host, other, end] of [[near, far, one], [far, near, two]] as const) {
    host.ask("ip", "link", "add", "tunnel", "type", "vxlan", "id", "7", "local", host.ipv4, "remote", other.ipv4, "dstport", "4789");
    host.ask("ip", "address", "add", `${end.ipv4}/24`, "dev", "tunnel");
    host.ask("ip", "link", "set", "tunnel", "up");
  }
  const capture = await Capture.on(t, near, "tunnel", one, two);
  const command = (host: Host, lines: string): string => `ip netns exec ${host.namespace} /usr/bin/python3 -c '${lines}'`;
  const server = `import socket
peer = socket.create_server(("", 7700)).accept()[0]
for size in (100, 1400, 100000): peer.recv(size, socket.MSG_WAITALL); peer.sendall(bytes(1000))`;
  const client = `import socket, time
for i in range(100):
    try: peer = socket.create_connection(("${two.ipv4}", 7700)); break
    except ConnectionRefusedError: time.sleep(0.05)
for size in (100, 1400, 100000): peer.sendall(bytes(size)); peer.recv(1000, socket.MSG_WAITALL)`;
  const run = new Run(t, { config: both, command: ["sh", "-c", `${command(far, server)} & ${command(near, client)}; wait`] });
  await run.quietly();
  const packets = (await capture.packets()).filter(({ sport, dport }) => [sport, dport].includes("7700"));
  const rows = packetRows(run.table("delay_out.csv"));
  t.diagnostic(`${packets.length} packets, ${rows.length} rows`);
  const { missing, extra } = compare(rows, packets);
  // Answers to a SYN are nobody's, and the last ones are sent when their process has ended.
  assert.deepEqual({ extra, lost: lostBy(run), missing: missing.filter(({ length }) => length > 0) }, { extra: [], lost: [0], missing: [] });
});
