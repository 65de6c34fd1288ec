// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, openSync, readlinkSync, readdirSync } from "node:fs";
import { after, test, type TestContext } from "node:test";
import { BpfError, BpfObject, kernel, type Link, type NetfilterOptions } from "libbpf-ts";
import { load, out, until } from "./support.js";

interface Seen {
  packets: bigint;
  bytes: bigint;
}

type Hook = NetfilterOptions["hook"];

const hooks: readonly Hook[] = ["pre_routing", "local_in", "forward", "local_out", "post_routing"];
const nftHooks = ["prerouting", "input", "forward", "output", "postrouting"];
const families = { ipv4: 2, ipv6: 10 } as const;
const own = "/proc/self/ns/net";

const loaded = BpfObject.open(out("netfilter.bpf.o")).load();
after(() => {
  loaded.close();
});
const program = loaded.program("count_packets");
const counts = loaded.map<{ space: number; family: number; hook: number }, Seen>("seen");

let made = 0;

/** A network namespace with loopback up, named in /run/netns. */
class Space {
  readonly name = `libbpf-ts-${String(process.pid)}-${String(++made)}`;
  readonly fd: number;
  readonly inode: number;
  #removed = false;

  constructor(t: TestContext) {
    execFileSync("ip", ["netns", "add", this.name]);
    t.after(() => {
      this.remove();
    });
    this.fd = openSync(`/run/netns/${this.name}`, "r");
    this.inode = fstatSync(this.fd).ino;
    // Inode numbers of namespaces that are gone come again.
    for (const [key] of counts.entries()) if (key.space === this.inode) counts.delete(key);
    this.ip("link", "set", "lo", "up");
  }

  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    closeSync(this.fd);
    execFileSync("ip", ["netns", "del", this.name]);
  }

  ip(...args: string[]): string {
    return execFileSync("ip", ["-n", this.name, ...args], { encoding: "utf8" });
  }

  inside(...command: string[]): string {
    return execFileSync("ip", ["netns", "exec", this.name, ...command], { encoding: "utf8" });
  }

  /** What the program has counted here. */
  seen(family: keyof typeof families, hook: Hook): { packets: number; bytes: number } {
    const key = { space: this.inode, family: families[family], hook: hooks.indexOf(hook) };
    const { packets, bytes } = counts.get(key) ?? { packets: 0n, bytes: 0n };
    return { packets: Number(packets), bytes: Number(bytes) };
  }

  /** Has nftables count at every hook as well. */
  witness(): void {
    const chains = hooks.map(
      (hook, index) =>
        `chain ${hook} { type filter hook ${nftHooks[index] ?? ""} priority 0; ` +
        `meta nfproto ipv4 counter name ipv4_${hook}; meta nfproto ipv6 counter name ipv6_${hook}; }`,
    );
    const names = hooks.flatMap((hook) => [`counter ipv4_${hook} {}`, `counter ipv6_${hook} {}`]);
    this.inside("nft", `table inet witness {\n${[...names, ...chains].join("\n")}\n}`);
  }

  /** What nftables has counted since. */
  witnessed(): Map<string, { packets: number; bytes: number }> {
    interface Item {
      counter?: { name: string; packets: number; bytes: number };
    }
    const { nftables } = JSON.parse(this.inside("nft", "-j", "list", "counters")) as { nftables: Item[] };
    return new Map(
      nftables.flatMap(({ counter }) =>
        counter ? [[counter.name, { packets: counter.packets, bytes: counter.bytes }]] : [],
      ),
    );
  }
}

function attachEverywhere(space: Space): Link[] {
  return (["ipv4", "ipv6"] as const).flatMap((family) =>
    hooks.map((hook) => program.attachNetfilter({ family, hook, priority: -1, namespace: space.fd })),
  );
}

