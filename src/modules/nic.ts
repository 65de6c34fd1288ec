/**
 * nic: packets and bytes of one interface, per direction and queue (bpf/modules/nic.bpf.c). It is about no
 * process, so its rows have none.
 */
import * as fs from "node:fs";
import {
  attachAll,
  type Column,
  defineModule,
  host,
  monotonicNs,
  type Need,
  onOff,
  type RowOf,
  RunError,
  type Tick,
} from "../core/module.js";

const columns = [
  { name: "Ticks", type: "ticks", unit: "s", description: "Unix time of the tick" },
  { name: "NAME", type: "text", description: "the interface" },
  { name: "DIRECTION", type: "text", description: "RX received, TX sent" },
  { name: "QUEUE", type: "text", description: "number of the hardware queue, or Total" },
  { name: "AVG_SIZE", type: "number", unit: "B", digits: 2, description: "mean packet of the tick" },
  { name: "BPS", type: "number", unit: "bit/s", digits: 2, description: "bits per second" },
  { name: "PPS", type: "number", unit: "1/s", digits: 2, description: "packets per second" },
  { name: "PACKETS", type: "integer", description: "packets of the tick" },
  { name: "BYTES", type: "integer", unit: "B", description: "bytes of the tick" },
] as const satisfies readonly Column[];

interface Options {
  readonly name: string;
  readonly wire: boolean;
}

interface Count {
  packets: number;
  bytes: number;
}

/** What the interface itself has counted. */
interface Own {
  readonly rx: Count;
  readonly tx: Count;
}

const keys = onOff("nic");
const directions = ["rx", "tx"] as const;

// Exits first: a packet under way while these are attached is not counted, instead of half.
const programs = [
  "nic_sent",
  "nic_send",
  "nic_handed_exit",
  "nic_handed",
  "nic_gro",
  "nic_frags",
  "nic_single",
  "nic_list",
];

/** A message each time the interface goes or comes, but run.json must not grow for ever. */
const mostMessages = 20;

/** The interfaces of this network namespace with their counters; /sys may show another one's. */
function interfaces(): Map<string, Own> {
  const lines = fs.readFileSync("/proc/self/net/dev", "utf8").trimEnd().split("\n").slice(2);
  return new Map(
    lines.map((line) => {
      const colon = line.lastIndexOf(":");
      const counts = line.slice(colon + 1).trim().split(/\s+/).map(Number);
      const count = (at: number): Count => ({ bytes: counts[at] ?? 0, packets: counts[at + 1] ?? 0 });
      return [line.slice(0, colon).trim(), { rx: count(0), tx: count(8) }];
    }),
  );
}

function present(name: string): Need {
  const names = [...interfaces().keys()];
  const supported = names.includes(name);
  return {
    feature: `interface ${name}`,
    supported,
    reason: supported
      ? `${name} is there.`
      : `nic_name is ${JSON.stringify(name)}, which is no interface here. There are: ${names.sort().join(", ")}.`,
  };
}

/** Its queues, as far as /sys shows them; idle ones are to have their row too. */
function queuesOf(name: string, direction: string): number[] {
  try {
    return fs
      .readdirSync(`/sys/class/net/${name}/queues`)
      .filter((entry) => entry.startsWith(`${direction}-`))
      .map((entry) => Number(entry.slice(3)));
  } catch {
    return []; // gone, or /sys belongs to another network namespace: those that were seen, then
  }
}

/** The first `length` bytes of a 16-byte field as two words in the machine's byte order. */
function words(bytes: Uint8Array): bigint[] {
  const field = new Uint8Array(16);
  field.set(bytes);
  return [...new BigUint64Array(field.buffer)];
}

