// The tcp_bytes module against ss, curl, iperf3 and programs that count what they send. Owns: that each connection's columns sum to what
// its socket counted, in whatever namespace, for whoever held it. Does not own: the network that traffic runs through.
// Runs beside others.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Row, Table } from "./support/csv.js";
import { answers, configureWebServer, serveWeb, sparseFile, twoHosts, type Host } from "./support/netns.js";
import { scratch, workload } from "./support/paths.js";
import { Command, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_tcp_bytes: "bpf", tcp_bytes_output_file: "tcp_bytes.csv", interval: 0.1 };
const names = ["Ticks", "PID", "COMM", "IP", "SADDR", "SPORT", "DADDR", "DPORT", "RX_KB", "TX_KB", "ACKED_KB", "RETRANS_KB"];
const peer = workload("net_peer");

interface Counters {
  readonly rx: number;
  readonly tx: number;
  readonly acked: number;
  readonly again: number;
}

const ends = (row: Row): string => `${row.text("SADDR")} ${row.text("SPORT")} ${row.text("DADDR")} ${row.text("DPORT")}`;

/** Kilobytes that add up to whole bytes: to a thousandth for each connection. */
function sum(table: Table, rows: readonly Row[]): Counters {
  const of = (column: string): number => Math.round(table.sum(column, rows) * 1000) / 1000;
  return { rx: of("RX_KB"), tx: of("TX_KB"), acked: of("ACKED_KB"), again: of("RETRANS_KB") };
}

/** The same, of counters in bytes, as one connection shows them. */
function kilobytes({ rx, tx, acked, again }: Counters): Counters {
  const of = (bytes: number): number => Math.round((bytes * 1000) / 1024) / 1000;
  return { rx: of(rx), tx: of(tx), acked: of(acked), again: of(again) };
}

/** What ss says of the connections of a host, by their two ends. */
function witness(host: Host): Map<string, Counters> {
  const found = new Map<string, Counters>();
  for (const line of host.ask("ss", "-HtinO", "state", "connected", "exclude", "syn-sent", "exclude", "time-wait").split("\n")) {
    const [, , , local = "", remote = ""] = line.split(/\s+/);
    const place = (text: string): string => `${text.slice(0, text.lastIndexOf(":")).replace(/^\[(?:::ffff:(?=.*\.))?|\]$/g, "")} ${text.slice(text.lastIndexOf(":") + 1)}`;
    const of = (name: string): number => Number(new RegExp(` ${name}:(\\d+)`).exec(line)?.[1] ?? 0);
    if (remote !== "") found.set(`${place(local)} ${place(remote)}`, { rx: of("bytes_received"), tx: of("bytes_sent"), acked: of("bytes_acked"), again: of("bytes_retrans") });
  }
  return found;
}

/** A finished table: its header as promised, one connection's rows as one process's, END in the last rows of each process. */
function finished(run: Run): Table {
  const table = run.table("tcp_bytes.csv");
  assert.deepEqual(table.header, names);
  for (const pid of table.pids()) {
    const rows = table.of(pid);
    const first = rows.findIndex((row) => row.isEnd);
    assert.ok(first >= 0 && rows.slice(first).every((row) => row.isEnd), `END in the last rows of ${pid}`);
  }
  return table;
}

/** A python program in the tree of a run. */
function python(t: TestContext, host: Host | undefined, script: string, more: object = {}): Run {
  const command = ["python3", "-u", "-c", `import os, socket, sys, time\n${script}`];
  return new Run(t, { config: { ...config, ...more }, command: host?.inside(...command) ?? command, deadline: 60, input: "open" });
}

/** From here on its counts are complete: it has come to a tick. */
async function watching(run: Run): Promise<void> {
  await until("the run", () => existsSync(run.path("run.json")) && (run.record() as unknown as { ticks: number }).ticks > 0);
}

/** Reads a line from stdin, then says which process is at it. */
const pause = `
def pause(what):
    print(what, os.getpid(), flush=True); sys.stdin.readline()
def all_of(s, size):
    while size > 0: size -= len(s.recv(min(size, 65536)))
`;

