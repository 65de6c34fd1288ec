// Hosts of our own: network namespaces joined by a veth pair, a bridge, or a router that translates addresses. Owns: their making and removal,
// their addresses, their interfaces' byte counters (the witness) and speed, a web server in one of them. Does not own: any traffic.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { root, scratch } from "./paths.js";
import { Command } from "./run.js";
import { delay, until } from "./wait.js";

export interface Counters {
  readonly rx: number;
  readonly tx: number;
}

let made = 0;

/** A network namespace. */
export class Space {
  readonly namespace: string;

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  /** The command, as it is run inside. */
  inside(...command: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.namespace, ...command];
  }

  /** Runs a short command inside; gives its stdout, throws when it fails. */
  ask(...command: readonly string[]): string {
    const [file = "", ...args] = this.inside(...command);
    return execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  /** What the interface itself has counted, headers of the link included. */
  counters(device = "veth"): Counters {
    const text = execFileSync("ip", ["-n", this.namespace, "-j", "-s", "link", "show", "dev", device], { encoding: "utf8" });
    const [link] = JSON.parse(text) as { stats64: { rx: { bytes: number }; tx: { bytes: number } } }[];
    assert.ok(link !== undefined);
    return { rx: link.stats64.rx.bytes, tx: link.stats64.tx.bytes };
  }

  /** What was counted since `before`. */
  since(before: Counters, device = "veth"): Counters {
    const now = this.counters(device);
    return { rx: now.rx - before.rx, tx: now.tx - before.tx };
  }
}

/** Of this process's hosts: who watches the whole machine is not to mistake those of another test for them. */
const site = 1 + (process.pid % 250);

/** One with an address of each family: 10.SITE.NETWORK.NUMBER and fd77:SITE:NETWORK::NUMBER. */
export class Host extends Space {
  readonly ipv4: string;
  readonly ipv6: string;

  constructor(namespace: string, number: number, network = 0) {
    super(namespace);
    this.ipv4 = `10.${site}.${network}.${number}`;
    this.ipv6 = network === 0 ? `fd77:${site}::${number}` : `fd77:${site}:${network}::${number}`;
  }
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
}

/** Names for the namespaces of one test. */
function stem(): string {
  made++;
  return `treesnoop-${process.pid}-${made}`;
}

/** Makes them, removed when the test ends. */
function make(t: TestContext, ...spaces: readonly Space[]): void {
  for (const { namespace } of spaces) {
    ip("netns", "add", namespace);
    t.after(() => {
      ip("netns", "del", namespace);
    });
    ip("-n", namespace, "link", "set", "lo", "up");
  }
}

/** A veth pair. Made inside a namespace: its names never meet the machine's own. */
function cable(one: Space, device: string, two: Space, peer: string): void {
  ip("-n", one.namespace, "link", "add", device, "type", "veth", "peer", "name", peer, "netns", two.namespace);
}

/** Gives a device its addresses, and switches it on. */
function address(space: Space, device: string, ...hosts: readonly Host[]): void {
  // Router solicitations are nobody's bytes. The address of the link is valid at once, and multicast reports come now, not within a second.
  const own = `net.ipv6.conf.${device}`;
  space.ask("sysctl", "-q", "-w", "net.ipv6.conf.all.accept_ra=0", `${own}.router_solicitations=0`, `${own}.accept_dad=0`, `${own}.mldv2_unsolicited_report_interval=1`);
  for (const { ipv4, ipv6 } of hosts) {
    ip("-n", space.namespace, "address", "add", `${ipv4}/24`, "dev", device);
    ip("-n", space.namespace, "address", "add", `${ipv6}/64`, "dev", device, "nodad");
  }
  ip("-n", space.namespace, "link", "set", "dev", device, "up");
}

/** Neighbours get to know each other, and multicast reports are sent, before anything is counted. */
async function acquainted(near: Host, far: Host): Promise<void> {
  for (const to of [far.ipv4, far.ipv6])
    await until(`${to} to answer`, () => {
      try {
        near.ask("ping", "-c", "1", "-W", "0.2", to);
        return true;
      } catch {
        return false;
      }
    });
  await delay(400);
}

/** Makes both. Interfaces are called veth in either. */
export async function twoHosts(t: TestContext): Promise<{ near: Host; far: Host }> {
  const name = stem();
  const near = new Host(`${name}-a`, 1);
  const far = new Host(`${name}-b`, 2);
  make(t, near, far);
  cable(near, "veth", far, "veth");
  for (const host of [near, far]) address(host, "veth", host);
  await acquainted(near, far);
  return { near, far };
}

/** The same, with a bridge between them in a namespace of its own: `bridge`, of the ports `near` and `far`. */
export async function bridged(t: TestContext): Promise<{ near: Host; far: Host; bridge: Space }> {
  const name = stem();
  const near = new Host(`${name}-a`, 1);
  const far = new Host(`${name}-b`, 2);
  const bridge = new Space(`${name}-bridge`);
  make(t, near, far, bridge);
  // It forwards frames; what it would say itself is nobody's bytes.
  bridge.ask("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1");
  ip("-n", bridge.namespace, "link", "add", "name", "bridge", "type", "bridge", "mcast_snooping", "0");
  for (const [port, host] of [["near", near], ["far", far]] as const) {
    cable(bridge, port, host, "veth");
    ip("-n", bridge.namespace, "link", "set", "dev", port, "master", "bridge");
    address(bridge, port);
    address(host, "veth", host);
  }
  address(bridge, "bridge");
  await acquainted(near, far);
  return { near, far, bridge };
}

