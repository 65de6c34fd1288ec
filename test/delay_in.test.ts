// The delay_in module against a program's own clock, and against tshark on the receiving interface. Owns: that every received packet is one
// row or told as missing, with the moment its last byte was read. Does not own: what is sent (delay_out.test.ts).
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { test } from "./support/attempts.js";
import { Capture, type Packet } from "./support/capture.js";
import type { Row } from "./support/csv.js";
import { accounted, compare, connectionOf, connectionOfPacket, eager, endOf, fetchPage, forNobody, momentOf, packetRows, reading, send, servePage, talk, told, warnings, watching, type Talk } from "./support/delays.js";
import { answers, bridged, Host, twoHosts } from "./support/netns.js";
import { scratch } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";

const config = { snoop_delay_in: "bpf", interval: 0.2 };

/** Unread by the end, or refused by TCP. */
const unread = /were not read/;

/** Runs tcp_talk.py in the tree; gives its figures and the rows of what it wrote, in order of the stream. */
async function talked(t: TestContext, command: readonly string[], address: string, ...steps: string[]): Promise<{ said: Talk; rows: Row[] }> {
  const run = new Run(t, { config, command: [...command, ...talk(address, ...steps)] });
  const { stdout } = await run.quietly();
  assert.equal(run.record().modules.delay_in?.events_lost, 0);
  assert.deepEqual(warnings(run), []);
  const said = JSON.parse(stdout) as Talk;
  const all = packetRows(run.table("delay_in.csv"));
  const rows = all.filter((row) => row.number("SPORT") === said.writer && row.number("LEN") > 0);
  const plain = address.replace("::ffff:", "");
  for (const row of rows) {
    assert.deepEqual([row.text("SADDR"), row.text("DADDR"), row.number("DPORT")], [plain, plain, said.reader], row.toString());
    assert.equal(row.text("COMM"), "python3");
  }
  assert.equal(rows.reduce((sum, row) => sum + row.number("LEN"), 0), said.writes.at(-1)?.[0]);
  return { said, rows };
}

/** Each row has the moment of the read that came to its end, and began with the write of its last byte or later. */
function momentsAgree(said: Talk, rows: readonly Row[]): void {
  const first = rows[0]?.number("SEQ") ?? assert.fail("no rows");
  for (const row of rows) {
    const read = momentOf(said.reads, endOf(row, first));
    const at = row.ticks * 1e9 - said.unix;
    // A Unix time has microseconds; which is how far two ways to reckon it may be apart, too.
    assert.ok(at >= read[1] - 50_000 && at <= read[2] + 50_000, `${row.toString()}: read ${(read[1] - at).toString()} ns off`);
    const written = momentOf(said.writes, endOf(row, first));
    assert.ok(row.number("TOTAL") * 1000 <= read[2] - written[1], row.toString());
  }
}

test("delay_in: TCP is how long the reader let it wait", async (t) => {
  for (const address of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) {
    const { said, rows } = await talked(t, [], address, "write=100", "wait=250", "read=1000", "write=5000", "wait=40", "read=1000", "wait=120", "read=9000");
    momentsAgree(said, rows);
    assert.equal(rows.length, 2);
    for (const [index, wait] of [250, 160].entries()) {
      const [row, write] = [rows[index], said.writes[index]];
      assert.ok(row !== undefined && write !== undefined);
      const read = momentOf(said.reads, write[0]);
      // On loopback it is handed over before the write is done.
      assert.ok(row.number("TOTAL") * 1000 >= read[1] - write[2], row.toString());
      assert.ok(row.number("TCP") >= wait * 1000 && row.number("TCP") > row.number("TOTAL") - 20_000, row.toString());
      assert.ok((read[1] - write[2]) / 1000 - row.number("TCP") < 1000 + row.number("MAC") + row.number("IP"), row.toString());
    }
  }
});