test("tcp_bytes: what ss shows, in other namespaces, IPv4, IPv6 and v4-mapped, during and at the end", async (t) => {
  const { near, far } = await twoHosts(t);
  // The far end is held by a process that is outside the near one's tree: both are watched, by a run each.
  const server = python(
    t,
    far,
    `${pause}
l = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
c = [l.accept()[0] for i in range(3)]
for i, s in enumerate(c): all_of(s, 100003 + i); s.sendall(bytes(2000007 + i))
pause("quiet")
for s in c: s.recv(1); s.close()
`,
  );
  await answers(far, "7000");
  const client = python(
    t,
    near,
    `${pause}
c = [socket.create_connection((a, 7000)) for a in ("${far.ipv4}", "${far.ipv6}")]
m = socket.socket(socket.AF_INET6); m.connect(("::ffff:${far.ipv4}", 7000)); c.append(m)
for i, s in enumerate(c): s.sendall(bytes(100003 + i))
for i, s in enumerate(c): all_of(s, 2000007 + i)
pause("quiet")
for s in c: s.shutdown(socket.SHUT_WR)
for s in c: s.recv(1)
pause("ended")
`,
  );
  for (const run of [server, client]) await run.says(/^quiet/m);
  const sides = [
    { run: client, host: near },
    { run: server, host: far },
  ];
  for (const { run, host } of sides) {
    const seen = witness(host);
    assert.equal(seen.size, 3);
    await until("the tables to have it all", () => {
      const table = run.growing("tcp_bytes.csv");
      return table !== undefined && [...seen.values()].every((each) => table.sum("RX_KB") >= each.rx / 1024) && table.rows.length >= 3 && Math.abs(table.sum("RX_KB") - [...seen.values()].reduce((all, each) => all + each.rx, 0) / 1024) < 0.01 && Math.abs(table.sum("ACKED_KB") - [...seen.values()].reduce((all, each) => all + each.acked, 0) / 1024) < 0.01;
    });
    const table = run.table("tcp_bytes.csv", true);
    for (const [connection, counters] of seen) {
      const rows = table.rows.filter((row) => ends(row) === connection);
      assert.deepEqual(sum(table, rows), kilobytes(counters), connection);
      assert.deepEqual([...new Set(rows.map((row) => row.text("IP")))], [connection.includes(":") ? "6" : "4"]);
    }
    assert.deepEqual(new Set(table.rows.map(ends)), new Set(seen.keys()));
  }
  client.write("\n");
  server.write("\n");
  await client.says(/^ended/m);
  client.write("\n");
  for (const { run, host } of sides) {
    await run.quietly();
    const table = finished(run);
    const connections = [...new Set(table.rows.filter((row) => row.text("IP") !== "").map(ends))];
    assert.equal(connections.length, 3);
    for (const [i, connection] of connections.sort((a, b) => sum(table, table.rows.filter((row) => ends(row) === a)).rx - sum(table, table.rows.filter((row) => ends(row) === b)).rx).entries()) {
      const { rx, tx, again } = sum(table, table.rows.filter((row) => ends(row) === connection));
      // The end of the other's stream takes a number, and is counted as a byte received.
      const [received, sent] = host === near ? [2000007 + i + 1, 100003 + i] : [100003 + i + 1, 2000007 + i];
      assert.equal(rx, kilobytes({ rx: received, tx: 0, acked: 0, again: 0 }).rx, connection);
      assert.ok(Math.abs(tx - again - sent / 1024) < 0.002, connection);
    }
    assert.equal(run.record().modules.tcp_bytes?.events_lost, 0);
  }
});

test("tcp_bytes: curl's downloads and uploads, whole connections within a tick", async (t) => {
  const { near, far } = await twoHosts(t);
  const folder = scratch(t);
  const web = configureWebServer(folder, 0);
  sparseFile(join(web.folder, "large"), 30_000_001);
  const upload = sparseFile(join(folder, "upload"), 20_000_003);
  await serveWeb(t, far, web);
  for (const address of [far.ipv4, `[${far.ipv6}]`]) {
    const say = "%{size_download} %{size_header} %{size_upload} %{size_request} %{local_port}\\n";
    // Both are on one connection.
    const run = new Run(t, {
      config: { ...config, interval: 30 },
      command: near.inside("curl", "-sS", "-f", "-w", say, "-o", "/dev/null", `http://${address}/large`, "--next", "-sS", "-f", "-w", say, "-T", upload, "-o", "/dev/null", `http://${address}/up`),
      deadline: 60,
    });
    const { stdout } = await run.quietly();
    const table = finished(run);
    const expected = new Map<string, { rx: number; tx: number }>();
    for (const line of stdout.trim().split("\n")) {
      const [down = 0, header = 0, up = 0, request = 0, port = 0] = line.split(" ").map(Number);
      const before = expected.get(port.toString()) ?? { rx: 0, tx: 0 };
      expected.set(port.toString(), { rx: before.rx + down + header, tx: before.tx + up + request });
    }
    assert.ok([...expected.values()].some(({ rx }) => rx > 30_000_000));
    for (const [port, { rx, tx }] of expected) {
      const rows = table.rows.filter((row) => row.text("SPORT") === port);
      assert.ok(rows.every((row) => row.text("COMM") === "curl" && row.isEnd));
      const seen = sum(table, rows);
      assert.ok(Math.abs(seen.rx - rx / 1024) < 0.002 && Math.abs(seen.tx - seen.again - tx / 1024) < 0.002, `${JSON.stringify(seen)}, curl: ${rx} received, ${tx} sent`);
    }
  }
});

