// Who owns a socket, by every table that asks for it at once: network, tcp_bytes, tcp_connection, tcp_inerrs, and nic beside them.
// Owns: sockets that are passed from process to process (SCM_RIGHTS), entries that go away with their socket, modules together that
// attach each program once. The programs say what they moved; interfaces and the kernel's own accounts are the other witnesses.
// Does not own: inherited sockets, forked servers, sockets older than the run: the tests of those modules have them.
// Runs beside others.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { answers, twoHosts, type Counters, type Host } from "./support/netns.js";
import { root, scratch, workload } from "./support/paths.js";
import { Command, execute, program, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_network: "bpf", snoop_tcp_bytes: "bpf", snoop_tcp_connection: "bpf", interval: 0.2 };
const peer = workload("net_peer");

/** What the tables give to a process: packets, payload, of that what was sent again, "direction local-port" of its connections. */
function shares(run: Run, pid: number): { packets: Counters; payload: Counters; again: number; connections: string[] } {
  const bytes = (name: string): Counters => {
    const table = run.table(name);
    const rows = table.of(pid);
    return { rx: Math.round(table.sum("RX_KB", rows) * 1024), tx: Math.round(table.sum("TX_KB", rows) * 1024) };
  };
  const table = run.table("tcp_bytes.csv");
  const again = Math.round(table.sum("RETRANS_KB", table.of(pid)) * 1024);
  const payload = bytes("tcp_bytes.csv");
  const made = run.table("tcp_connection.csv").of(pid).filter((row) => !row.isEnd);
  return {
    packets: bytes("network.csv"),
    payload: { rx: payload.rx, tx: payload.tx - again },
    again,
    connections: made.map((row) => `${row.text("DIRECTION")} ${row.text("SPORT")}`),
  };
}

/** The end of the other's stream counts as a byte received; rows are rounded to thousandths of a KB. */
function moved(seen: Counters, expected: Counters, what: string): void {
  assert.ok(seen.rx >= expected.rx - 1 && seen.rx <= expected.rx + 3, `${what}: received ${JSON.stringify({ seen, expected })}`);
  assert.ok(seen.tx >= expected.tx - 1 && seen.tx <= expected.tx + 1, `${what}: sent ${JSON.stringify({ seen, expected })}`);
}

/** As packets: at least the payload, at most so with headers, handshakes and acknowledgements. */
function carried(seen: Counters, payload: Counters, what: string): void {
  for (const way of ["rx", "tx"] as const) {
    const most = payload[way] * 1.06 + (payload.rx + payload.tx) * 0.05 + 1000;
    assert.ok(seen[way] >= payload[way] && seen[way] <= most, `${what}: ${way} ${JSON.stringify({ seen, payload })}`);
  }
}

function nothingLost(run: Run): void {
  for (const [name, { state, events_lost }] of Object.entries(run.record().modules)) assert.deepEqual({ name, state, events_lost }, { name, state: "stopped", events_lost: 0 });
}

const python = (host: Host, script: string, ...args: string[]): string[] => host.inside("/usr/bin/python3", "-uc", `import os, select, signal, socket, sys, time\n${script}`, ...args);

/** Reads a number of bytes from a socket. */
const all = `
def all_of(s, n):
    while n > 0:
        got = len(s.recv(min(n, 65536)))
        if not got: sys.exit("too few bytes")
        n -= got
`;