test("delay_in: small writes put together in the queue, read in odd pieces by every call", async (t) => {
  const pieces = ["peek=300", "read=7", "trunc=100", "peek=64", "splice=333", "readv=50", "waitall=999", "read=1", "trunc=13", "splice=700", "read=3"];
  for (const address of ["127.0.0.1", "::1"]) {
    const { said, rows } = await talked(t, eager(), address, "write=10x300", "wait=20", ...pieces, "write=1x200", "write=3000x3", "waitall=2500", ...pieces, "write=777x40", ...pieces, "splice=9000");
    momentsAgree(said, rows);
    assert.ok(rows.length > 400, `${rows.length} packets`);
    const moments = new Set(rows.map((row) => row.ticks));
    assert.ok(moments.size > 15, `${moments.size} moments`);
  }
});

/** The rows about what arrived at a host. */
const at = (host: Host, rows: readonly Row[]): Row[] => rows.filter((row) => [host.ipv4, host.ipv6].includes(row.text("DADDR")));
const to = (host: Host, packets: readonly Packet[]): Packet[] => packets.filter(({ daddr }) => [host.ipv4, host.ipv6].includes(daddr));

const started = (t: TestContext, more: object = {}): Promise<Run> => watching(t, { ...config, ...more }, "delay_in.csv");

async function ended(run: Run): Promise<Row[]> {
  run.child.kill("SIGINT");
  assert.equal((await run.finished).stderr, "");
  return packetRows(run.table("delay_in.csv"));
}

/** The rows of both hosts are the packets that tshark saw arrive, each once. */
function allThere(run: Run, rows: readonly Row[], packets: readonly Packet[], hosts: readonly Host[]): void {
  assert.equal(run.record().modules.delay_in?.events_lost, 0, warnings(run).join());
  for (const host of hosts) {
    const { missing, extra } = compare(at(host, rows), to(host, packets));
    assert.deepEqual(extra, []);
    assert.ok(missing.every((packet) => forNobody(packets, packet)), JSON.stringify(missing));
  }
}

test("delay_in: --host: curl, nginx and redis: the packets tshark saw, each once, and whose", async (t) => {
  const { near, far } = await twoHosts(t);
  const { nginx, port } = await servePage(t, far);
  const redis = new Command(t, far.inside("redis-server", "--port", "16380", "--bind", "0.0.0.0", "::", "--save", "", "--protected-mode", "no", "--dir", scratch(t)));
  await answers(far, "16380");
  const run = await started(t);
  const capture = await Capture.start(t, far, near);
  const pids = await fetchPage(t, near, far, port);
  for (const address of [far.ipv4, far.ipv6]) assert.equal(near.ask("redis-cli", "-h", address, "-p", "16380", "set", "key", "y".repeat(20_000)), "OK\n");
  const packets = await capture.packets();
  const rows = (await ended(run)).filter((row) => [port, 16380].some((each) => [row.number("SPORT"), row.number("DPORT")].includes(each)));
  allThere(run, rows, packets, [near, far]);
  assert.ok(packets.length > 60 && packets.some(({ length }) => length > 20_000), "super-packets");
  for (const row of at(far, rows)) {
    const [name, pid] = row.number("DPORT") === port ? ["nginx", nginx.pid] : ["redis-server", redis.pid];
    assert.deepEqual([row.text("COMM"), row.pid], [name, pid], row.toString());
  }
  for (const row of at(near, rows)) {
    const pid = pids.get(row.text("DPORT"));
    if (pid !== undefined && row.pid !== 0) assert.deepEqual([row.text("COMM"), row.pid], ["curl", pid]);
    // Sent again for nothing, it may find nobody who reads it.
    if (row.number("LEN") > 0 && row.number("RETRANS") === 0) assert.ok(row.pid !== 0 && !row.isEmpty("TCP"), row.toString());
  }
});

/** RETRANS by definition: it begins before the end of what has come. */
function overtaken(packets: readonly Packet[]): Map<Packet, boolean> {
  const high = new Map<string, number>();
  const before = (a: number, b: number): boolean => ((a - b) | 0) < 0;
  return new Map(
    packets.map((packet) => {
      const { saddr, sport, daddr, dport, seq, length, syn, fin } = packet;
      const flow = [saddr, sport, daddr, dport].join();
      const end = (seq + length + (syn ? 1 : 0) + (fin ? 1 : 0)) % 2 ** 32;
      const known = high.get(flow);
      if (end !== seq && (known === undefined || before(known, end))) high.set(flow, end);
      return [packet, known !== undefined && end !== seq && before(seq, known)];
    }),
  );
}