test("tcp_bytes: --host has both ends, and what was sent again on a path that loses segments", async (t) => {
  const { near, far } = await twoHosts(t);
  far.ask("nft", "add table inet lossy; add chain inet lossy in { type filter hook input priority 0; }; add rule inet lossy in tcp dport 7000 meta length > 1000 numgen inc mod 50 == 1 drop");
  const run = new Run(t, { config, options: ["--host"], deadline: 60 });
  await watching(run);
  const start = (host: Host, script: string): Command => new Command(t, host.inside("python3", "-u", "-c", `import os, socket, sys${pause}${script}`), { deadline: 60, input: "open" });
  const server = start(far, `l = socket.create_server(("::", 7000), family=socket.AF_INET6)\ns = l.accept()[0]; all_of(s, 30000000); s.sendall(b"x"); pause("done")`);
  await answers(far, "7000");
  const client = start(near, `s = socket.create_connection(("${far.ipv6}", 7000)); s.sendall(bytes(30000000)); all_of(s, 1); pause("done")`);
  for (const each of [server, client]) await each.says(/^done/m);
  const sides = [
    { side: client, host: near },
    { side: server, host: far },
  ];
  const seen = sides.map(({ host }) => [...witness(host)][0] ?? assert.fail("no connection"));
  for (const { side } of sides) {
    side.write("\n");
    const [, pid] = /^done (\d+)/m.exec(side.stdout) ?? [];
    await side.gone;
    await until("the END row", () => run.growing("tcp_bytes.csv")?.ends(Number(pid))[0]);
  }
  run.child.kill("SIGINT");
  await run.finished;
  const table = run.table("tcp_bytes.csv");
  for (const [i, { side }] of sides.entries()) {
    const [connection, counters] = seen[i] ?? assert.fail();
    const rows = table.rows.filter((row) => ends(row) === connection);
    const total = sum(table, rows);
    const shown = kilobytes(counters);
    // The other side's FIN may come when its process has ended: nobody's.
    const others = rows.filter((row) => !side.stdout.includes(`done ${row.pid}\n`));
    assert.ok(others.every((row) => row.pid === 0) && table.sum("RX_KB", others) + table.sum("TX_KB", others) < 0.0015, others.join("\n"));
    // After ss looked, either side has sent a FIN.
    for (const key of ["rx", "tx", "acked", "again"] as const) assert.ok(total[key] >= shown[key] && total[key] < shown[key] + 0.002, `${key}: ${JSON.stringify({ total, shown })}`);
  }
  const [, sent] = seen[0] ?? assert.fail();
  assert.equal(sent.tx - sent.again, 30000000);
  assert.ok(sent.again > 10000);
});

test("tcp_bytes: iperf3", async (t) => {
  const { near, far } = await twoHosts(t);
  new Command(t, far.inside("iperf3", "-s", "-1"), { deadline: 60 });
  await answers(far, "5201");
  const run = new Run(t, { config, command: near.inside("iperf3", "-c", far.ipv4, "-R", "-n", "200M", "-P", "3", "--json"), deadline: 60 });
  const { stdout } = await run.quietly();
  const table = finished(run);
  const { start, end } = JSON.parse(stdout) as { start: { connected: { local_port: number }[] }; end: { sum_sent: { bytes: number }; sum_received: { bytes: number } } };
  const ports = start.connected.map((each) => each.local_port.toString());
  assert.equal(ports.length, 3);
  const { rx } = sum(table, table.rows.filter((row) => ports.includes(row.text("SPORT"))));
  // It counts what it has read when the time is up, and what the other side has handed over to its kernel.
  assert.ok(rx >= end.sum_received.bytes / 1024 - 0.01 && rx <= end.sum_sent.bytes / 1024 + 0.01, `${rx} KB, iperf3: ${JSON.stringify(end)}`);
});

