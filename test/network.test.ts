// The network module against interface counters: two namespaces joined by a veth pair, real programs at both ends. Owns: that Σ RX_KB
// and Σ TX_KB of the tree are what the interface moved when only the tree talks, and that nobody else's bytes are added.
// Does not own: connections or packets one by one.
// Runs beside others.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Row, Table } from "./support/csv.js";
import { answers, configureWebServer, serveWeb, sparseFile, twoHosts, type Counters, type Host } from "./support/netns.js";
import { scratch, workload } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_network: "bpf", network_output_file: "network.csv", interval: 0.2 };
const hundredMegabytes = 100 * 1000 * 1000;
const peer = workload("net_peer");

/** Bytes that a table gives to some processes, all by default. */
function bytes(table: Table, rows: readonly Row[] = table.rows): Counters {
  return { rx: table.sum("RX_KB", rows) * 1024, tx: table.sum("TX_KB", rows) * 1024 };
}

function within(seen: number, expected: number, share: number, what: string): void {
  const difference = (seen - expected) / expected;
  assert.ok(Math.abs(difference) <= share, `${what}: treesnoop ${seen.toFixed(0)}, witness ${expected} (${(difference * 100).toFixed(2)} %)`);
}

function agrees(seen: Counters, witness: Counters, share = 0.01): void {
  within(seen.rx, witness.rx, share, "received bytes");
  within(seen.tx, witness.tx, share, "sent bytes");
}

/** Runs a command of a host in a tree to its end; gives the table and what the interface counted meanwhile. */
async function talk(t: TestContext, host: Host, command: readonly string[], device = "veth"): Promise<{ table: Table; moved: Counters; stdout: string; run: Run }> {
  const before = host.counters(device);
  const run = new Run(t, { config, command: host.inside(...command), deadline: 120 });
  const { stdout } = await run.quietly();
  const moved = host.since(before, device);
  const table = run.table("network.csv");
  assert.deepEqual(table.header.slice(0, 5), ["Ticks", "PID", "COMM", "RX_KB", "TX_KB"]);
  // The last packets of a connection that its process closed by ending may come after its END row: told, and in no row.
  const lost = run.record().modules.network?.events_lost ?? 0;
  assert.ok(lost <= 8, `${lost} packets lost`);
  for (const pid of table.pids()) assert.equal(table.ends(pid).length, 1, `END rows of ${pid}`);
  return { table, moved, stdout, run };
}

/** What a workload said of itself: `done ROLE PID SENT RECEIVED`. */
function done(stdout: string, role: string): { pid: number; sent: number; received: number }[] {
  return [...stdout.matchAll(new RegExp(`^done ${role} (\\d+) (\\d+) (\\d+)$`, "gm"))].map(([, pid, sent, received]) => ({
    pid: Number(pid),
    sent: Number(sent),
    received: Number(received),
  }));
}

test("network: a 100 MB download and upload, IPv4 and IPv6", async (t) => {
  const { near, far } = await twoHosts(t);
  const folder = scratch(t);
  const server = configureWebServer(folder, 0);
  sparseFile(join(server.folder, "large"), hundredMegabytes);
  const upload = sparseFile(join(folder, "upload"), hundredMegabytes);
  await serveWeb(t, far, server);
  for (const [family, address] of [
    ["-4", far.ipv4],
    ["-6", `[${far.ipv6}]`],
  ] as const) {
    const down = await talk(t, near, ["curl", "-sS", "-f", family, "-o", "/dev/null", "-w", "%{size_download}", `http://${address}/large`]);
    assert.equal(down.stdout, hundredMegabytes.toString());
    assert.ok(down.moved.rx >= hundredMegabytes);
    agrees(bytes(down.table), down.moved);
    // It was curl, and no other process of the tree.
    const rows = down.table.rows.filter((row) => row.text("COMM") === "curl");
    within(bytes(down.table, rows).rx, down.moved.rx, 0.01, "received by curl");

    const up = await talk(t, near, ["curl", "-sS", "-f", family, "-T", upload, "-o", "/dev/null", "-w", "%{size_upload}", `http://${address}/uploaded`]);
    assert.equal(up.stdout, hundredMegabytes.toString());
    assert.ok(up.moved.tx >= hundredMegabytes);
    agrees(bytes(up.table), up.moved);
  }
});

