// The nic module against the interface's own counters, to the packet and byte, and against the queueing disciplines', which
// count per queue and in segments. Owns: that every row adds up. Does not own: whose packets they are.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test, type TestContext } from "node:test";
import { tried } from "./support/attempts.js";
import type { Row, Table } from "./support/csv.js";
import { twoHosts, type Host } from "./support/netns.js";
import { Command, program, refused, Run } from "./support/run.js";
import { delay, until } from "./support/wait.js";

interface Counts {
  readonly packets: number;
  readonly bytes: number;
}
type Both = Readonly<Record<"RX" | "TX", Counts>>;

const minus = (a: Counts, b: Counts): Counts => ({ packets: a.packets - b.packets, bytes: a.bytes - b.bytes });

/** What the interface itself has counted. */
function own(host: Host, device: string): Both {
  const text = execFileSync("ip", ["-n", host.namespace, "-j", "-s", "link", "show", "dev", device], { encoding: "utf8" });
  const [link] = JSON.parse(text) as { stats64: { rx: Counts; tx: Counts } }[];
  assert.ok(link !== undefined);
  const counts = ({ packets, bytes }: Counts): Counts => ({ packets, bytes });
  return { RX: counts(link.stats64.rx), TX: counts(link.stats64.tx) };
}

/** What the queueing disciplines have let through, by queue: segments, each with its headers. */
function queued(host: Host, device: string): Map<string, Counts> {
  const text = execFileSync("tc", ["-n", host.namespace, "-j", "-s", "qdisc", "show", "dev", device], { encoding: "utf8" });
  const all = JSON.parse(text) as { kind: string; parent?: string; packets: number; bytes: number }[];
  const leaves = all.filter((each) => each.kind === "pfifo");
  return new Map(leaves.map(({ parent, packets, bytes }) => [String(parseInt(parent?.split(":")[1] ?? "1", 16) - 1), { packets, bytes }]));
}

const of = (table: Table, direction: string, queue?: string): Row[] =>
  table.rows.filter((row) => row.text("DIRECTION") === direction && (queue === undefined ? row.text("QUEUE") !== "Total" : row.text("QUEUE") === queue));

function sum(table: Table, direction: string, queue?: string): Counts {
  const rows = of(table, direction, queue);
  return { packets: table.sum("PACKETS", rows), bytes: table.sum("BYTES", rows) };
}

/** Neighbours that need not ask for each other: nothing is sent but what the test sends. */
function acquaint(near: Host, far: Host, device = "veth"): void {
  for (const [host, other] of [[near, far], [far, near]] as const) {
    const mac = other.ask("cat", `/sys/class/net/${device}/address`).trim();
    for (const address of [other.ipv4, other.ipv6]) {
      host.ask("ip", "neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent");
    }
  }
}

/** Nothing has been counted for a while: reports to multicast groups are repeated within a second. */
async function quiet(host: Host, device: string): Promise<void> {
  let before = "";
  for (let same = 0; same < 12; same++) {
    const now = JSON.stringify(own(host, device));
    if (now !== before) same = 0;
    before = now;
    await delay(100);
  }
}

function iperfServer(t: TestContext, host: Host): Command {
  return new Command(t, host.inside("iperf3", "-s", "-1"), { deadline: 60 });
}

const listening = (host: Host): Promise<unknown> => until("iperf3", () => host.ask("ss", "-Hltn", "sport = :5201") !== "");

function start(t: TestContext, host: Host, device: string, command: string, more: object = {}): Run {
  const config = { snoop_nic: "bpf", nic_name: device, interval: 0.2, ...more };
  return new Run(t, { config, through: host.inside(...program), command: ["sh", "-c", `sleep 0.1; ${command}; sleep 0.3`], deadline: 60, input: "open" });
}