test("tcp_bytes: a connection older than the run counts from then on", async (t) => {
  const { near, far } = await twoHosts(t);
  const start = (host: Host, script: string): Command => new Command(t, host.inside("python3", "-u", "-c", `import os, socket, sys${pause}${script}`), { deadline: 60, input: "open" });
  start(far, `s = socket.create_server(("${far.ipv4}", 7000)).accept()[0]\nwhile n := int.from_bytes(s.recv(8), "big"): s.sendall(bytes(n))`);
  await answers(far, "7000");
  const target = start(
    near,
    `
def want(n): s.sendall(n.to_bytes(8, "big"))
s = socket.create_connection(("${far.ipv4}", 7000)); want(1000000); all_of(s, 1000000); want(50000); pause("ready")
want(2000000); all_of(s, 2050000); pause("done")`,
  );
  const [, pid = ""] = await target.says(/^ready (\d+)$/m);
  // 50000 bytes wait to be read: they were received before.
  const settled = async (rx: number): Promise<Counters> => until(`${rx} bytes`, () => [...witness(near).values()].find((each) => each.rx === rx && each.acked > each.tx));
  const before = await settled(1050000);
  const run = new Run(t, { config, options: ["-p", pid], deadline: 60 });
  await watching(run);
  target.write("\n");
  await target.says(/^done/m);
  const after = await settled(3050000);
  target.write("\n");
  await run.quietly();
  const table = finished(run);
  const seen = sum(table, table.rows);
  const moved = kilobytes({ rx: after.rx - before.rx, tx: after.tx - before.tx, acked: after.acked - before.acked, again: after.again - before.again });
  // At the very end there are FINs, which are counted as one byte each.
  for (const key of ["rx", "tx", "acked", "again"] as const) assert.ok(seen[key] >= moved[key] - 0.0015 && seen[key] < moved[key] + 0.003, `${key}: ${JSON.stringify({ seen, moved })}`);
});

test("tcp_bytes: a connection that changes hands within a tick, and forked children on an inherited listener", async (t) => {
  const run = python(
    t,
    undefined,
    `${pause}
l = socket.create_server(("127.0.0.1", 0)); there = l.getsockname()
# Of a connection the parent reads 1000 bytes; its child 2000, and answers 500; the parent again 3000.
a = socket.create_connection(there); b = l.accept()[0]
a.sendall(bytes(1000)); all_of(b, 1000)
child = os.fork()
if child == 0:
    all_of(b, 2000); b.sendall(bytes(500)); os._exit(0)
a.sendall(bytes(2000)); os.waitpid(child, 0); all_of(a, 500)
a.sendall(bytes(3000)); all_of(b, 3000); b.sendall(bytes(700)); all_of(a, 700)
print("first", os.getpid(), child, a.getsockname()[1])
# Of another the child's first call is far longer than what of it is sent by its return.
a = socket.socket(); a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192); a.connect(there); b = l.accept()[0]
b.setsockopt(socket.SOL_SOCKET, 32, 4000000) # SO_SNDBUFFORCE
b.sendall(bytes(3000)); all_of(a, 3000); written, writes = os.pipe()
child = os.fork()
if child == 0:
    if b.send(bytes(1000000)) != 1000000: sys.exit("it did not fit")
    os.write(writes, b"x"); all_of(b, 1); os._exit(0)
os.read(written, 1); all_of(a, 1000000); a.sendall(b"x"); os.waitpid(child, 0)
print("second", child, a.getsockname()[1])
pids = []
for i in range(20):
    pid = os.fork()
    if pid == 0:
        s = l.accept()[0]; size = int.from_bytes(s.recv(4), "big"); all_of(s, size); s.sendall(bytes(size + 7)); s.close(); os._exit(0)
    pids.append(pid)
for i in range(20):
    s = socket.create_connection(there); s.sendall((1000 * i).to_bytes(4, "big") + bytes(1000 * i)); all_of(s, 1000 * i + 7); s.close()
for pid in pids: os.waitpid(pid, 0)
print("children", *pids)
`,
    { interval: 20 },
  );
  const { stdout } = await run.quietly();
  const table = finished(run);
  const [, parent, child, port = ""] = (/^first (\d+) (\d+) (\d+)$/m.exec(stdout) ?? []).map(Number);
  assert.ok(parent !== undefined && child !== undefined);
  const ofPort = (pid: number, client = port): Counters => sum(table, table.of(pid).filter((row) => row.text("DPORT") === client.toString()));
  const [, later = 0, second = 0] = (/^second (\d+) (\d+)$/m.exec(stdout) ?? []).map(Number);
  for (const [pid, bytes] of [
    [parent, 3000],
    [later, 1000000],
  ] as const) {
    const { tx, again } = ofPort(pid, second);
    assert.ok(Math.abs(tx - again - bytes / 1024) < 0.002, `${bytes} bytes: ${tx} KB, again ${again} KB`);
  }
  const both = { parent: ofPort(parent), child: ofPort(child) };
  const story = JSON.stringify(both);
  for (const [seen, expected] of [
    [both.child.rx, 2000],
    [both.child.tx, 500],
    [both.parent.tx, 700],
  ] as const)
    assert.ok(Math.abs(seen - expected / 1024) < 0.002, story);
  // And perhaps the end of the stream.
  assert.ok(both.parent.rx > 3999 / 1024 && both.parent.rx < 4002.5 / 1024, story);
  const children = (/^children (.*)$/m.exec(stdout)?.[1] ?? "").split(" ").map(Number);
  assert.equal(children.length, 20);
  const sums = children.map((pid) => sum(table, table.of(pid))).sort((a, b) => a.rx - b.rx);
  for (const [i, { rx, tx }] of sums.entries()) {
    assert.ok(Math.abs(rx - (4 + 1000 * i) / 1024) < 0.002, `child ${i}: ${rx}`);
    assert.ok(Math.abs(tx - (1000 * i + 7) / 1024) < 0.002, `child ${i}: ${tx}`);
  }
});