test("owner: a connection, and a listener, passed within the tree: the receiver's from its first use", async (t) => {
  const { near, far } = await twoHosts(t);
  const before = far.counters();
  const run = new Run(t, {
    config,
    command: python(
      far,
      `${all}
listener = socket.create_server(("${far.ipv4}", 7700))
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
receiver = os.fork()
if receiver == 0:
    listener.close(); here.close()
    _, (fd, *_), _, _ = socket.recv_fds(there, 1, 1)
    given = socket.socket(fileno=fd); all_of(given, 100000); given.sendall(bytes(2000000)); given.recv(1); given.close()
    _, (fd, *_), _, _ = socket.recv_fds(there, 1, 1)
    own = socket.socket(fileno=fd).accept()[0]; all_of(own, 300000); own.sendall(bytes(400000)); own.recv(1); own.close()
    os._exit(0)
connection = listener.accept()[0]; connection.sendall(bytes(500000))
# The sender of the fd has looked at nothing of what waits to be read.
select.select([connection], [], [])
socket.send_fds(here, [b"x"], [connection.fileno()]); connection.close()
socket.send_fds(here, [b"x"], [listener.fileno()]); listener.close()
os.waitpid(receiver, 0); print("pids", os.getpid(), receiver)`,
    ),
  });
  await answers(far, "7700");
  const client = await execute(
    t,
    python(
      near,
      `${all}
def connect(): return socket.create_connection(("${far.ipv4}", 7700))
s = connect(); all_of(s, 500000); s.sendall(bytes(100000)); all_of(s, 2000000); s.close()
s = connect(); s.sendall(bytes(300000)); all_of(s, 400000); s.close()`,
    ),
  );
  assert.equal(client.code, 0, client.stderr);
  const { stdout } = await run.quietly();
  const wire = far.since(before);
  const [, main = 0, receiver = 0] = (/^pids (\d+) (\d+)$/m.exec(stdout) ?? []).map(Number);
  const [giver, taker] = [shares(run, main), shares(run, receiver)];
  assert.deepEqual([giver.connections, taker.connections], [["accept 7700"], ["accept 7700"]]);
  // What arrived before the receiver had used it is in the giver's packets, and its payload with who read it: no more than a window.
  const early = 100000 - (taker.payload.rx - 300000);
  assert.ok(early > -3 && early <= 100000, `${early} bytes`);
  moved(giver.payload, { rx: Math.max(early, 0), tx: 500000 }, "giver's payload");
  moved(taker.payload, { rx: 400000 - Math.max(early, 0), tx: 2400000 }, "receiver's payload");
  assert.ok(giver.packets.tx >= 500000 && giver.packets.tx < 600000 + giver.again && giver.packets.rx < 130000, JSON.stringify(giver));
  assert.ok(taker.packets.tx >= 2400000 && taker.packets.rx >= 300000, JSON.stringify(taker));
  for (const way of ["rx", "tx"] as const) {
    const sum = giver.packets[way] + taker.packets[way];
    assert.ok(Math.abs(sum - wire[way]) <= wire[way] / 100, `${way}: ${sum}, interface ${wire[way]}`);
  }
  nothingLost(run);
});

test("owner: a connection passed into the tree is its receiver's, until one outside uses it again", async (t) => {
  const { near, far } = await twoHosts(t);
  const path = join(scratch(t), "door");
  // Whoever uses a socket has it when the call returns: packets of a first, long call would still be the former's. So that is a byte.
  const server = new Command(t, python(far, `${all}\ns = socket.create_server(("${far.ipv4}", 7701)).accept()[0]; all_of(s, 500000); s.sendall(bytes(700000)); all_of(s, 900000 + 300000); s.sendall(b"x"); s.recv(1)`));
  await answers(far, "7701");
  const outsider = new Command(
    t,
    python(
      near,
      `${all}
door = socket.socket(socket.AF_UNIX); door.bind("${path}"); door.listen()
s = socket.create_connection(("${far.ipv4}", 7701)); s.sendall(bytes(500000))
print("ready"); one = door.accept()[0]; socket.send_fds(one, [b"x"], [s.fileno()])
one.recv(1); s.send(bytes(1)); s.sendall(bytes(299999)); all_of(s, 1); one.sendall(b"x"); one.recv(1)`,
    ),
  );
  await outsider.says(/^ready$/m);
  const run = new Run(t, {
    config,
    command: python(
      near,
      `${all}
door = socket.socket(socket.AF_UNIX); door.connect("${path}"); _, (fd, *_), _, _ = socket.recv_fds(door, 1, 1)
given = socket.socket(fileno=fd); given.send(bytes(1)); all_of(given, 700000); given.sendall(bytes(899999))
# All of it is acknowledged: what comes now is not its own.
import fcntl, struct, termios
while struct.unpack("i", fcntl.ioctl(given, termios.TIOCOUTQ, bytes(4)))[0]: time.sleep(0.01)
door.sendall(b"x"); door.recv(1); given.send(b"x"); print("pid", os.getpid())`,
    ),
  });
  const { stdout } = await run.quietly();
  const [, pid = 0] = (/^pid (\d+)$/m.exec(stdout) ?? []).map(Number);
  const { packets, payload, again, connections } = shares(run, pid);
  assert.deepEqual(connections, []);
  assert.equal(payload.tx, 900001);
  assert.ok(payload.rx > 0 && payload.rx <= 700001, JSON.stringify(payload));
  // The other end's bytes may have been on their way before the first use here: those were nobody's.
  carried(packets, { rx: Math.min(packets.rx, 700000), tx: 900001 + again }, "receiver's packets");
  assert.ok(packets.rx < 700000 * 1.06 + 60000, JSON.stringify(packets));
  nothingLost(run);
  for (const each of [outsider, server]) {
    each.child.kill("SIGKILL");
    await each.finished;
  }
});