test("network: UDP, each datagram with its headers", async (t) => {
  const { near, far } = await twoHosts(t);
  for (const [served, address, headers] of [
    [far.ipv4, far.ipv4, 14 + 20 + 8],
    [far.ipv6, far.ipv6, 14 + 40 + 8],
    // An IPv6 socket that speaks IPv4.
    [far.ipv4, `::ffff:${far.ipv4}`, 14 + 20 + 8],
  ] as const) {
    const server = new Command(t, far.inside(peer, "serve", served, "7000"), { deadline: 120 });
    await answers(far, "7000");
    const { table, moved, stdout } = await talk(t, near, [peer, "udp", address, "7000", "3000", "1000"]);
    agrees(bytes(table), moved);
    const [client] = done(stdout, "client");
    assert.ok(client !== undefined);
    const own = bytes(table, table.of(client.pid));
    within(own.tx, client.sent * (1000 + headers), 0.001, "datagrams sent");
    within(own.rx, client.received * (1000 + headers), 0.001, "datagrams received");
    server.child.kill("SIGKILL");
    await server.finished;
  }
});

test("network: ping, IPv4 and IPv6", async (t) => {
  const { near, far } = await twoHosts(t);
  for (const [family, address] of [
    ["-4", far.ipv4],
    ["-6", far.ipv6],
  ] as const) {
    const { table, moved, stdout } = await talk(t, near, ["ping", family, "-q", "-c", "400", "-i", "0.002", "-s", "1400", address]);
    assert.match(stdout, /400 packets transmitted, 400 received/);
    agrees(bytes(table), moved);
    const rows = table.rows.filter((row) => row.text("COMM") === "ping");
    agrees(bytes(table, rows), moved);
  }
});

test("network: pings beside each other: a reply is counted once, and only for the one who asked", async (t) => {
  const { near, far } = await twoHosts(t);
  // Every raw socket is handed every reply; what its filter then discards was not received.
  for (const [address, headers] of [
    [far.ipv4, 14 + 20 + 8],
    [far.ipv6, 14 + 40 + 8],
  ] as const) {
    const noise = new Command(t, near.inside("ping", "-q", "-i", "0.002", "-s", "1000", address), { deadline: 60 });
    const ping = (id: number): string => [peer, "ping", address, id.toString(), "300", "500"].join(" ");
    const { table, stdout } = await talk(t, near, ["sh", "-c", `${ping(1111)} & ${ping(2222)} & wait`]);
    noise.child.kill("SIGKILL");
    await noise.finished;
    const pingers = done(stdout, "pinger");
    assert.equal(pingers.length, 2);
    for (const { pid, sent, received } of pingers) {
      assert.equal(sent, 300);
      assert.ok(received >= 300 * (500 + headers), `${received} bytes`);
      agrees(bytes(table, table.of(pid)), { rx: received, tx: sent * (500 + headers) }, 0.001);
    }
    agrees(bytes(table), { rx: 600 * (500 + headers), tx: 600 * (500 + headers) });
  }
});

test("network: fragments of large datagrams", async (t) => {
  const { near, far } = await twoHosts(t);
  for (const address of [far.ipv4, far.ipv6]) {
    const server = new Command(t, far.inside(peer, "serve", address, "7000"), { deadline: 120 });
    await answers(far, "7000");
    const { table, moved } = await talk(t, near, [peer, "udp", address, "7000", "500", "20000"]);
    agrees(bytes(table), moved);
    server.child.kill("SIGKILL");
    await server.finished;
  }
});

