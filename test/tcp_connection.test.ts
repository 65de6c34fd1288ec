// The tcp_connection module against tshark, which watches the handshakes on the wire, and against what curl, nginx, redis and Python say of
// their own ports and processes. Owns: that each established connection is one row at either end, with the right process, and that filters
// and failures make none. Does not own: what goes over a connection.
// Runs beside others.
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Capture } from "./support/capture.js";
import type { Row, Table } from "./support/csv.js";
import { answers, configureWebServer, twoHosts } from "./support/netns.js";
import { scratch, workload } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_tcp_connection: "bpf", interval: 0.2 };
const peer = workload("net_peer");
const [web, store, plain, mapped, closed] = [18080, 16379, 17000, 17001, 17002];

/** "client:port server:port", whichever end the row is of. */
function tuple(row: Row): string {
  const local = `${row.text("SADDR")}:${row.text("SPORT")}`;
  const remote = `${row.text("DADDR")}:${row.text("DPORT")}`;
  return row.text("DIRECTION") === "connect" ? `${local} ${remote}` : `${remote} ${local}`;
}

function connections(table: Table, direction: "connect" | "accept"): Row[] {
  assert.deepEqual(table.header, "Ticks,PID,COMM,IP,DADDR,DPORT,SADDR,SPORT,DIRECTION".split(","));
  return table.rows.filter((row) => !row.isEnd && row.text("DIRECTION") === direction);
}

function noneLost(run: Run): void {
  assert.equal(run.record().modules.tcp_connection?.events_lost, 0);
}

/** What a Python program printed, a JSON text a line. */
function said<T>(stdout: string): T[] {
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}

/** The handshakes that were completed: SYN-ACK, then an acknowledgement by who began. The capture is over then. */
async function handshakes(capture: Capture): Promise<string[]> {
  const half = new Set<string>();
  const whole = new Set<string>();
  for (const packet of await capture.packets()) {
    if (packet.reset || !packet.acknowledges) continue;
    const [source, target] = [`${packet.saddr}:${packet.sport}`, `${packet.daddr}:${packet.dport}`];
    if (packet.syn) half.add(`${target} ${source}`);
    else if (half.has(`${source} ${target}`)) whole.add(`${source} ${target}`);
  }
  return [...whole].sort();
}

/** nginx with three workers on a port of ours, telling who served which port of the client. */
function manyWorkers(t: TestContext, folder: string): { command: readonly string[]; served: () => Map<string, number>; master: () => number } {
  const server = configureWebServer(folder, 3);
  writeFileSync(join(server.folder, "page"), "page");
  const file = join(folder, "nginx.conf");
  const text = readFileSync(file, "utf8")
    .replace("listen 80;", `listen ${web};`)
    .replace("listen [::]:80;", `listen [::]:${web};`)
    .replace("'$pid $bytes_sent $request_length'", "'$pid $remote_port'");
  writeFileSync(file, text);
  const pidFile = join(folder, "nginx.pid");
  const master = (): number => Number(readFileSync(pidFile, "utf8"));
  t.after(async () => {
    // A test that failed half-way must not leave workers behind; a master that ended took the file along.
    if (!existsSync(pidFile)) return;
    process.kill(master(), "SIGTERM");
    await until("nginx to end", () => !existsSync(pidFile));
  });
  return {
    command: server.command,
    served: () =>
      new Map(
        readFileSync(server.log, "utf8")
          .trim()
          .split("\n")
          .map((line) => line.split(" "))
          .map(([pid, port]) => [port ?? "", Number(pid)]),
      ),
    master,
  };
}