/** Two ends on either side of a router, by IPv4 and IPv6. */
function connect(near: Space, router: Space, far: Space): void {
  for (const [number, end] of [near, far].entries()) {
    const net = String(number + 1);
    end.ip("link", "add", "veth", "type", "veth", "peer", "name", `to${net}`, "netns", router.name);
    for (const [space, device, host] of [
      [end, "veth", "1"],
      [router, `to${net}`, "254"],
    ] as const) {
      space.inside("sysctl", "-q", "-w", `net.ipv6.conf.${device}.router_solicitations=0`);
      space.ip("address", "add", `10.78.${net}.${host}/24`, "dev", device);
      space.ip("address", "add", `fd78:${net}::${host}/64`, "dev", device, "nodad");
      space.ip("link", "set", device, "up");
    }
    end.ip("route", "add", "default", "via", `10.78.${net}.254`);
    end.ip("-6", "route", "add", "default", "via", `fd78:${net}::254`);
  }
  router.inside("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
}

test("SEC(netfilter) has its type, whatever libbpf knows; the kernel says it has it", () => {
  const object = BpfObject.open(out("netfilter.bpf.o"));
  assert.equal(object.programs.get("count_packets")?.type, "netfilter");
  assert.equal(object.programs.get("count_packets")?.section, "netfilter");
  assert.equal(object.programs.get("optional")?.type, "netfilter");
  assert.equal(object.programs.get("optional")?.autoload, false);
  object.close();
  assert.deepEqual(kernel.hasProgramType("BPF_PROG_TYPE_NETFILTER"), {
    supported: true,
    reason: "the kernel accepts programs of type netfilter",
  });
  assert.equal(kernel.hasHelper("netfilter", "ktime_get_ns").supported, true);
  assert.equal(kernel.hasHelper("netfilter", "override_return").supported, false);
});

test("every hook of three namespaces at once, packet for packet and byte for byte as nftables", async (t) => {
  const [near, router, far] = [new Space(t), new Space(t), new Space(t)];
  const all = [near, router, far];
  // Both before the first packet.
  for (const space of all) space.witness();
  const links = all.flatMap(attachEverywhere);
  connect(near, router, far);
  near.inside("ping", "-q", "-c", "7", "-i", "0.01", "-s", "1000", "10.78.2.1");
  near.inside("ping", "-q", "-c", "5", "-i", "0.01", "-s", "200", "fd78:2::1");
  far.inside("ping", "-q", "-c", "3", "-i", "0.01", "127.0.0.1");
  // Neighbour discovery goes on for a while: both count it, but are not read at the same moment.
  const same = (): boolean =>
    all.every((space) =>
      [...space.witnessed()].every(([name, said]) => {
        const { packets, bytes } = space.seen(name.slice(0, 4) as "ipv4", name.slice(5) as Hook);
        return packets === said.packets && bytes === said.bytes;
      }),
    );
  await until(same);
  assert.deepEqual(router.seen("ipv4", "forward"), { packets: 14, bytes: 14 * 1028 });
  assert.deepEqual(router.seen("ipv6", "forward"), { packets: 10, bytes: 10 * 248 });
  assert.equal(router.seen("ipv4", "local_in").packets, 0);
  assert.deepEqual(near.seen("ipv4", "local_out"), { packets: 7, bytes: 7 * 1028 });
  assert.equal(far.seen("ipv4", "local_in").packets, 7 + 6);
  assert.equal(near.seen("ipv4", "forward").packets, 0);
  for (const link of links) link.close();
  assert.ok(links.every((link) => link.closed));
  near.inside("ping", "-q", "-c", "1", "10.78.2.1");
  assert.equal(router.seen("ipv4", "forward").packets, 14);
});

test("without a namespace it is our own; entering another one leaves every thread where it was", (t) => {
  const space = new Space(t);
  const before = readlinkSync(own);
  const inode = Number(/\d+/.exec(before)?.[0]);
  const there = program.attachNetfilter({
    family: "ipv4",
    hook: "local_out",
    priority: 4321,
    namespace: space.fd,
  });
  for (const thread of readdirSync("/proc/self/task")) {
    assert.equal(readlinkSync(`/proc/self/task/${thread}/ns/net`), before, thread);
  }
  using here = program.attachNetfilter({ family: "ipv4", hook: "local_out", priority: 4321 });
  assert.equal(here.closed, false);
  const key = { space: inode, family: families.ipv4, hook: 3 };
  const already = counts.get(key)?.packets ?? 0n;
  execFileSync("ping", ["-q", "-c", "2", "-i", "0.01", "127.0.0.1"]);
  assert.ok((counts.get(key)?.packets ?? 0n) - already >= 4n);
  assert.equal(space.seen("ipv4", "local_out").packets, 0);
  there.close();
});

test("refusals say what to do", (t) => {
  const space = new Space(t);
  const place = { family: "ipv4", hook: "forward", namespace: space.fd } as const;
  const fails = (options: NetfilterOptions, code: string, words: RegExp): void => {
    assert.throws(
      () => program.attachNetfilter(options),
      (error) =>
        error instanceof BpfError &&
        error.code === code &&
        error.operation === "attach to netfilter" &&
        error.object === "count_packets" &&
        words.test(`${error.message} ${error.hint}`),
      code,
    );
  };
  for (const priority of [-(2 ** 31), 2 ** 31 - 1]) {
    fails({ ...place, priority }, "ERANGE", /keeps priorities -2147483648 and 2147483647 for itself/);
  }
  using lowest = program.attachNetfilter({ ...place, priority: -(2 ** 31) + 1 });
  using highest = program.attachNetfilter({ ...place, priority: 2 ** 31 - 2 });
  assert.ok(!lowest.closed && !highest.closed);
  fails({ ...place, priority: 2 ** 31 - 2 }, "EBUSY", /another BPF program has this priority there/);
  fails({ ...place, priority: 1, namespace: 999_999 }, "EBADF", /no such network namespace/);
  const file = openSync("/dev/null", "r");
  fails({ ...place, priority: 1, namespace: file }, "EINVAL", /cannot be entered/);
  closeSync(file);
  assert.throws(() => program.attachNetfilter({ ...place, priority: 2 ** 31 }), TypeError);
  assert.throws(() => program.attachNetfilter({ ...place, hook: "input" as Hook, priority: 1 }), TypeError);
  using other = load("fork_seen");
  assert.throws(
    () => other.program("fork_seen").attachNetfilter({ ...place, priority: 1 }),
    (error) => error instanceof BpfError && error.code === "EINVAL" && error.hint.includes("type does not fit"),
  );
});

test("closing the object closes its links, and the place is free again", (t) => {
  const space = new Space(t);
  const object = BpfObject.open(out("netfilter.bpf.o")).load();
  const again = object.program("count_packets");
  const here = { family: "ipv4", hook: "local_in", priority: 5, namespace: space.fd } as const;
  const link = again.attachNetfilter(here);
  const map = object.map<unknown, Seen>("seen");
  space.inside("ping", "-q", "-c", "1", "127.0.0.1");
  assert.deepEqual([...map.entries()].map(([, { packets }]) => packets), [2n]);
  object.close();
  assert.equal(link.closed, true);
  program.attachNetfilter(here).close();
});

test("a namespace whose name and processes are gone lives until its link is closed", async (t) => {
  const outside = new Space(t);
  const space = new Space(t);
  outside.ip("link", "add", "witness", "type", "veth", "peer", "name", "veth", "netns", space.name);
  const there = (): boolean => outside.ip("-o", "link", "show").includes("witness");
  const fd = openSync(`/run/netns/${space.name}`, "r");
  const link = program.attachNetfilter({ family: "ipv6", hook: "local_out", priority: 7, namespace: fd });
  closeSync(fd);
  space.remove();
  assert.equal(there(), true);
  link.close();
  await until(() => !there());
});