test("network: a noisy neighbour on the same interface adds nothing", async (t) => {
  const { near, far } = await twoHosts(t);
  const folder = scratch(t);
  const web = configureWebServer(folder, 0);
  sparseFile(join(web.folder, "large"), hundredMegabytes);
  await serveWeb(t, far, web);
  const server = new Command(t, far.inside(peer, "serve", far.ipv4, "7000"), { deadline: 120 });
  await answers(far, "7000");
  const before = near.counters();
  const noise = new Command(t, near.inside("sh", "-c", `trap 'kill $!; exit' TERM; while :; do curl -sS -o /dev/null http://${far.ipv4}/large & wait $!; done`), { deadline: 120 });
  await until("the noise", () => near.since(before).rx > hundredMegabytes / 10);
  // Two processes of the tree do nothing but be on the CPU while packets arrive.
  const run = new Run(t, { config, command: near.inside(peer, "udp", far.ipv4, "7000", "2000", "1000", "busy"), deadline: 120 });
  const { stdout } = await run.quietly();
  noise.child.kill("SIGTERM");
  assert.ok(near.since(before).rx > hundredMegabytes / 4, "there was noise");
  const table = run.table("network.csv");
  const [client] = done(stdout, "client");
  assert.ok(client !== undefined);
  // Its datagrams are of known size, so the noise needs no counter of its own.
  agrees(bytes(table, table.of(client.pid)), { rx: client.received * 1042, tx: client.sent * 1042 }, 0.001);
  agrees(bytes(table), { rx: client.received * 1042, tx: client.sent * 1042 }, 0.001);
  for (const [, spinner] of stdout.matchAll(/^spinner (\d+)$/gm)) assert.deepEqual(bytes(table, table.of(Number(spinner))), { rx: 0, tx: 0 });
  server.child.kill("SIGKILL");
  await server.finished;
});

test("network: a socket opened before attach counts", async (t) => {
  const { near, far } = await twoHosts(t);
  const server = new Command(t, far.inside(peer, "serve", far.ipv4, "7000"), { deadline: 120 });
  await answers(far, "7000");
  const target = new Command(t, near.inside(peer, "tcp", far.ipv4, "7000", "20000000", "10000000", "hold"), { deadline: 120 });
  const [, pidText] = await target.says(/^ready client (\d+)$/m);
  const pid = Number(pidText);
  const run = new Run(t, { config, options: ["-p", pid.toString()], deadline: 120 });
  await run.ticked("network.csv", 1);
  const before = near.counters();
  process.kill(pid, "SIGUSR1");
  await target.says(/^done client/m);
  const moved = near.since(before);
  process.kill(pid, "SIGUSR1");
  await run.quietly();
  assert.ok(moved.rx > 20000000 && moved.tx > 10000000);
  const table = run.table("network.csv");
  agrees(bytes(table, table.of(pid)), moved);
  agrees(bytes(table), moved);
  server.child.kill("SIGKILL");
  await server.finished;
});

test("network: of preforked workers the one that accepted owns the bytes", async (t) => {
  const { near, far } = await twoHosts(t);
  const folder = scratch(t);
  const web = configureWebServer(folder, 3);
  sparseFile(join(web.folder, "large"), hundredMegabytes / 5);
  const before = far.counters();
  const run = new Run(t, { config, command: far.inside(...web.command), deadline: 120 });
  t.after(() => {
    // A test that failed half-way must not leave a server behind.
    try {
      process.kill(Number(readFileSync(join(folder, "nginx.pid"), "utf8")), "SIGTERM");
    } catch {
      // ended as it should, and took the file along
    }
  });
  await answers(far, "80");
  const upload = sparseFile(join(folder, "upload"), 5000000);
  await Promise.all(
    Array.from({ length: 6 }, async (_, number) => {
      const download = await execute(t, near.inside("curl", "-sS", "-f", "-o", "/dev/null", `http://${far.ipv4}/large`));
      assert.equal(download.code, 0, download.stderr);
      const sent = await execute(t, near.inside("curl", "-sS", "-f", "-T", upload, `http://${far.ipv4}/up${number}`));
      assert.equal(sent.code, 0, sent.stderr);
    }),
  );
  const moved = far.since(before);
  const master = Number(readFileSync(join(folder, "nginx.pid"), "utf8"));
  process.kill(master, "SIGQUIT");
  await run.quietly();
  const table = run.table("network.csv");
  agrees(bytes(table), moved);
  // The server's own log says which worker moved how much payload; on the wire it is a little more.
  const workers = new Map<number, Counters>();
  for (const line of readFileSync(web.log, "utf8").trim().split("\n")) {
    const [pid = 0, tx = 0, rx = 0] = line.split(" ").map(Number);
    const sum = workers.get(pid) ?? { rx: 0, tx: 0 };
    workers.set(pid, { rx: sum.rx + rx, tx: sum.tx + tx });
  }
  assert.ok(workers.size >= 1 && !workers.has(master));
  for (const [pid, payload] of workers) {
    const seen = bytes(table, table.of(pid));
    const story = `worker ${pid}: payload ${JSON.stringify(payload)}, treesnoop ${JSON.stringify(seen)}`;
    assert.ok(seen.tx >= payload.tx && seen.rx >= payload.rx, story);
    // 54 to 66 bytes of headers per segment of at least 536, and acknowledgements the other way.
    assert.ok(seen.tx <= payload.tx * 1.06 + payload.rx * 0.1 && seen.rx <= payload.rx * 1.06 + payload.tx * 0.1, story);
  }
  // Of the master's own there are at most the connections' first packets, before anyone accepted.
  const own = bytes(table, table.of(master));
  assert.ok(own.rx < 20000 && own.tx < 20000, `master: ${JSON.stringify(own)}`);
});

