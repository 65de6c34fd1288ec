// SPDX-License-Identifier: MIT
import { closeSync } from "node:fs";
import { elfSymbols } from "./elf.js";
import { BpfError, failure } from "./errors.js";
import { NativeBackedLink, type IteratorLink, type Link } from "./link.js";
import { suggestion } from "./names.js";
import { native, type NativeProgram } from "./native.js";
import { nativeEvent, openTracefs, type UprobeEvent } from "./tracefs.js";

/** Where to put a uprobe: `offset` in the file, or `symbol`, or an offset from the symbol. */
export interface UprobeOptions {
  /** The executable or library. */
  path: string;
  /** File offset of the instruction; with `symbol`, bytes from its start (default 0). */
  offset?: number | bigint;
  /** A function's name, without its version. */
  symbol?: string;
  /** One process, or -1 for every process (default). */
  pid?: number;
  /** Fires when the function returns instead. */
  retprobe?: boolean;
  /** What bpf_get_attach_cookie() gives the program (kernel ≥ 5.15). */
  cookie?: bigint;
}

/** As perf_event_open(2) takes them; either a period or a frequency (per second), not both. */
export interface PerfEventOptions {
  type: number;
  config: bigint | number;
  samplePeriod?: number;
  sampleFrequency?: number;
  /** Default: every process, on one CPU. */
  pid?: number;
  /** Default: any CPU with a pid, CPU 0 without one. */
  cpu?: number;
}

export interface ScopedUprobeOptions {
  event: UprobeEvent;
  /** What bpf_get_attach_cookie() gives the program (kernel ≥ 5.15). */
  cookie?: bigint;
  /** Any live task in the event's scope, or -1 after includeEveryone(). */
  anchorPid: number;
}

/** A netfilter hook, as a rule of nftables sees it. */
export interface NetfilterOptions {
  family: "ipv4" | "ipv6";
  hook: "pre_routing" | "local_in" | "forward" | "local_out" | "post_routing";
  /**
   * Lower runs first (nftables' own: -300 raw … 100 srcnat). Any 32-bit integer but the lowest and the
   * highest, and one that no other BPF program has there.
   */
  priority: number;
  /** Descriptor of a network namespace (/run/netns/…, /proc/PID/ns/net); default: our own. */
  namespace?: number;
}

/** include/uapi/linux/netfilter.h: NFPROTO_… and NF_INET_… */
const netfilterFamilies = { ipv4: 2, ipv6: 10 } as const;
const netfilterHooks = {
  pre_routing: 0,
  local_in: 1,
  forward: 2,
  local_out: 3,
  post_routing: 4,
} as const;

/** bpf_prog_info; run time and count grow only while run-time statistics are on. */
export interface ProgramStatistics {
  runTimeNs: bigint;
  runCount: bigint;
  /** Runs skipped because the program was already running on that CPU (kernel ≥ 5.12). */
  recursionMisses: bigint;
}

function resolveSymbol(path: string, symbol: string): number {
  const found = elfSymbols(path, { names: [symbol] });
  const best = found.find((entry) => entry.type === "function") ?? found[0];
  if (best) return best.offset;
  const names = elfSymbols(path)
    .filter((entry) => entry.type === "function")
    .map((entry) => entry.name);
  throw failure(
    "attach uprobe",
    symbol,
    "ENOENT",
    `${path} has no symbol ${symbol}${suggestion(symbol, names)}`,
  );
}

/** A program in the kernel. Every attach method returns a Link and throws BpfError. */
export class Program {
  readonly #native: NativeProgram;
  /** As in SEC(). */
  readonly section: string;
  readonly name: string;

  /** @internal */
  constructor(nativeProgram: NativeProgram, name: string, section: string) {
    this.#native = nativeProgram;
    this.name = name;
    this.section = section;
  }

  /** The descriptor; it belongs to the object and closes with it. */
  get fd(): number {
    return this.#native.fd();
  }

  /** The kernel's number for the program, as `bpftool prog` shows it. */
  get id(): number {
    return this.#native.information().id;
  }