/** Runs it on the host with the module on; asserts that the table is right in itself and gives it. */
async function watched(t: TestContext, host: Host, device: string, command: string, more: object = {}): Promise<Table> {
  const run = start(t, host, device, command, more);
  await run.quietly();
  const table = run.table("nic.csv");
  assert.deepEqual(table.header, "Ticks,NAME,DIRECTION,QUEUE,AVG_SIZE,BPS,PPS,PACKETS,BYTES".split(","));
  assert.equal(run.record().modules.nic?.events_lost, 0);
  assert.deepEqual((run.record() as unknown as { warnings: string[] }).warnings, []);
  for (const direction of ["RX", "TX"] as const) {
    assert.deepEqual(sum(table, direction), sum(table, direction, "Total"), `queues and total, ${direction}`);
    assert.equal(of(table, direction, "Total").length, table.ticks().length);
  }
  for (const row of table.rows) {
    const [packets, bytes, size] = [row.number("PACKETS"), row.number("BYTES"), row.number("AVG_SIZE")];
    assert.equal(row.text("NAME"), device);
    assert.ok(Math.abs(size - (packets === 0 ? 0 : bytes / packets)) < 0.006, row.toString());
    // Both are per second of the same interval.
    assert.ok(Math.abs(row.number("BPS") * packets - row.number("PPS") * bytes * 8) <= 0.01 * (packets + bytes * 8), row.toString());
    assert.match(row.text("Ticks"), /^\d{10}\.\d{6}$/);
  }
  return table;
}

/** As `watched`, and the interface must have counted the same. */
async function exact(t: TestContext, host: Host, device: string, command: string): Promise<{ table: Table; moved: Both }> {
  const before = own(host, device);
  const table = await watched(t, host, device, command);
  const after = own(host, device);
  const moved = { RX: minus(after.RX, before.RX), TX: minus(after.TX, before.TX) };
  assert.deepEqual({ RX: sum(table, "RX", "Total"), TX: sum(table, "TX", "Total") }, moved);
  assert.ok(moved.RX.packets > 50 || moved.TX.packets > 50, JSON.stringify(moved));
  return { table, moved };
}