test("delay_in: a path that loses one in fifty: sent again or overtaken, and waiting for the hole", async (t) => {
  const { near, far, bridge } = await bridged(t);
  bridge.ask("nft", "table bridge loss {\nchain forward {\ntype filter hook forward priority 0\nip protocol tcp numgen inc mod 50 == 0 counter drop\n}\n}");
  near.ask("ethtool", "-K", "veth", "tso", "off", "gso", "off");
  const receiving = await reading(t, far);
  const run = await started(t, { delay_in_dport: 7700 });
  const capture = await Capture.start(t, far, near);
  await send(t, near, far.ipv4, "peer.sendall(bytes(4000000))");
  await receiving.finished;
  const all = await capture.packets();
  const packets = to(far, all);
  const rows = at(far, await ended(run));
  const { missing, extra } = compare(rows, packets);
  assert.deepEqual(extra, []);
  accounted(run, "delay_in", unread, all, missing);
  const again = [...overtaken(packets)].filter(([packet, is]) => is && !missing.includes(packet)).map(([packet]) => packet);
  const marked = rows.filter((row) => row.number("RETRANS") === 1);
  assert.ok(marked.length > 20, `${marked.length} marked`);
  assert.deepEqual(compare(marked, again), { missing: [], extra: [] });
  // Nothing is read before all that lies before it has come.
  const complete = new Map<string, { came: number; when: number }>();
  for (const flow of new Set(packets.map(connectionOfPacket))) {
    const own = packets.filter((packet) => connectionOfPacket(packet) === flow && packet.length > 0);
    const first = Math.min(...packets.filter((packet) => connectionOfPacket(packet) === flow && packet.syn).map(({ seq }) => seq + 1));
    const place = ({ seq }: { seq: number }): number => (seq - first + 2 ** 32) % 2 ** 32;
    let [end, when] = [0, 0];
    for (const packet of [...own].sort((a, b) => place(a) - place(b) || a.time - b.time)) {
      if (place(packet) > end) assert.fail("a hole that was never filled");
      if (place(packet) + packet.length > end) when = Math.max(when, packet.time);
      end = Math.max(end, place(packet) + packet.length);
      complete.set(`${flow} ${packet.seq} ${packet.length}`, { came: packet.time, when });
    }
  }
  let held = 0;
  for (const row of rows.filter((each) => !each.isEmpty("TCP"))) {
    const { came, when } = complete.get(`${connectionOf(row)} ${row.text("SEQ")} ${row.text("LEN")}`) ?? assert.fail(row.toString());
    assert.ok(row.ticks >= when - 0.0001, row.toString());
    if (row.number("RETRANS") === 1 || when <= came) continue;
    held++;
    assert.ok(row.number("TOTAL") / 1e6 >= when - came - 0.0001, row.toString());
  }
  assert.ok(held > 20, `${held} waited for a hole`);
});