test("network: forked children that accept on an inherited socket", async (t) => {
  const { near, far } = await twoHosts(t);
  const before = far.counters();
  const run = new Run(t, { config, command: far.inside(peer, "prefork", far.ipv6, "7100", "2"), deadline: 120 });
  await answers(far, "7100");
  for (const [down, up] of [
    ["9000000", "3000000"],
    ["1000000", "7000000"],
  ] as const) {
    const client = await execute(t, near.inside(peer, "tcp", far.ipv6, "7100", down, up));
    assert.equal(client.code, 0, client.stderr);
  }
  const { stdout } = await run.quietly();
  const moved = far.since(before);
  const table = run.table("network.csv");
  agrees(bytes(table), moved);
  const served = done(stdout, "server");
  assert.equal(served.length, 2);
  for (const { pid, sent, received } of served) {
    const seen = bytes(table, table.of(pid));
    const story = `process ${pid}: sent ${sent}, received ${received}, treesnoop ${JSON.stringify(seen)}`;
    assert.ok(seen.tx >= sent && seen.rx >= received, story);
    assert.ok(seen.tx <= sent * 1.06 + received * 0.1 && seen.rx <= received * 1.06 + sent * 0.1, story);
  }
});

test("network: a connection left to a child is the child's", async (t) => {
  const { near, far } = await twoHosts(t);
  const before = far.counters();
  const run = new Run(t, { config, command: far.inside(peer, "handover", far.ipv4, "7200"), deadline: 120 });
  await answers(far, "7200");
  const client = await execute(t, near.inside(peer, "tcp", far.ipv4, "7200", "8000000", "4000000"));
  assert.equal(client.code, 0, client.stderr);
  const { stdout } = await run.quietly();
  const moved = far.since(before);
  const table = run.table("network.csv");
  agrees(bytes(table), moved);
  const [child] = done(stdout, "server");
  assert.ok(child !== undefined);
  const seen = bytes(table, table.of(child.pid));
  assert.ok(seen.tx >= child.sent && seen.rx >= child.received, `child: ${JSON.stringify(child)}, treesnoop ${JSON.stringify(seen)}`);
});

test("network: loopback, both ends in the tree", async (t) => {
  const { near } = await twoHosts(t);
  // lo counts what it moves without the link's header: it has none that anyone reads.
  for (const [address, headers] of [
    ["127.0.0.1", 20 + 8],
    ["::1", 40 + 8],
  ] as const) {
    const { table, moved, stdout } = await talk(t, near, [peer, "loopback", address, "7300", "2000", "900"], "lo");
    agrees(bytes(table), moved);
    for (const role of ["client", "server"])
      for (const { pid, sent, received } of done(stdout, role))
        agrees(bytes(table, table.of(pid)), { rx: received * (900 + headers), tx: sent * (900 + headers) }, 0.001);
  }
});

test("network: TCP over loopback, both ends in the tree", async (t) => {
  const { near } = await twoHosts(t);
  const script = `${peer} prefork 127.0.0.1 7400 1 & until ss -Hltn sport = :7400 | grep -q 7400; do :; done; ${peer} tcp 127.0.0.1 7400 30000000 5000000; wait`;
  const { table, moved, stdout } = await talk(t, near, ["sh", "-c", script], "lo");
  agrees(bytes(table), moved);
  for (const role of ["client", "server"])
    for (const { pid, sent, received } of done(stdout, role)) {
      const seen = bytes(table, table.of(pid));
      assert.ok(seen.tx >= sent && seen.rx >= received, `${role}: ${JSON.stringify(seen)}`);
      assert.ok(seen.tx <= sent * 1.05 + received * 0.05 && seen.rx <= received * 1.05 + sent * 0.05, `${role}: ${JSON.stringify(seen)}`);
    }
});

