/**
 * tcp_bytes: payload kilobytes per TCP connection and tick, as the sockets themselves count them
 * (bpf/modules/tcp_bytes.bpf.c).
 */
import {
  type AnyRow,
  attachAll,
  type Column,
  type Context,
  defineModule,
  host,
  onOff,
  type Process,
  processColumns,
  type Sampler,
  type Tick,
} from "../core/module.js";
import { losses } from "../services/losses.js";
import { connectionColumns, ownerNeeds, ownerParts, ownSockets } from "../services/sockets.js";

interface Options {
  readonly ip: 4 | 6 | null;
}

const kilobytes = { type: "number", unit: "KB", digits: 3 } as const;
const byteColumns = [
  { name: "RX_KB", ...kilobytes, description: "received: bytes_received of ss -i; 1 KB = 1024 B" },
  { name: "TX_KB", ...kilobytes, description: "sent, repeats included: bytes_sent" },
  { name: "ACKED_KB", ...kilobytes, description: "known to have arrived: bytes_acked" },
  { name: "RETRANS_KB", ...kilobytes, description: "sent again: bytes_retrans" },
] as const satisfies readonly Column[];

const columns: readonly Column[] = [...processColumns, ...connectionColumns(["s", "d"]), ...byteColumns];

const hooks = ["tcp_bytes_established", "tcp_bytes_closed", "tcp_bytes_destroy", "tcp_bytes_send", "tcp_bytes_receive"];

/** struct tcp_bytes_total */
interface Total {
  readonly bytes: readonly number[];
  readonly connection: {
    readonly saddr6: readonly number[];
    readonly daddr6: readonly number[];
    readonly sport: number;
    readonly dport: number;
    readonly ip: number;
  };
}

/** What one process did on one connection. */
interface Account {
  readonly process: number;
  readonly ends: AnyRow;
  /** Bytes that are in rows, by column. */
  told: readonly number[];
}

/** Where nobody owns the socket, in host mode. */
const nobody: Process = { id: 0, pid: 0, comm: "", parent: 0, threads: 0, ended: false, cpuNs: 0 };

function addressText(ip: number, bytes: readonly number[]): string {
  if (ip === 4) return bytes.slice(0, 4).join(".");
  const groups = Array.from({ length: 8 }, (_, at) =>
    (((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0)).toString(16),
  );
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1); // in its shortest form
}

/** Thousandths of a KB, so that the rounded rows of a connection sum to its rounded total. */
const thousandths = (bytes: number): number => Math.round((bytes * 1000) / 1024);

const rowOf = (told: readonly number[], now: readonly number[]): AnyRow =>
  Object.fromEntries(
    byteColumns.map(({ name }, at) => [
      name,
      (thousandths(now[at] ?? 0) - thousandths(told[at] ?? 0)) / 1000,
    ]),
  );

/** The kernel's running totals, and how much of them is in rows. */
class Accounts {
  readonly #context: Context;
  readonly #open = new Map<string, Account>();
  /** Processes that have had a row. */
  readonly #seen = new Set<number>();

  constructor(context: Context) {
    this.#context = context;
    this.#drop(this.#entries().map(({ key }) => key)); // of an earlier time the module was on
  }