test("tcp_connection: --host: every handshake that tshark saw, once at either end, and whose it was", async (t) => {
  const { near, far } = await twoHosts(t);
  const folder = scratch(t);
  const nginx = manyWorkers(t, folder);
  const running = [
    new Command(t, far.inside(...nginx.command)),
    new Command(t, far.inside("redis-server", "--port", store.toString(), "--bind", "0.0.0.0", "::", "--save", "", "--protected-mode", "no", "--dir", folder)),
    new Command(t, far.inside(peer, "serve", far.ipv4, plain.toString())),
    new Command(t, far.inside("/usr/bin/python3", "-uc", `import socket
listener = socket.socket(socket.AF_INET6); listener.bind(("::", ${mapped})); listener.listen()
while True: listener.accept()[0].close()`)),
  ];
  for (const port of [web, store, plain, mapped]) await answers(far, port.toString());
  const old = new Command(t, near.inside(peer, "tcp", far.ipv4, plain.toString(), "1000", "1000", "hold"));
  await old.says(/^ready client/m);

  const ports = [web, store, plain, mapped, closed];
  const run = new Run(t, { config: { ...config, tcp_connection_ports: ports }, options: ["--host"] });
  await until("a first row", () => {
    far.ask("redis-cli", "-p", store.toString(), "ping");
    return (run.growing("tcp_connection.csv")?.rows.length ?? 0) > 0;
  });
  const capture = await Capture.start(t, near, far);
  old.child.kill("SIGUSR1");
  await old.says(/^done client/m);

  const expected: { comm: string; pid: number; server: string; port?: string }[] = [];
  const client = async (comm: string, server: string, ...command: string[]): Promise<void> => {
    const one = new Command(t, near.inside(...command));
    const { pid } = one;
    const { code, stdout, stderr } = await one.finished;
    assert.equal(code, 0, stderr);
    const port = /port=(\d+)/.exec(stdout)?.[1];
    expected.push({ comm, pid, server, ...(port === undefined ? {} : { port }) });
  };
  for (const address of [far.ipv4, `[${far.ipv6}]`, far.ipv4, `[${far.ipv6}]`, far.ipv4])
    await client("curl", "nginx", "curl", "-sS", "-f", "-o", "/dev/null", "-w", "port=%{local_port}", `http://${address}:${web}/page`);
  for (const address of [far.ipv4, far.ipv6]) await client("redis-cli", "redis-server", "redis-cli", "-h", address, "-p", store.toString(), "ping");
  await client("net_peer", "net_peer", peer, "tcp", far.ipv4, plain.toString(), "100", "100");
  for (const [family, address] of [
    ["AF_INET6", `::ffff:${far.ipv4}`],
    ["AF_INET", far.ipv4],
    ["AF_INET6", far.ipv6],
  ] as const)
    await client("python3", "python3", "/usr/bin/python3", "-c", `import socket
near = socket.socket(socket.${family}); near.connect(("${address}", ${mapped})); print(f"port={near.getsockname()[1]}"); near.recv(1)`);
  for (const address of [far.ipv4, far.ipv6]) assert.notEqual((await execute(t, near.inside("bash", "-c", `echo > /dev/tcp/${address}/${closed}`))).code, 0);

  const seen = await handshakes(capture);
  assert.equal(seen.length, expected.length);
  await until("the last accepted connection", () => (run.growing("tcp_connection.csv")?.rows ?? []).filter((row) => !row.isEnd && row.text("DADDR") !== "127.0.0.1").length >= 2 * expected.length);
  run.child.kill("SIGINT");
  assert.equal((await run.finished).stderr, "");
  noneLost(run);
  const table = run.table("tcp_connection.csv");
  const [made, accepted] = (["connect", "accept"] as const).map((direction) => connections(table, direction).filter((row) => row.text("DADDR") !== "127.0.0.1"));
  assert.ok(made !== undefined && accepted !== undefined);
  assert.deepEqual(made.map(tuple).sort(), seen);
  assert.deepEqual(accepted.map(tuple).sort(), seen);
  for (const row of [...made, ...accepted]) assert.equal(row.number("IP"), row.text("DADDR").includes(":") ? 6 : 4, row.toString());
  for (const [index, { comm, pid, server, port }] of expected.entries()) {
    const row: Row | undefined = made[index];
    assert.ok(row !== undefined);
    assert.deepEqual([row.text("COMM"), row.pid], [comm, pid]);
    if (port !== undefined) assert.equal(row.text("SPORT"), port);
    const other: Row | undefined = accepted.find((each) => tuple(each) === tuple(row));
    assert.ok(other !== undefined);
    assert.equal(other.text("COMM"), server);
    if (server === "nginx") assert.equal(other.pid, nginx.served().get(row.text("SPORT")));
    else if (server === "redis-server") assert.equal(other.pid, running[1]?.pid);
    else if (server === "python3") assert.equal(other.pid, running[3]?.pid);
  }
  process.kill(nginx.master(), "SIGTERM");
  await running[0]?.finished;
});