test("nic: between two hosts", async (t) => {
  const { near, far } = await twoHosts(t);
  acquaint(near, far);
  await quiet(near, "veth");
  await t.test("TCP, UDP and ICMP over veth, to the packet and byte, super-packets as the interface counts them", async (t) => {
    for (const options of ["-n 40M", "-n 40M -R", "-6 -n 10M --bidir", "-u -b 200M -n 10M -l 1400", "-u -6 -b 20M -n 1M -l 20"])
      await tried(t, async (t) => {
        const server = iperfServer(t, far);
        await listening(far);
        const { table, moved } = await exact(t, near, "veth", `iperf3 ${options} -c ${options.includes("-6") ? far.ipv6 : far.ipv4} >/dev/null`);
        if (options === "-n 40M") assert.ok(moved.TX.bytes / moved.TX.packets > 3000, "super-packets");
        assert.ok(Math.max(...of(table, "TX", "Total").map((row) => row.number("PPS"))) > 0);
        await server.finished;
      });
    await exact(t, near, "veth", `ping -q -c 200 -i 0.002 -s 3000 ${far.ipv4} >/dev/null`);
  });

  await t.test("queues, each as its queueing discipline counts; the receiver sees the queue the sender took", async (t) => {
    const queues = ["numtxqueues", "4", "numrxqueues", "4"];
    near.ask("ip", "link", "add", "quad", ...queues, "type", "veth", "peer", "name", "quad", ...queues, "netns", far.namespace);
    for (const [host, address] of [[near, "10.79.0.1"], [far, "10.79.0.2"]] as const) {
      host.ask("tc", "qdisc", "add", "dev", "quad", "root", "handle", "1:", "mq");
      for (const queue of [1, 2, 3, 4]) host.ask("tc", "qdisc", "add", "dev", "quad", "parent", `1:${queue}`, "pfifo");
      host.ask("ip", "link", "set", "quad", "addrgenmode", "none", "up");
      host.ask("ip", "address", "add", `${address}/24`, "dev", "quad");
    }
    near.ask("ping", "-q", "-c", "1", "10.79.0.2");
    await quiet(near, "quad");
    const server = iperfServer(t, far);
    await listening(far);
    const before = [queued(near, "quad"), queued(far, "quad")] as const;
    // The disciplines count segments, and iperf3 sends its report as one super-packet.
    const table = await watched(t, near, "quad", "iperf3 -u -b 4M -n 100K -l 1000 -P 16 --bidir -c 10.79.0.2 >/dev/null", { nic_packets: "wire" });
    for (const [index, direction, host] of [[0, "TX", near], [1, "RX", far]] as const) {
      const after = queued(host, "quad");
      assert.deepEqual([...after.keys()].sort(), ["0", "1", "2", "3"]);
      for (const [queue, counts] of after) {
        const sent = minus(counts, before[index].get(queue) ?? { packets: 0, bytes: 0 });
        assert.deepEqual(sum(table, direction, queue), sent, `${direction} queue ${queue}`);
        assert.equal(of(table, direction, queue).length, table.ticks().length);
        assert.ok(sent.packets > 10, `queue ${queue} was used`);
      }
    }
    await server.finished;
  });

  await t.test("nic_packets wire counts segments, each with its headers", async (t) => {
    for (const host of [near, far]) host.ask("tc", "qdisc", "add", "dev", "veth", "root", "pfifo", "limit", "10000");
    for (const address of [far.ipv4, far.ipv6]) {
      const server = iperfServer(t, far);
      await listening(far);
      const root = (host: Host): Counts => queued(host, "veth").get("0") ?? { packets: 0, bytes: 0 };
      const before = { TX: root(near), RX: root(far) };
      const table = await watched(t, near, "veth", `iperf3 -n 20M --bidir -c ${address} >/dev/null`, { nic_packets: "wire" });
      assert.deepEqual({ TX: sum(table, "TX"), RX: sum(table, "RX") }, { TX: minus(root(near), before.TX), RX: minus(root(far), before.RX) });
      for (const row of table.rows) assert.ok(row.number("AVG_SIZE") <= 1514, row.toString());
      await server.finished;
    }
  });

  await t.test("GRO: packets before they are put together, as veth counts them", async (t) => {
    for (const host of [near, far]) host.ask("ethtool", "-K", "veth", "gro", "on", "tso", "off", "gso", "off");
    for (const host of [near, far]) {
      const server = iperfServer(t, far);
      await listening(far);
      // Watched from either end.
      const iperf = `iperf3 -n 5M --bidir -c ${far.ipv4} >/dev/null`;
      const { moved } = await exact(t, host, "veth", host === near ? iperf : near.inside("sh", "-c", `'${iperf}'`).join(" "));
      assert.ok(moved.RX.bytes / moved.RX.packets <= 1500 && moved.RX.packets > 300, JSON.stringify(moved));
      await server.finished;
    }
    for (const host of [near, far]) host.ask("ethtool", "-K", "veth", "gro", "off", "tso", "on", "gso", "on");
  });

  await t.test("what the driver refuses is not sent", async (t) => {
    far.ask("ip", "link", "set", "veth", "mtu", "1300"); // the far end of a veth drops what is longer
    await quiet(near, "veth");
    const ping = (size: number): string => `ping -q -c 100 -i 0.002 -W 0.1 -s ${size} ${far.ipv4} >/dev/null`;
    const { moved } = await exact(t, near, "veth", `${ping(1400)}; ${ping(1000)}`);
    assert.deepEqual(moved.TX, { packets: 100, bytes: 100 * 1042 });
  });

  await t.test("loopback counts no link header, a bridge none of what it receives", async (t) => {
    const { moved } = await exact(t, near, "lo", "ping -q -c 100 -i 0.002 -s 100 127.0.0.1 >/dev/null; ping -q -c 100 -i 0.002 -s 100 ::1 >/dev/null");
    assert.deepEqual(moved.RX, { packets: 400, bytes: 200 * 128 + 200 * 148 });
    for (const [each, address] of [[near, "10.78.0.1"], [far, "10.78.0.2"]] as const) {
      for (const args of ["add br0 type bridge", "set br0 type bridge mcast_snooping 0", "set br0 addrgenmode none", "set veth master br0", "set br0 up"]) each.ask("ip", "link", ...args.split(" "));
      each.ask("ip", "address", "add", `${address}/24`, "dev", "br0");
    }
    near.ask("ping", "-q", "-c", "1", "10.78.0.2");
    await quiet(near, "br0");
    for (const options of ["-n 20M", "-n 20M -R"]) {
      const server = iperfServer(t, far);
      await listening(far);
      const ends = await exact(t, near, "br0", `iperf3 ${options} -c 10.78.0.2 >/dev/null`);
      assert.ok(ends.moved.RX.packets > 50);
      await server.finished;
    }
  });

  await t.test("packets that pass no hook are missing, and run.json says so", async (t) => {
    const bypass = `import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("lo", 0))
s.setsockopt(263, 20, 1) # PACKET_QDISC_BYPASS
for _ in range(500): s.send(bytes(12) + b"\\x88\\xb5" + bytes(400))
`;
    const run = start(t, near, "lo", `printf '${bypass.replaceAll("\n", "\\n")}' | python3 -`);
    await run.quietly();
    const { warnings } = run.record() as unknown as { warnings: string[] };
    assert.ok(warnings.some((each) => each.includes("lo itself counted 500 tx packets, the table has 0")), JSON.stringify(warnings));
  });

  await t.test("the interface goes and comes back", async (t) => {
    const run = start(t, near, "veth", `ping -q -c 100 -i 0.002 ${far.ipv4} >/dev/null; echo first; read go; ping -q -c 150 -i 0.002 ${far.ipv4} >/dev/null; echo second; read go`);
    run.child.stdin?.on("error", () => undefined);
    await run.says(/first/);
    const warnings = (): string => JSON.stringify((run.record() as unknown as { warnings: string[] }).warnings);
    const index = near.ask("cat", "/sys/class/net/veth/ifindex");
    await until("the first packets' row", () => sum(run.table("nic.csv", true), "TX").packets === 100);
    near.ask("ip", "link", "del", "veth");
    await until("the message", () => warnings().includes("the interface veth is gone"));
    const rows = run.table("nic.csv", true).rows.length;
    near.ask("ip", "link", "add", "other", "type", "veth"); // takes the next index
    near.ask("ip", "link", "add", "veth", "type", "veth", "peer", "name", "veth", "netns", far.namespace);
    for (const host of [near, far]) {
      host.ask("ip", "address", "add", `${host.ipv4}/24`, "dev", "veth");
      host.ask("ip", "link", "set", "veth", "addrgenmode", "none", "up");
    }
    assert.notEqual(near.ask("cat", "/sys/class/net/veth/ifindex"), index);
    await until("its return", () => warnings().includes("veth is back"));
    const before = own(near, "veth");
    assert.ok(run.table("nic.csv", true).rows.length >= rows);
    run.write("\n");
    await run.says(/second/);
    await until("the second packets' rows", () => sum(run.table("nic.csv", true), "TX").packets >= 250);
    const second = minus(own(near, "veth").TX, before.TX);
    run.write("\n");
    assert.equal((await run.finished).code, 0);
    assert.ok(second.packets >= 150);
    const all = sum(run.table("nic.csv"), "TX", "Total");
    assert.equal(all.packets, 100 + own(near, "veth").TX.packets);
    assert.equal(all.bytes, 100 * 98 + own(near, "veth").TX.bytes);
  });
});

test("nic: no interface, or one that is not there, is refused", async (t) => {
  const run = async (config: object): Promise<Awaited<Run["finished"]>> => new Run(t, { config: { snoop_nic: "bpf", ...config }, command: ["true"] }).finished;
  refused(await run({}), 2, "nic_name", "lo");
  refused(await run({ nic_name: "nosuch0" }), 3, '"nosuch0"', "There are:", "lo");
  refused(await run({ nic_name: "much-too-long-for-it" }), 2, "nic_name", "15");
  refused(await run({ nic_name: 3 }), 2, "nic_name");
  refused(await run({ nic_name: "lo", nic_packets: "some" }), 2, "nic_packets", "counters", "wire");
});