/**
 * near — router — far, with interfaces `near` and `far` in the router. What near sends has another source address when it arrives: the
 * router's (masquerade), or a second one of near's that near itself puts there (snat).
 */
export async function behindNat(
  t: TestContext,
  by: "router" | "near",
): Promise<{ near: Host; router: Space; far: Host; seenAs: Host }> {
  const name = stem();
  const near = new Host(`${name}-a`, 1);
  const far = new Host(`${name}-b`, 2, 1);
  const router = new Space(`${name}-router`);
  const second = new Host(near.namespace, 101);
  const gateways = [new Host(router.namespace, 254), new Host(router.namespace, 254, 1)] as const;
  make(t, near, far, router);
  for (const [port, host, gateway, own] of [
    ["near", near, gateways[0], by === "near" ? [near, second] : [near]],
    ["far", far, gateways[1], [far]],
  ] as const) {
    cable(router, port, host, "veth");
    address(router, port, gateway);
    address(host, "veth", ...own);
    // The address it sends from, where it has two.
    ip("-n", host.namespace, "route", "add", "default", "via", gateway.ipv4, "src", host.ipv4);
    ip("-n", host.namespace, "-6", "route", "add", "default", "via", gateway.ipv6, "src", host.ipv6);
  }
  router.ask("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
  const rule = (family: "ip" | "ip6", from: string, to: string): string =>
    by === "near" ? `${family} saddr ${from} ${family} daddr ${far[family === "ip" ? "ipv4" : "ipv6"]} snat to ${to}` : `oifname "far" masquerade`;
  const translator = by === "near" ? near : router;
  for (const [family, from, to] of [["ip", near.ipv4, second.ipv4], ["ip6", near.ipv6, second.ipv6]] as const)
    translator.ask("nft", `table ${family} nat {\nchain out {\ntype nat hook postrouting priority srcnat\n${rule(family, from, to)}\n}\n}`);
  await acquainted(near, far);
  return { near, router, far, seenAs: by === "near" ? second : gateways[1] };
}

/**
 * Lets a device send no faster than `rate` (as tc writes it: "8mbit"), after a first `burst` of bytes; up to `limit` bytes wait, the rest is
 * dropped. A packet of n bytes then waits n / rate, once the burst is used up.
 */
export function shape(space: Space, rate: string, burst = 1600, limit = 1 << 20, device = "veth"): void {
  space.ask("tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", String(burst), "limit", String(limit));
}

export interface WebServer {
  readonly folder: string;
  /** The foreground command that runs it, for a server inside the tree. */
  readonly command: readonly string[];
  /** One line per answered request: worker's pid, bytes sent, bytes of the request. */
  readonly log: string;
}

/**
 * nginx's configuration in a folder of the test: files under /, PUT allowed, `workers` processes accepting; with none the
 * master serves alone, and killing it leaves nobody behind.
 */
export function configureWebServer(folder: string, workers: number): WebServer {
  const files = join(folder, "files");
  mkdirSync(files);
  for (const name of ["body", "proxy", "fastcgi", "uwsgi", "scgi"]) mkdirSync(join(folder, name));
  writeFileSync(
    join(folder, "nginx.conf"),
    `daemon off;
user root;
master_process ${workers > 0 ? "on" : "off"};
worker_processes ${Math.max(workers, 1)};
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 64; accept_mutex off; }
http {
  log_format worker '$pid $bytes_sent $request_length';
  access_log ${folder}/access.log worker;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  client_max_body_size 0;
  sendfile on;
  server {
    listen 80;
    listen [::]:80;
    root ${files};
    dav_methods PUT;
  }
}
`,
  );
  return { folder: files, command: ["nginx", "-p", folder, "-e", join(folder, "error.log"), "-c", join(folder, "nginx.conf")], log: join(folder, "access.log") };
}

/** A file of `size` zero bytes, which takes no room. */
export function sparseFile(path: string, size: number): string {
  writeFileSync(path, "");
  truncateSync(path, size);
  return path;
}

/** Starts it on a host, outside of any tree, and waits until it answers. */
export async function serveWeb(t: TestContext, host: Host, server: WebServer): Promise<Command> {
  const running = new Command(t, host.inside(...server.command), { deadline: 120 });
  await answers(host, "80");
  return running;
}

/** Waits until something accepts connections on a port of the host, without a packet on its veth. */
export async function answers(host: Host, port: string): Promise<void> {
  await until(`${host.namespace} port ${port}`, () => host.ask("ss", "-Hltn", `sport = :${port}`) !== "");
}

/** A BPF object that counts packets by namespace, family and hook: libbpf-ts's own, compiled here. */
export function netfilterObject(t: TestContext): string {
  const object = join(scratch(t), "netfilter.bpf.o");
  const source = join(root, "native/libbpf-ts/test/bpf/netfilter.bpf.c");
  const multiarch = execFileSync("cc", ["-print-multiarch"], { encoding: "utf8" }).trim();
  const include = multiarch === "" ? [] : [`-I/usr/include/${multiarch}`];
  execFileSync("clang", ["-O2", "-g", "-target", "bpf", ...include, "-c", source, "-o", object]);
  return object;
}