  /**
   * Attaches to what SEC() names: tp_btf (kernel ≥ 5.5), raw_tp (≥ 4.17), tp, fentry, iter and so
   * on. Tracepoints work without tracefs being mounted.
   */
  attach(): Link {
    const tracepoint = /^(?:tp|tracepoint)\/([^/]+)\/([^/]+)$/.exec(this.section);
    const category = tracepoint?.[1];
    const name = tracepoint?.[2];
    if (category === undefined || name === undefined) {
      return new NativeBackedLink(this.#native.attach());
    }
    const tracefs = openTracefs();
    try {
      const PERF_TYPE_TRACEPOINT = 2;
      const config = tracefs.tracepointId(category, name);
      return this.attachPerfEvent({ type: PERF_TYPE_TRACEPOINT, config });
    } catch (error) {
      if (!(error instanceof BpfError) || error.code !== "ENOENT") throw error;
      throw failure("attach", this.name, "ENOENT", `no tracepoint ${category}/${name}`);
    } finally {
      tracefs.close();
    }
  }

  /**
   * A uprobe in one process or in all. Its breakpoint is put into every process that maps the file
   * when pid is -1; attachScopedUprobe reaches a process and its children only.
   */
  attachUprobe(options: UprobeOptions): Link {
    const { path, symbol, pid = -1, retprobe = false, cookie = 0n } = options;
    if (symbol === undefined && options.offset === undefined) {
      throw new TypeError("attachUprobe needs an offset or a symbol");
    }
    let offset = BigInt(options.offset ?? 0);
    if (symbol !== undefined) offset += BigInt(resolveSymbol(path, symbol));
    return new NativeBackedLink(this.#native.attachUprobe(path, offset, pid, retprobe, cookie));
  }

  /** To a cgroup2 directory: cgroup_skb, cgroup/sock_create, sockops … (link: kernel ≥ 5.7). */
  attachCgroup(cgroupDirectory: string): Link {
    return new NativeBackedLink(this.#native.attachCgroup(cgroupDirectory));
  }

  /** To a perf event opened here and closed with the link. */
  attachPerfEvent(options: PerfEventOptions): Link {
    const { type, config, samplePeriod = 0, sampleFrequency = 0, pid = -1 } = options;
    const cpu = options.cpu ?? (pid === -1 ? 0 : -1);
    return new NativeBackedLink(
      this.#native.attachPerfEvent(type, config, samplePeriod, sampleFrequency, pid, cpu),
    );
  }

  /** SEC("iter/…") (kernel ≥ 5.8). */
  attachIterator(): IteratorLink {
    return new NativeBackedLink(this.#native.attachIterator());
  }

  /** SEC("raw_tp") to a tracepoint named now (kernel ≥ 4.17). */
  attachRawTracepoint(name: string): Link {
    return new NativeBackedLink(this.#native.attachRawTracepoint(name));
  }

  /**
   * SEC("uprobe") or SEC("uretprobe") to an event of Tracefs.defineUprobe: runs for every hit in
   * the event's scope and nowhere else. Kernel ≥ 5.15, without a cookie ≥ 4.17.
   */
  attachScopedUprobe(options: ScopedUprobeOptions): Link {
    const { event, cookie = 0n, anchorPid } = options;
    return new NativeBackedLink(
      this.#native.attachScopedUprobe(nativeEvent(event), cookie, anchorPid),
    );
  }

  /**
   * SEC("netfilter") (kernel ≥ 6.4), in one network namespace. The descriptor may be closed afterwards; the
   * link keeps the namespace alive as an open descriptor would, so close it when the namespace is to go.
   */
  attachNetfilter(options: NetfilterOptions): Link {
    const { family, hook, priority, namespace = -1 } = options;
    const [protocol, number] = [netfilterFamilies[family], netfilterHooks[hook]];
    return new NativeBackedLink(this.#native.attachNetfilter(protocol, number, priority, namespace));
  }

  /**
   * Runs the program once, now: SEC("syscall") (kernel ≥ 5.14) and raw_tp (≥ 5.10; these also on a
   * chosen CPU). `context` is what the program gets as its context: one struct, or raw_tp's u64
   * arguments.
   * @returns the program's return value, as a signed 32-bit integer
   */
  testRun(options: { context?: Uint8Array; onCpu?: number } = {}): number {
    return this.#native.testRun(options.context ?? new Uint8Array(0), options.onCpu ?? -1);
  }

  /** What the program has cost so far; see enableRunTimeStatistics. */
  stats(): ProgramStatistics {
    const { runTimeNs, runCount, recursionMisses } = this.#native.information();
    return { runTimeNs, runCount, recursionMisses };
  }
}

/**
 * Makes the kernel count run time and runs of every program until closed (kernel ≥ 5.8). Costs some
 * tens of nanoseconds per run. @throws BpfError
 */
export function enableRunTimeStatistics(): { close(): void; [Symbol.dispose](): void } {
  let fd = native.enableStatistics();
  const close = (): void => {
    if (fd >= 0) closeSync(fd);
    fd = -1;
  };
  return { close, [Symbol.dispose]: close };
}