test("delay_in: a sample is whole connections, the same at both ends and in both directions", async (t) => {
  const { near, far } = await twoHosts(t);
  const script = `import socket, sys
listener = socket.create_server(("", 7500), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    while data := peer.recv(100): peer.sendall(data)
    peer.close()`;
  const server = new Command(t, far.inside("/usr/bin/python3", "-uc", script));
  await server.says(/^ready$/m);
  const run = await started(t, { delay_in_sample: 4, snoop_delay_out: "bpf", delay_out_sample: 4 });
  const capture = await Capture.start(t, far, near);
  const client = `import socket
for i in range(64):
    with socket.create_connection(("${far.ipv6}" if i % 2 else "${far.ipv4}", 7500)) as peer:
        for size in (3, 300): peer.sendall(bytes(size)); peer.recv(size, socket.MSG_WAITALL)`;
  const { code, stderr } = await execute(t, near.inside("/usr/bin/python3", "-c", client));
  assert.equal(code, 0, stderr);
  const all = (await capture.packets()).filter(({ sport, dport }) => [sport, dport].includes("7500"));
  const received = (await ended(run)).filter((row) => [row.number("SPORT"), row.number("DPORT")].includes(7500));
  const sent = packetRows(run.table("delay_out.csv")).filter((row) => [row.number("SPORT"), row.number("DPORT")].includes(7500));
  const chosen = new Set(received.map(connectionOf));
  assert.ok(chosen.size > 0 && chosen.size < 64, `${chosen.size} of 64`);
  const packets = all.filter((packet) => chosen.has(connectionOfPacket(packet)));
  allThere(run, received, packets, [near, far]);
  assert.deepEqual(compare(sent, packets), { missing: [], extra: [] });
  assert.equal(run.record().modules.delay_out?.events_lost, 0);
});

test("delay_in: only the ports that were asked for, and in a tree only its own", async (t) => {
  const { near, far } = await twoHosts(t);
  const script = `import socket
listeners = [socket.create_server(("", port)) for port in (7501, 7502)]
print("ready", flush=True)
for listener in listeners:
    peer, (_, port) = listener.accept()
    peer.sendall(peer.recv(9)); print(port, flush=True)`;
  const outside = `import socket
listener = socket.create_server(("", 7511))
print("ready", flush=True)
while True:
    with listener.accept()[0] as peer: peer.sendall(peer.recv(9))`;
  await new Command(t, far.inside("/usr/bin/python3", "-uc", outside)).says(/^ready$/m);
  for (const [options, wanted] of [
    [{}, ["7501", "7502"]],
    [{ delay_in_dport: 7502 }, ["7502"]],
    [{ delay_in_sport: 41000 }, ["7501"]], // who connects to that one has this port
    [{ delay_in_sport: 7501 }, []],
  ] as const) {
    const run = new Run(t, { config: { ...config, ...options }, command: far.inside("/usr/bin/python3", "-uc", script) });
    await run.says(/^ready$/m);
    const client = `import socket
for port in 7501, 7502, 7511:
    peer = socket.socket(); peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port == 7501: peer.bind(("", 41000))
    peer.connect(("${far.ipv4}", port)); peer.sendall(b"x" * 9); peer.recv(9)`;
    const { code, stderr } = await execute(t, near.inside("/usr/bin/python3", "-c", client));
    assert.equal(code, 0, stderr);
    await run.quietly();
    const rows = packetRows(run.table("delay_in.csv"));
    const ports = new Set(rows.map((row) => row.text("DPORT")));
    assert.deepEqual([...ports].sort(), wanted);
    for (const port of ports) assert.deepEqual(rows.filter((row) => row.text("DPORT") === port && row.number("LEN") > 0).map((row) => row.number("LEN")), [9]);
    for (const row of rows) assert.equal(row.text("COMM"), "python3");
  }
});

test("delay_in: a bridge in between, and GRO: rows have as many segments as were sent", async (t) => {
  const { near, far, bridge } = await bridged(t);
  for (const host of [near, far]) host.ask("ethtool", "-K", "veth", "tso", "off", "gso", "off", "gro", "on");
  // Or the far end would think that it gets what need not be put together.
  bridge.ask("ethtool", "-K", "far", "tso", "off", "gso", "off");
  const server = `import socket
listener = socket.create_server(("", 7600), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
peer, _ = listener.accept()
while peer.recv(1 << 20): pass`;
  const reader = new Command(t, far.inside("/usr/bin/python3", "-uc", server));
  await reader.says(/^ready$/m);
  const run = await started(t, { delay_in_dport: 7600 });
  const capture = await Capture.start(t, near, far);
  const client = `import socket; socket.create_connection(("${far.ipv6}", 7600)).sendall(bytes(20000000))`;
  assert.equal((await execute(t, near.inside("/usr/bin/python3", "-c", client))).code, 0);
  await reader.finished;
  const packets = to(far, await capture.packets()).filter(({ length }) => length > 0);
  const rows = at(far, await ended(run)).filter((row) => row.number("LEN") > 0);
  const sum = (column: string): number => rows.reduce((all, row) => all + row.number(column), 0);
  assert.ok(rows.some((row) => row.number("SEGS") > 1), "put together");
  assert.ok(packets.every(({ length }) => length <= 1448));
  assert.equal(run.record().modules.delay_in?.events_lost, 0);
  assert.deepEqual(warnings(run), []);
  assert.equal(sum("SEGS"), packets.length);
  assert.equal(sum("LEN"), packets.reduce((all, { length }) => all + length, 0));
});