  /** Entries of struct tcp_bytes_total, decoded only as far as asked. */
  #entries() {
    const { object } = this.#context;
    const map = object.map("tcp_bytes_totals");
    const decoder = object.btf.decoder<Total>("struct tcp_bytes_total");
    const closedAt = (decoder.fields.find(({ name }) => name === "closed")?.bitOffset ?? 0) / 8;
    const { count, keys, values } = map.entriesRaw();
    return Array.from({ length: count }, (_, index) => {
      const base = index * map.valueSize;
      return {
        key: keys.subarray(index * 8, index * 8 + 8),
        id: keys.readUInt32LE(index * 8),
        process: keys.readUInt32LE(index * 8 + 4),
        closed: values.readUInt32LE(base + closedAt) !== 0,
        bytes: byteColumns.map((_column, at) => {
          const low = values.readUInt32LE(base + at * 8);
          return low + values.readUInt32LE(base + at * 8 + 4) * 2 ** 32;
        }),
        decode: () => decoder.decode(values.subarray(base, base + map.valueSize)),
      };
    });
  }

  #drop(keys: readonly Buffer[]): void {
    const map = this.#context.object.map("tcp_bytes_totals");
    for (const key of keys) {
      map.deleteRaw(key);
      this.#open.delete(key.toString("latin1"));
    }
  }

  #account(name: string, process: number, decode: () => Total): Account {
    const known = this.#open.get(name);
    if (known) return known;
    const { connection } = decode();
    const ends = {
      IP: connection.ip,
      SADDR: addressText(connection.ip, connection.saddr6),
      SPORT: connection.sport,
      DADDR: addressText(connection.ip, connection.daddr6),
      DPORT: connection.dport,
    };
    const account = { process, ends, told: byteColumns.map(() => 0) };
    this.#open.set(name, account);
    return account;
  }

  *rows(tick: Tick): Iterable<AnyRow> {
    const listed = new Map(tick.processes.map((process) => [process.id, process]));
    const ending = new Set(
      tick.processes.filter(({ id, ended }) => ended && this.#seen.has(id)).map(({ id }) => id),
    );
    const entries = this.#entries();
    const closed = new Set(entries.filter((entry) => entry.closed).map((entry) => entry.id));
    const done: Buffer[] = [];
    listed.set(0, nobody);
    for (const { key, id, process: owner, bytes, decode } of entries) {
      const process = listed.get(owner);
      if (!process) continue; // born since the tick's list was made: the next one has it
      if (closed.has(id)) done.push(key);
      const account = this.#account(key.toString("latin1"), owner, decode);
      if (bytes.every((value, at) => value === account.told[at])) continue;
      this.#seen.add(owner);
      ending.delete(owner);
      yield { ...tick.identify(process), ...account.ends, ...rowOf(account.told, bytes) };
      account.told = bytes;
    }
    this.#drop(done);
    for (const id of ending) {
      const process = listed.get(id);
      if (process) yield { ...tick.identify(process), ...rowOf([], []) };
    }
  }

  /** Takes out what is left of some processes; gives the bytes that are in no row. */
  forget(processes: ReadonlySet<number>): number {
    for (const id of processes) this.#seen.delete(id);
    // Looking costs a walk through all of them: not for those that had no connection.
    const entries = this.#entries().filter(({ process }) => processes.has(process));
    let late = 0;
    for (const { key, bytes } of entries) {
      const told = this.#open.get(key.toString("latin1"))?.told ?? [];
      for (const at of [0, 1]) late += (bytes[at] ?? 0) - (told[at] ?? 0);
    }
    this.#drop(entries.map(({ key }) => key));
    return late;
  }
}

function start(context: Context, options: Options): Sampler {
  const number = (name: string) => context.object.variable<number>(name);
  const lost = losses(context, ["tcp_bytes_lost", "owner_lost"]);
  const lateBefore = number("tcp_bytes_late").get();
  let lateHere = 0;
  let lateTimes = 0;
  const walk = context.object.program("tcp_bytes_walk");
  const settle = (): void => {
    walk.testRun();
  };
  const generation = number("tcp_bytes_generation");
  const accounts = new Accounts(context);
  number("tcp_bytes_ip").set(options.ip ?? 0);
  number("tcp_bytes_stopping").set(0);
  generation.set(generation.get() + 1);
  ownSockets(context);
  // After the owners' programs, so that these have run when ours do.
  const detach = attachAll(context, hooks);
  {
    using open = context.object.program("tcp_bytes_open").attachIterator();
    open.read(); // what is connected now counts from now
  }

  const forget = (processes: ReadonlySet<number>): void => {
    const late = accounts.forget(processes);
    if (late === 0) return;
    lateHere += late;
    lateTimes++;
  };

  return {
    kind: "sampler",
    backend: "bpf",
    sample(tick) {
      settle();
      return [...accounts.rows(tick)];
    },
    forget: (ended) => {
      if (ended.length > 0) forget(new Set(ended.map(({ id }) => id)));
    },
    lost: () => lost() + lateTimes,
    stop: () => {
      number("tcp_bytes_stopping").set(1);
      settle();
      forget(new Set([0]));
      detach();
      const late = number("tcp_bytes_late").get() - lateBefore + lateHere;
      if (late === 0) return;
      context.warn(
        `tcp_bytes: ${late} B moved on connections after the process that owned them had ended; they are in no row.`,
      );
    },
  };
}

const keys = onOff("tcp_bytes");

export default defineModule<Options>({
  name: "tcp_bytes",
  summary: "bytes received and sent per TCP connection",
  config: {
    ...keys.config,
    tcp_bytes_ip: {
      enum: [4, 6, null],
      default: null,
      description: "Only connections over this version of IP.",
    },
  },
  fileKey: keys.fileKey,
  request(config) {
    const on = keys.request(config);
    if (!on) return undefined;
    return { options: { ip: (config["tcp_bytes_ip"] ?? null) as Options["ip"] }, file: on.file };
  },
  columns: () => columns,
  bpf: () => ({
    programs: [...ownerParts.programs, ...hooks, "tcp_bytes_open", "tcp_bytes_walk"],
    maps: [...ownerParts.maps, "tcp_bytes_sockets", "tcp_bytes_connections", "tcp_bytes_totals"],
  }),
  needs: () => [
    ...ownerNeeds(),
    host.tracepoint("inet_sock_set_state"),
    host.programType("sock_ops", "sockops"),
    host.tracepoint("tcp_destroy_sock"),
  ],
  start,
});
