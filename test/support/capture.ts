// tshark on a host's interface: a witness of what went over it. Owns: that it watches from a known moment to a known moment and drops
// nothing. Does not own: what the packets mean.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Host, Space } from "./netns.js";
import { Command } from "./run.js";
import { until } from "./wait.js";

/** A TCP segment, as it was on the wire. */
export interface Packet {
  /** Unix time, s. */
  readonly time: number;
  readonly saddr: string;
  readonly sport: string;
  readonly daddr: string;
  readonly dport: string;
  readonly seq: number;
  readonly ack: number;
  /** Bytes of data. */
  readonly length: number;
  readonly syn: boolean;
  readonly fin: boolean;
  readonly reset: boolean;
  readonly acknowledges: boolean;
}

const flags = ["syn", "fin", "reset", "ack"].map((flag) => `tcp.flags.${flag}`);
const fields = ["frame.time_epoch", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "tcp.seq_raw", "tcp.ack_raw", "tcp.len", ...flags, "udp.dstport"];

/** Only the outer layers: what a segment carries must not be put together, nor be taken for a packet of its own. */
const shallow = ["--disable-protocol", "http", "--disable-protocol", "data", "-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.analyze_sequence_numbers:FALSE"];

/** A datagram marks the beginning, another the end of what it is to have seen. */
export class Capture {
  readonly #tshark: Command;
  readonly #from: Space;
  readonly #to: Host;

  private constructor(t: TestContext, at: Space, device: string, from: Space, to: Host) {
    const shown = ["-T", "fields", "-E", "separator=,", "-E", "occurrence=f", ...fields.flatMap((field) => ["-e", field])];
    const filter = "tcp or (udp and (dst port 9 or dst port 10))";
    this.#tshark = new Command(t, at.inside("tshark", "-l", "-n", "-Q", "-B", "64", "-s", "160", "-i", device, "-f", filter, ...shallow, ...shown), { deadline: 120 });
    this.#from = from;
    this.#to = to;
  }

  /** On the host's own interface; `other` is who the marks are sent to. */
  static async start(t: TestContext, host: Host, other: Host): Promise<Capture> {
    return Capture.on(t, host, "veth", host, other);
  }

  /** On any interface that is passed by what goes `from` one host `to` another. */
  static async on(t: TestContext, at: Space, device: string, from: Space, to: Host): Promise<Capture> {
    const capture = new Capture(t, at, device, from, to);
    await capture.#mark(9);
    return capture;
  }

  async #mark(port: number): Promise<void> {
    await until(`tshark to see port ${port}`, () => {
      this.#from.ask("bash", "-c", `echo > /dev/udp/${this.#to.ipv4}/${port}`);
      return this.#tshark.stdout.includes(`,${port}\n`);
    });
  }

  /** What it saw of TCP. The capture is over then. */
  async packets(): Promise<Packet[]> {
    await this.#mark(10);
    this.#tshark.child.kill("SIGINT");
    const { stdout, stderr } = await this.#tshark.finished;
    assert.doesNotMatch(stderr, /dropped/);
    const isSet = (flag: string | undefined): boolean => flag === "1" || flag === "True";
    return stdout.split("\n").flatMap((line) => {
      const [time, saddr4 = "", saddr6 = "", sport = "", daddr4 = "", daddr6 = "", dport = "", seq, ack, length, syn, fin, reset, acknowledges] = line.split(",");
      if (sport === "") return [];
      const [source, target] = [saddr4 || saddr6, daddr4 || daddr6];
      const numbers = { time: Number(time), seq: Number(seq), ack: Number(ack), length: Number(length) };
      return [{ ...numbers, saddr: source, sport, daddr: target, dport, syn: isSet(syn), fin: isSet(fin), reset: isSet(reset), acknowledges: isSet(acknowledges) }];
    });
  }
}