test("network: processes that are born while the tables are read keep their first bytes", async (t) => {
  // Each child sends one datagram and is gone; ticks come so often that many of them are born in the middle of one.
  const children = 300;
  const script = `
import os, socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("127.0.0.1", 0))
for i in range(${children}):
    if os.fork() == 0:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(1000), server.getsockname())
        os._exit(0)
    os.wait()`;
  const run = new Run(t, { config: { ...config, snoop_cpu: "bpf", snoop_mem: "bpf", interval: 0.002 }, command: ["python3", "-c", script] });
  await run.quietly();
  const table = run.table("network.csv");
  const seen = bytes(table);
  const datagram = 1000 + 8 + 20; // UDP and IP headers; the loopback has none of its own
  // Cells have three decimals of a KB.
  for (const each of [seen.tx, seen.rx]) assert.ok(Math.abs(each - children * datagram) < table.rows.length, JSON.stringify(seen));
});

test("network: a silent tree has no bytes", async (t) => {
  const { near, far } = await twoHosts(t);
  const folder = scratch(t);
  const web = configureWebServer(folder, 0);
  sparseFile(join(web.folder, "large"), hundredMegabytes / 2);
  await serveWeb(t, far, web);
  const run = new Run(t, { config, command: near.inside("sleep", "2"), deadline: 60 });
  await until("run.json", () => run.growing("network.csv") !== undefined);
  const before = near.counters();
  const noise = await execute(t, near.inside("curl", "-sS", "-f", "-o", "/dev/null", `http://${far.ipv4}/large`));
  assert.equal(noise.code, 0, noise.stderr);
  assert.ok(near.since(before).rx > hundredMegabytes / 2);
  await run.quietly();
  assert.deepEqual(bytes(run.table("network.csv")), { rx: 0, tx: 0 });
});

test("network: what a socket sends after its process has ended is counted or told", async (t) => {
  const { near, far } = await twoHosts(t);
  const server = new Command(t, far.inside(peer, "slow", far.ipv4, "7500"), { deadline: 60 });
  const [, serverPid] = await server.says(/^ready slow (\d+)$/m);
  const before = near.counters();
  const run = new Run(t, { config, command: near.inside(peer, "linger", far.ipv4, "7500", "8000000"), deadline: 60 });
  const [, parent] = await run.says(/^ready linger (\d+)$/m);
  const [client] = done(run.stdout, "client");
  assert.ok(client !== undefined);
  await until("the child's END row", () => run.growing("network.csv")?.ends(client.pid)[0]);
  // Most of it is still in the sender's buffer: the server has not read yet.
  assert.ok(near.since(before).tx < client.sent / 2);
  process.kill(Number(serverPid), "SIGUSR1");
  await server.says(/^done server \d+ 0 8000000$/m);
  const moved = near.since(before);
  process.kill(Number(parent), "SIGUSR1");
  await run.quietly();
  const seen = bytes(run.table("network.csv"));
  if ((run.record().modules.network?.events_lost ?? 0) === 0) agrees(seen, moved);
  else assert.ok(seen.tx < moved.tx, "it says that something is missing, and something is");
});

test("network: --host: both ends, wherever they were started", async (t) => {
  const { near, far } = await twoHosts(t);
  const server = new Command(t, far.inside(peer, "serve", far.ipv4, "7600"), { deadline: 60 });
  const [, serverPid] = await server.says(/^ready serve (\d+)$/m);
  const run = new Run(t, { config, options: ["--host"], deadline: 60 });
  await run.ticked("network.csv", 2);
  const before = near.counters();
  const { stdout } = await execute(t, near.inside(peer, "udp", far.ipv4, "7600", "1000", "1000"));
  const moved = near.since(before);
  const [client] = done(stdout, "client");
  assert.ok(client !== undefined);
  await until("the client's END row", () => run.growing("network.csv")?.ends(client.pid)[0]);
  run.child.kill("SIGINT");
  const outcome = await run.finished;
  assert.equal(outcome.stderr, "");
  const table = run.table("network.csv");
  agrees(bytes(table, table.of(client.pid)), moved);
  // The server had its socket before the run.
  agrees(bytes(table, table.of(Number(serverPid))), { rx: moved.tx, tx: moved.rx });
  server.child.kill("SIGKILL");
  await server.finished;
});
