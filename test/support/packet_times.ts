// Packets on a host's interface, when and where from, as tshark sees them. Does not own: what is in them (capture.ts).
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Host } from "./netns.js";
import { Command } from "./run.js";
import { until } from "./wait.js";

/** Times in ms of what a host sent, and of what it received. */
export interface Seen {
  readonly sent: number[];
  readonly received: number[];
}

/** Packets tshark sees on a host's interface, when and where from. */
export class Capture {
  readonly #tshark: Command;
  readonly #host: Host;
  readonly #other: Host;

  private constructor(t: TestContext, host: Host, other: Host, filter: string) {
    this.#tshark = new Command(t, host.inside("tshark", "-l", "-n", "-Q", "-i", "veth", "-f", `(${filter}) or udp port 9 or udp port 10`, "-T", "fields", "-E", "separator=,", "-e", "frame.time_epoch", "-e", "ip.src", "-e", "ipv6.src", "-e", "udp.dstport"), { deadline: 120 });
    this.#host = host;
    this.#other = other;
  }

  static async start(t: TestContext, host: Host, other: Host, filter: string): Promise<Capture> {
    const capture = new Capture(t, host, other, filter);
    await capture.#mark(9);
    return capture;
  }

  async #mark(port: number): Promise<void> {
    await until(`tshark to see port ${port}`, () => {
      this.#host.ask("bash", "-c", `echo > /dev/udp/${this.#other.ipv4}/${port}`);
      return this.#tshark.stdout.includes(`,${port}\n`);
    });
  }

  async stop(): Promise<Readonly<Record<"ipv4" | "ipv6", Seen>>> {
    await this.#mark(10);
    this.#tshark.child.kill("SIGINT");
    await this.#tshark.finished;
    const packets = this.#tshark.stdout
      .trim()
      .split("\n")
      .map((line) => line.split(","))
      .filter(([, , , port]) => port !== "9" && port !== "10");
    const from = (addresses: readonly string[]): number[] =>
      packets.filter(([, ipv4 = "", ipv6 = ""]) => addresses.includes(ipv4 === "" ? ipv6 : ipv4)).map(([time]) => Number(time) * 1000);
    const seen = (ip: "ipv4" | "ipv6"): Seen => ({ sent: from([this.#host[ip]]), received: from([this.#other[ip]]) });
    const all = { ipv4: seen("ipv4"), ipv6: seen("ipv6") };
    assert.equal(Object.values(all).reduce((sum, { sent, received }) => sum + sent.length + received.length, 0), packets.filter(([time]) => time !== "").length);
    return all;
  }
}