test("tcp_connection: of preforked workers the one that accepted, and nobody outside the tree", async (t) => {
  const { near, far } = await twoHosts(t);
  const nginx = manyWorkers(t, scratch(t));
  const run = new Run(t, { config, command: far.inside(...nginx.command) });
  await answers(far, web.toString());
  const capture = await Capture.start(t, near, far);
  const urls = Array.from({ length: 40 }, (_, index) => `http://${index % 2 === 0 ? far.ipv4 : `[${far.ipv6}]`}:${web}/page`);
  const { code, stderr } = await execute(t, near.inside("curl", "-sS", "-f", "--parallel", "--parallel-max", "8", "-H", "Connection: close", ...urls.flatMap((url) => ["-o", "/dev/null", url])));
  assert.equal(code, 0, stderr);
  const seen = await handshakes(capture);
  process.kill(nginx.master(), "SIGQUIT");
  await run.quietly();
  noneLost(run);
  const table = run.table("tcp_connection.csv");
  assert.deepEqual(connections(table, "connect"), []);
  const accepted = connections(table, "accept");
  assert.deepEqual(accepted.map(tuple).sort(), seen);
  const served = nginx.served();
  assert.equal(served.size, urls.length);
  for (const row of accepted) if (served.has(row.text("DPORT"))) assert.equal(row.pid, served.get(row.text("DPORT")), row.toString());
});

/** Who does what is told by the program itself: [direction, pid, client's port]. */
const oddities = `
import ctypes, json, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def say(direction, client, pid=None): print(json.dumps([direction, pid or os.getpid(), client])); sys.stdout.flush()
def child(body):
    if os.fork() == 0:
        body(); os._exit(0)
    os.wait()
listener = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET); listener.bind((sys.argv[1], 0)); listener.listen(16)
def connect():
    client = socket.create_connection(listener.getsockname()[:2]); say("connect", client.getsockname()[1]); return client
def accepted_with_address(): say("accept", listener.accept()[1][1])
def bare_accept(): return libc.accept(listener.fileno(), None, None)
def closed_untouched(port): os.close(bare_accept()); say("accept", port)
def ended_untouched(port): bare_accept(); say("accept", port)
# Who holds it to the end did not use it: it is not the close that tells.
def used_then_left(use, port):
    server = bare_accept(); use(server); say("accept", port); user = os.getpid()
    if os.fork() == 0:
        while os.getppid() == user: time.sleep(0.01)
        os._exit(0)
def left_by(use, client):
    done, held = os.pipe(); child(lambda: used_then_left(use, client.getsockname()[1])); os.close(held); os.read(done, 1)
client = connect(); child(accepted_with_address)
# Accepted here with an address, used by the child.
client = connect(); server, (_, port, *_) = listener.accept(); say("accept", port); child(lambda: server.send(b"x")); server.close()
client = connect(); child(lambda: closed_untouched(client.getsockname()[1]))
client = connect(); child(lambda: ended_untouched(client.getsockname()[1]))
client = connect(); client.send(b"x"); left_by(lambda server: os.read(server, 1), client)
client = connect(); left_by(lambda server: os.write(server, b"x"), client)
# Reset before anybody accepts.
client = connect(); client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); port = client.getsockname()[1]; client.close()
child(lambda: closed_untouched(port))
# A socket made here, connected by a child without waiting.
late = socket.socket(listener.family); late.setblocking(False)
def connect_late():
    late.connect_ex(listener.getsockname()); say("connect", late.getsockname()[1])
child(connect_late); child(lambda: closed_untouched(late.getsockname()[1]))
# Used again, after it was cut off.
libc.connect(late.fileno(), bytes(28), 28); late.setblocking(True); late.connect(listener.getsockname()); say("connect", late.getsockname()[1])
child(lambda: closed_untouched(late.getsockname()[1]))
# Both ends at once: it connects to itself.
own = socket.socket(listener.family); own.bind((sys.argv[1], 0)); own.connect(own.getsockname()); say("connect", own.getsockname()[1])
# Never accepted: who listens.
client = connect(); say("accept", client.getsockname()[1]); listener.close()
try: socket.create_connection(client.getpeername()[:2])
except OSError: pass
`;

