// Two hosts of our own: network namespaces joined by a veth pair. Owns: their making and removal, their addresses, their
// interfaces' byte counters (the witness), a web server in one of them. Does not own: any traffic.
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

export class Host {
  readonly namespace: string;
  readonly ipv4: string;
  readonly ipv6: string;

  constructor(namespace: string, number: number) {
    this.namespace = namespace;
    this.ipv4 = `10.77.0.${number}`;
    this.ipv6 = `fd77::${number}`;
  }

  /** The command, as it is run inside. */
  inside(...command: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.namespace, ...command];
  }

  /** Runs a short command inside; gives its stdout, throws when it fails or takes long: nothing else runs here meanwhile, no deadline either. */
  ask(...command: readonly string[]): string {
    const [file = "", ...args] = this.inside(...command);
    return execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 30_000, killSignal: "SIGKILL" });
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

/** Makes both, removed when the test ends. Interfaces are called veth in either. */
export async function twoHosts(t: TestContext): Promise<{ near: Host; far: Host }> {
  made++;
  const stem = `treesnoop-${process.pid}-${made}`;
  const near = new Host(`${stem}-a`, 1);
  const far = new Host(`${stem}-b`, 2);
  const ip = (...args: string[]): void => {
    execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
  };
  for (const host of [near, far]) {
    ip("netns", "add", host.namespace);
    t.after(() => {
      ip("netns", "del", host.namespace);
    });
  }
  // Made inside the namespace: its names never meet the machine's own.
  ip("-n", near.namespace, "link", "add", "veth", "type", "veth", "peer", "name", "veth", "netns", far.namespace);
  for (const host of [near, far]) {
    // Router solicitations are nobody's bytes.
    host.ask("sysctl", "-q", "-w", "net.ipv6.conf.all.accept_ra=0", "net.ipv6.conf.veth.router_solicitations=0");
    ip("-n", host.namespace, "address", "add", `${host.ipv4}/24`, "dev", "veth");
    ip("-n", host.namespace, "address", "add", `${host.ipv6}/64`, "dev", "veth", "nodad");
    ip("-n", host.namespace, "link", "set", "lo", "up");
    ip("-n", host.namespace, "link", "set", "veth", "up");
  }
  // Neighbours get to know each other, and multicast reports are sent, before anything is counted.
  for (const address of [far.ipv4, far.ipv6])
    await until(`${address} to answer`, () => {
      try {
        near.ask("ping", "-c", "1", "-W", "1", address);
        return true;
      } catch {
        return false;
      }
    });
  await delay(1500);
  return { near, far };
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