test("tcp_bytes: only the version of IP that was asked for, and what a socket moves after its process is told", async (t) => {
  const { near, far } = await twoHosts(t);
  const script = `${pause}
for family, there in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
    l = socket.socket(family); l.bind((there, 0)); l.listen()
    a = socket.socket(family); a.connect(l.getsockname()[:2]); b = l.accept()[0]; a.sendall(bytes(5000)); all_of(b, 5000)
`;
  for (const [ip, kilobytes] of [
    [4, 2],
    [6, 1],
  ] as const) {
    const run = python(t, near, script, { tcp_bytes_ip: ip });
    await run.quietly();
    const table = finished(run);
    assert.ok(Math.abs(table.sum("TX_KB") - (kilobytes * 5000) / 1024) < 0.003);
    assert.ok(table.rows.every((row) => ["", ip.toString()].includes(row.text("IP"))));
  }

  const server = new Command(t, far.inside(peer, "slow", far.ipv4, "7500"), { deadline: 60 });
  const [, serverPid] = await server.says(/^ready slow (\d+)$/m);
  const run = new Run(t, { config, command: near.inside(peer, "linger", far.ipv4, "7500", "8000000"), deadline: 60 });
  const [, parent] = await run.says(/^ready linger (\d+)$/m);
  const [, child = ""] = /^done client (\d+)/m.exec(run.stdout) ?? [];
  await until("the child's END row", () => run.growing("tcp_bytes.csv")?.ends(Number(child))[0]);
  process.kill(Number(serverPid), "SIGUSR1");
  await server.says(/^done server \d+ 0 8000000$/m);
  process.kill(Number(parent), "SIGUSR1");
  await run.quietly();
  const record = run.record() as unknown as { warnings: string[]; modules: { tcp_bytes: { events_lost: number } } };
  const late = Number(/^tcp_bytes: (\d+) B moved/.exec(record.warnings.join("\n"))?.[1]);
  const { tx, again } = sum(finished(run), run.table("tcp_bytes.csv").of(Number(child)));
  assert.ok(record.modules.tcp_bytes.events_lost >= 1);
  // Bytes sent again are late as well, if any are; the FIN of the server is one byte more.
  assert.ok((tx - again) * 1024 + late >= 8000000 - 1, `${tx} KB and ${late} B`);
  assert.ok(tx * 1024 < 8000000);
});