test("tcp_connection: accepted with and without an address, unused, reset, inherited, used again, never accepted", async (t) => {
  for (const address of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) {
    const run = new Run(t, { config, command: ["/usr/bin/python3", "-c", oddities, address] });
    const { stdout } = await run.quietly();
    noneLost(run);
    const table = run.table("tcp_connection.csv");
    const seen = (["connect", "accept"] as const).flatMap((direction) => connections(table, direction).map((row) => [direction, row.pid, row.number(direction === "connect" ? "SPORT" : "DPORT")]));
    assert.deepEqual(seen.map(String).sort(), said<[string, number, number]>(stdout).map(String).sort());
    assert.equal(seen.length, 21);
    for (const pid of table.pids()) assert.ok(table.of(pid).at(-1)?.isEnd, "the END row is the last");
  }
});

test("tcp_connection: thousands of connections, each once", async (t) => {
  const script = `
import json, os, socket
listener = socket.socket(socket.AF_INET6); listener.bind(("::", 0)); listener.listen(512)
port, clients, each = listener.getsockname()[1], 4, 500
for i in range(3):
    if os.fork() == 0:
        while True:
            server, _ = listener.accept()
            with server:
                stop = server.recv(1) == b"q"
            if stop: os._exit(0)
family, address = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")
for i in range(clients):
    if os.fork() == 0:
        for k in range(each):
            with socket.create_connection(("::1" if i % 2 else "127.0.0.1", port)) as client: client.send(b"x"); client.recv(1)
        os._exit(0)
for i in range(clients): os.wait()
for i in range(3):
    with socket.create_connection(("::1", port)) as client: client.send(b"q"); client.recv(1)
for i in range(3): os.wait()
print(json.dumps(clients * each + 3))`;
  const run = new Run(t, { config, command: ["/usr/bin/python3", "-c", script] });
  const [count] = said<number>((await run.quietly()).stdout);
  noneLost(run);
  const table = run.table("tcp_connection.csv");
  const made = connections(table, "connect");
  assert.equal(made.length, count);
  // A port may be used again, so several rows may be equal; both ends have as many.
  assert.deepEqual(connections(table, "accept").map(tuple).sort(), made.map(tuple).sort());
});