export default defineModule<Options>({
  name: "nic",
  summary: "packets and bytes of one interface, per queue",
  config: {
    ...keys.config,
    nic_name: {
      type: ["string", "null"],
      minLength: 1,
      maxLength: 15, // IFNAMSIZ
      default: null,
      description: "The interface; required when snoop_nic is on.",
    },
    nic_packets: {
      enum: ["counters", "wire"],
      default: "counters",
      description: "As the interface's own counters count, or each segment of a super-packet.",
    },
  },
  fileKey: keys.fileKey,
  request(config) {
    const on = keys.request(config);
    if (!on) return undefined;
    const name = (config["nic_name"] ?? "") as string;
    if (name === "") {
      throw new RunError(
        2,
        "snoop_nic is on, but nic_name does not say which interface.",
        `There are: ${[...interfaces().keys()].sort().join(", ")}.`,
      );
    }
    return { options: { name, wire: config["nic_packets"] === "wire" }, file: on.file };
  },
  columns: () => columns,
  bpf: () => ({ programs, maps: ["nic_totals", "nic_flights"] }),
  needs: (options) => [
    ...(options ? [present(options.name)] : []),
    host.tracepoint("net_dev_start_xmit"),
    host.tracepoint("net_dev_xmit"),
    host.tracepoint("napi_gro_receive_entry"),
    host.tracepoint("netif_rx_exit"),
  ],
  start(context, { name, wire }) {
    const bytes = Buffer.from(name);
    const set = (variable: string, value: number | bigint[]): void => {
      context.object.variable<number | bigint[]>(variable).set(value);
    };
    set("nic_name", words(bytes));
    set("nic_name_mask", words(new Uint8Array(bytes.length + 1).fill(0xff)));
    set("nic_namespace", fs.statSync("/proc/self/ns/net").ino);
    set("nic_wire", wire ? 1 : 0);
    set("nic_rules", 0);
    const map = context.map<Count>("nic_totals");
    const lost = context.object.variable<number>("nic_lost");
    const lostBefore = lost.get();
    const detach = attachAll(context, programs);

    /** Since the run began, by key; totals in the kernel are never cleared. */
    const before = new Map<number, Count>();
    const sums = { rx: { packets: 0, bytes: 0 }, tx: { packets: 0, bytes: 0 } };
    let changes = new Map<number, Count>();
    let ownBefore: Own | undefined;
    let own: Own | undefined;
    let messages = 0;

    function take(): void {
      changes = new Map();
      for (const [key, cpus] of map.entriesPerCpu()) {
        const now = { packets: 0, bytes: 0 };
        for (const cpu of cpus) {
          now.packets += cpu.packets;
          now.bytes += cpu.bytes;
        }
        const then = before.get(key) ?? { packets: 0, bytes: 0 };
        changes.set(key, { packets: now.packets - then.packets, bytes: now.bytes - then.bytes });
        before.set(key, now);
      }
    }

    function watch(): void {
      const now = interfaces().get(name);
      if ((now === undefined) !== (own === undefined) && messages++ < mostMessages) {
        context.warn(
          now ? `nic: ${name} is back.` : `nic: the interface ${name} is gone; waiting for its return.`,
        );
      }
      // Another one of that name counts from zero.
      if (!now || directions.some((each) => now[each].packets < (own?.[each].packets ?? 0))) {
        ownBefore = undefined;
      }
      own = now;
    }

    function begin(): void {
      take();
      own = ownBefore = interfaces().get(name);
    }
    begin();

    function* sample(tick: Tick): Iterable<RowOf<typeof columns>> {
      for (const [index, direction] of directions.entries()) {
        const counts = new Map<number, Count>();
        for (const queue of queuesOf(name, direction)) counts.set(queue, { packets: 0, bytes: 0 });
        for (const [key, count] of changes) {
          if (key >> 16 === index) counts.set(key & 0xffff, count);
        }
        const total = { packets: 0, bytes: 0 };
        for (const count of counts.values()) {
          total.packets += count.packets;
          total.bytes += count.bytes;
        }
        if (!own && total.packets === 0) continue;
        sums[direction].packets += total.packets;
        sums[direction].bytes += total.bytes;
        const queues = [...counts].sort(([a], [b]) => a - b);
        for (const [queue, { packets, bytes }] of [...queues, ["Total", total] as const]) {
          yield {
            Ticks: tick.time,
            NAME: name,
            DIRECTION: direction.toUpperCase(),
            QUEUE: queue,
            AVG_SIZE: packets === 0 ? 0 : bytes / packets,
            BPS: (bytes * 8) / tick.elapsed,
            PPS: packets / tick.elapsed,
            PACKETS: packets,
            BYTES: bytes,
          };
        }
      }
    }

    /** Drivers differ in what they count: where one is not understood, that must not go unsaid. */
    function compare(): void {
      if (wire || !own || !ownBefore) return;
      for (const direction of directions) {
        for (const field of ["packets", "bytes"] as const) {
          const said = own[direction][field] - ownBefore[direction][field];
          const seen = sums[direction][field];
          // Some packets may be between the two readings, or sent and not yet counted (virtio).
          const few = field === "packets" ? 100 : 100 * 1500;
          if (Math.abs(seen - said) <= Math.max(few, said / 50)) continue;
          context.warn(
            `nic: ${name} itself counted ${String(said)} ${direction} ${field}, the table has ${String(seen)}: see docs/nic.md.`,
          );
        }
      }
    }

    return {
      kind: "sampler",
      backend: "bpf",
      begin,
      read: () => {
        take();
        watch();
        return monotonicNs();
      },
      sample,
      lost: () => lost.get() - lostBefore,
      stop: () => {
        compare();
        detach();
      },
    };
  },
});