test("delay_in: in bulk: rows, and what the run says is missing, are all packets", async (t) => {
  const { near, far } = await twoHosts(t);
  const run = new Run(t, { config: { ...config, delay_in_dport: 5201 }, command: far.inside("iperf3", "-s", "-1") });
  await answers(far, "5201");
  const capture = await Capture.start(t, far, near);
  const { code, stdout } = await execute(t, near.inside("iperf3", "-c", far.ipv4, "-n", "200M"));
  assert.equal(code, 0, stdout);
  await run.finished;
  const all = await capture.packets();
  const packets = to(far, all);
  const rows = packetRows(run.table("delay_in.csv"));
  const { missing, extra } = compare(rows, packets);
  assert.deepEqual(extra, []);
  accounted(run, "delay_in", unread, all, missing);
  assert.ok(rows.length > 3000, `${rows.length} rows`);
  t.diagnostic(`${packets.length} packets, ${rows.length} rows, ${told(run, "delay_in", unread)} told`);
});

test("delay_in: macvlan hands over what its siblings send; one socket connected twice", async (t) => {
  const { near, far } = await twoHosts(t);
  const [one, two] = [new Host(near.namespace, 1, 9), new Host(far.namespace, 2, 9)] as const;
  for (const host of [one, two]) {
    near.ask("ip", "link", "add", "link", "veth", "name", host === one ? "sibling" : "other", "type", "macvlan", "mode", "bridge");
    if (host === two) near.ask("ip", "link", "set", "other", "netns", far.namespace, "name", "sibling");
    host.ask("ip", "address", "add", `${host.ipv4}/24`, "dev", "sibling");
    host.ask("ip", "link", "set", "sibling", "up");
  }
  const command = (host: Host, lines: string): string => `ip netns exec ${host.namespace} /usr/bin/python3 -c '${lines}'`;
  const server = `import socket
for listener in [socket.create_server(("", port)) for port in (7700, 7701)]:
    peer = listener.accept()[0]
    for i in range(40): peer.sendall(peer.recv(300, socket.MSG_WAITALL))`;
  const client = `import ctypes, socket, time
peer = socket.socket()
for port in (7700, 7701):
    while peer.connect_ex(("${two.ipv4}", port)): time.sleep(0.05)
    for i in range(40): peer.sendall(bytes(300)); peer.recv(300, socket.MSG_WAITALL)
    ctypes.CDLL(None).connect(peer.fileno(), bytes(16), 16)`;
  const run = new Run(t, { config, command: ["sh", "-c", `${command(two, server)} & ${command(one, client)}; wait`] });
  await run.quietly();
  const rows = packetRows(run.table("delay_in.csv"));
  for (const row of rows) assert.ok(row.number("TOTAL") < 1e6, row.toString());
  for (const port of [7700, 7701])
    for (const [host, end] of [[one, "SPORT"], [two, "DPORT"]] as const) {
      const own = at(host, rows).filter((row) => row.number(end) === port && row.number("LEN") > 0);
      assert.equal(own.reduce((all, row) => all + row.number("LEN"), 0), 12_000, `${port} ${end}`);
      for (const row of own) assert.ok(row.number("RETRANS") === 0 && !row.isEmpty("TCP"), row.toString());
    }
  assert.deepEqual([run.record().modules.delay_in?.events_lost, ...warnings(run)], [0]);
});