test("tcp_connection: only the ports, the direction, the version of IP that were asked for", async (t) => {
  const script = `
import json, socket
for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1"):
    for port in ${plain}, ${mapped}:
        listener = socket.socket(family); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind((address, port)); listener.listen()
        client = socket.create_connection(listener.getsockname()[:2]); listener.accept()
        for direction in "connect", "accept": print(json.dumps([direction, 6 if address == "::1" else 4, port, client.getsockname()[1]]))`;
  for (const [options, wanted] of [
    [{}, () => true],
    [{ tcp_connection_direction: "connect" }, (direction: string) => direction === "connect"],
    [{ tcp_connection_direction: "accept", tcp_connection_ip: 4 }, (direction: string, ip: number) => direction === "accept" && ip === 4],
    [{ tcp_connection_ip: 6, tcp_connection_ports: [mapped, 0, 65535] }, (_: string, ip: number, port: number) => ip === 6 && port === mapped],
    [{ tcp_connection_ports: [closed] }, () => false],
  ] as const) {
    const run = new Run(t, { config: { ...config, ...options }, command: ["/usr/bin/python3", "-c", script] });
    const all = said<[string, number, number, number]>((await run.quietly()).stdout);
    assert.equal(all.length, 12);
    const rows = run.table("tcp_connection.csv").rows.filter((row) => !row.isEnd);
    const seen = rows.map((row) => {
      const [server, client] = row.text("DIRECTION") === "connect" ? ["DPORT", "SPORT"] : ["SPORT", "DPORT"];
      return [row.text("DIRECTION"), row.number("IP"), row.number(server), row.number(client)];
    });
    const expected = all.filter(([direction, ip, port]) => wanted(direction, ip, port));
    assert.deepEqual(seen.map(String).sort(), expected.map(String).sort(), JSON.stringify(options));
  }
});

/** A Python program that is watched from "ready" on, goes on at SIGUSR1 and prints clients' ports. */
async function attached(t: TestContext, script: string): Promise<{ run: Run; target: Command; ports: number[] }> {
  const head = "import ctypes, json, os, signal, socket\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n";
  const target = new Command(t, ["/usr/bin/python3", "-uc", head + script]);
  await target.says(/^ready$/m);
  const run = new Run(t, { config: { ...config, snoop_network: "bpf" }, options: ["-p", target.pid.toString()] });
  await run.ticked("network.csv", 2);
  target.child.kill("SIGUSR1");
  const [ports = ""] = await target.says(/^\[.*\]$/m);
  return { run, target, ports: JSON.parse(ports) as number[] };
}

test("tcp_connection: attached: what was there is no row, what was under way is", async (t) => {
  // The queue of the listener is full, so one connection does not get through until it accepts.
  const script = `
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(0)
there = socket.create_connection(listener.getsockname()); server, _ = listener.accept()
queued = socket.create_connection(listener.getsockname())
pending = socket.socket(); pending.setblocking(False); pending.connect_ex(listener.getsockname())
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
server.send(b"x"); there.recv(1); listener.accept()[0].close()
pending.setblocking(True); listener.accept(); fresh = socket.create_connection(listener.getsockname()); listener.accept()
print(json.dumps([each.getsockname()[1] for each in (pending, fresh)]), flush=True)
signal.sigwait([signal.SIGUSR1])`;
  const { run, target, ports } = await attached(t, script);
  target.child.kill("SIGUSR1");
  await run.quietly();
  noneLost(run);
  const table = run.table("tcp_connection.csv");
  for (const [direction, column] of [
    ["connect", "SPORT"],
    ["accept", "DPORT"],
  ] as const) {
    const rows = connections(table, direction);
    assert.deepEqual(rows.map((row) => row.number(column)).sort(), [...ports].sort(), direction);
    for (const row of rows) assert.equal(row.pid, target.pid);
  }
});

test("tcp_connection: at the end of the run, what is accepted but unused has its row, and what is not accepted is told", async (t) => {
  const script = `
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
clients = [socket.create_connection(listener.getsockname()) for i in range(3)]
ctypes.CDLL(None).accept(listener.fileno(), None, None)
print(json.dumps([each.getsockname()[1] for each in clients]), flush=True)
signal.sigwait([signal.SIGUSR1])`;
  const { run, target, ports } = await attached(t, script);
  run.child.kill("SIGINT");
  await run.finished;
  const table = run.table("tcp_connection.csv");
  assert.deepEqual(connections(table, "connect").map((row) => row.number("SPORT")), ports);
  assert.deepEqual(connections(table, "accept").map((row) => [row.pid, row.number("DPORT")]), [[target.pid, ports[0]]]);
  assert.match(readFileSync(run.path("run.json"), "utf8"), /tcp_connection: 2 established but not yet accepted connections/);
  target.child.kill("SIGUSR1");
  await target.finished;
});