test("owner: a handshake is who connects', not who made the socket", async (t) => {
  const { near, far } = await twoHosts(t);
  const listening = new Command(t, python(far, `l = socket.create_server(("${far.ipv4}", 7710)); c = l.accept()[0]; print("accepted"); c.recv(1)`));
  await answers(far, "7710");
  const before = near.counters();
  // Nobody sends a byte: what passes is the handshake and the end.
  const script = `
made = socket.socket(); child = os.fork()
if child == 0:
    made.connect(("${far.ipv4}", 7710)); time.sleep(0.3); os._exit(0)
print(os.getpid(), child); time.sleep(0.1); made.close(); os.wait()`;
  const run = new Run(t, { config: { snoop_network: "bpf", interval: 0.1 }, command: python(near, script) });
  const { stdout } = await run.quietly();
  await listening.finished;
  const [maker = 0, child = 0] = stdout.trim().split(" ").map(Number);
  const table = run.table("network.csv");
  for (const column of ["RX_KB", "TX_KB"] as const) assert.equal(table.sum(column, table.of(maker)), 0, column);
  const sent = Math.round(table.sum("TX_KB", table.of(child)) * 1024);
  assert.ok(sent >= 74 + 66 + 66 - 1 && sent <= near.since(before).tx, `${sent} B: SYN, ACK and FIN`);
});

test("owner: an entry goes away with its socket", async (t) => {
  // Kept entries, of some 300 bytes each, would be 40 MB in three maps.
  const unreclaimable = (): number => Number(/^SUnreclaim:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]);
  const { near } = await twoHosts(t);
  const run = new Run(t, {
    config,
    command: python(
      near,
      `
def made_and_closed(count):
    listener = socket.create_server(("127.0.0.1", 0))
    for i in range(count):
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
        if i % 10: continue
        client = socket.create_connection(listener.getsockname()); server = listener.accept()[0]; client.send(b"x"); server.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0])); client.close(); server.close()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
made_and_closed(2000); print("warm", os.getpid()); signal.sigwait([signal.SIGUSR1])
made_and_closed(120000); print("done"); signal.sigwait([signal.SIGUSR1])`,
    ),
    deadline: 120,
  });
  const [, pid] = await run.says(/^warm (\d+)$/m);
  const before = unreclaimable();
  process.kill(Number(pid), "SIGUSR1");
  await run.says(/^done$/m, 60);
  const kilobytes = await until("the memory to be given back", () => {
    const more = unreclaimable() - before;
    return more < 15000 ? more : undefined;
  });
  t.diagnostic(`${kilobytes} kB more than before 120000 sockets`);
  process.kill(Number(pid), "SIGUSR1");
  await run.quietly();
  nothingLost(run);
});

/** The kernel's own list of what a process has attached: program and place of each link. */
function attachments(pid: number): { program: string; place: string }[] {
  const texts = readdirSync(`/proc/${pid}/fdinfo`).map((fd) => {
    try {
      return readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    } catch {
      return ""; // closed meanwhile
    }
  });
  return texts.flatMap((text) => {
    const field = (name: string): string => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(text)?.[1] ?? "";
    return field("link_id") === "" ? [] : [{ program: field("prog_id"), place: field("tp_name") || field("attach_type") }];
  });
}

const suite = { ...config, snoop_tcp_inerrs: "bpf", snoop_nic: "bpf", nic_name: "veth" };
const badSegments = join(root, "test/support/bad_segments.py");

async function talkTo(t: TestContext, near: Host, far: Host): Promise<{ bad: number }> {
  const client = await execute(t, near.inside(peer, "tcp", far.ipv4, "7702", "9000000", "5000000"));
  assert.equal(client.code, 0, client.stderr);
  const sender = await execute(t, near.inside("python3", badSegments, "send", near.ipv4, far.ipv4, "7411", "veth"));
  assert.equal(sender.code, 0, sender.stderr);
  const checksums = sender.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { name: string; count: number });
  return { bad: checksums.find(({ name }) => name === "checksum")?.count ?? 0 };
}

for (const mode of ["tree", "host"] as const) {
  test(`owner: all that ask for it, and nic, in one run (${mode}): every table right, every program attached once`, async (t) => {
    const { near, far } = await twoHosts(t);
    const servers = ["sh", "-c", `${peer} prefork ${far.ipv4} 7702 1 & python3 ${badSegments} serve 7411 3 & wait`];
    // Not by `ip netns exec`: that hides where cgroup2 is mounted.
    const start = (options: object): Run => new Run(t, { config: suite, through: ["nsenter", `--net=/var/run/netns/${far.namespace}`, ...program], ...options });
    const before = far.counters();
    const run = mode === "tree" ? start({ command: servers }) : start({ options: ["--host"] });
    if (mode === "host") await run.ticked("nic.csv", 2);
    const watched = mode === "tree" ? run : new Command(t, far.inside(...servers));
    for (const port of ["7702", "7411"]) await answers(far, port);
    const [, bad] = await watched.says(/^ready (\d+)$/m);

    const links = attachments(run.pid);
    const at = (place: string): number => links.filter((link) => link.place === place).length;
    // owner, tcp_bytes and tcp_connection; with them network, for raw sockets.
    assert.deepEqual([at("sock_send_length"), at("sock_recv_length")], [3, 4]);
    const twice = links.filter(({ program: id, place }, index) => id !== "" && links.findIndex((each) => each.program === id && each.place === place) !== index);
    assert.deepEqual(twice, []);

    const sent = await talkTo(t, near, far);
    await watched.finished;
    const wire = far.since(before);
    if (mode === "host") {
      const served = Number(/^done server (\d+)/m.exec(watched.stdout)?.[1]);
      await until("the END row", () => run.growing("tcp_bytes.csv")?.ends(served)[0]);
      run.child.kill("SIGINT");
      assert.equal((await run.finished).stderr, "");
    } else {
      await run.quietly();
    }

    const [, served = 0, down = 0, up = 0] = (/^done server (\d+) (\d+) (\d+)$/m.exec(watched.stdout) ?? []).map(Number);
    const share = shares(run, served);
    assert.deepEqual([down, up], [9000001, 5000016]);
    moved(share.payload, { rx: up, tx: down }, "server's payload");
    carried(share.packets, { rx: up, tx: down + share.again }, "server's packets");
    assert.deepEqual(share.connections, ["accept 7702"]);
    assert.deepEqual(shares(run, Number(bad)).connections, ["accept 7411", "accept 7411", "accept 7411"]);
    const refusals = run.table("tcp_inerrs.csv").of(Number(bad)).filter((row) => !row.isEnd && row.text("REASON") === "TCP_CSUM");
    assert.ok(sent.bad > 0);
    assert.equal(refusals.length, sent.bad);
    const nic = run.table("nic.csv");
    const total = (direction: string): number => nic.sum("BYTES", nic.rows.filter((row) => row.text("QUEUE") === "Total" && row.text("DIRECTION") === direction));
    for (const [seen, own] of [
      [total("RX"), wire.rx],
      [total("TX"), wire.tx],
    ] as const)
      assert.ok(Math.abs(seen - own) <= 2000, `nic ${seen}, interface ${own}`);
    nothingLost(run);
  });
}
