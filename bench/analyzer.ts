// Prints: what it costs a packet that somebody asks for its connection over HTTP, and a packet of another connection meanwhile: run
// time of our programs, and what iperf3 still gets of 64-byte datagrams. With minutes as the argument, what the monitor has resident
// while eight clients ask, minute by minute.
import { residentMiB } from "../test/support/http.js";
import { alternate, heading, line, median, pause, times } from "./support/measure.js";
import { datagrams, makeHosts, perPacket, removeHosts, watching, type Watching } from "./support/packets.js";

const rounds = 5;
const minutes = Number(process.argv[2] ?? 0);
const config = { http: { port: 0 } };

/** iperf3's port, and one that nobody uses. */
const [matching, other] = [5201, 9] as const;

interface Asking {
  readonly end: () => Promise<void>;
}

/** `end`: of the connection it asks for, where the port is. */
async function ask({ record }: Watching, port: number, end: "sport" | "dport"): Promise<Asking> {
  const abort = new AbortController();
  const query = `api/NumLatencyFrequency?ipv4=true&${end}=${port.toString()}&protocol=udp`;
  const { body, status } = await fetch(`${record().http?.url ?? ""}${query}`, { signal: abort.signal });
  if (status !== 200) throw new Error(`status ${status.toString()}`);
  const consume = async (): Promise<void> => {
    for await (const part of body as unknown as AsyncIterable<Uint8Array>) if (part.length === 0) return;
  };
  const over = consume().catch(() => undefined);
  return {
    end: () => {
      abort.abort();
      return over;
    },
  };
}

/** Each client asks for one end of a connection; both ends of the first are here. */
async function asking<T>(port: number, measure: (watching: Watching) => Promise<T>, clients = 2): Promise<T> {
  return watching(
    config,
    async (run) => {
      const questions = await Promise.all(Array.from({ length: clients }, (_, index) => ask(run, port + (index >> 1), index % 2 === 0 ? "dport" : "sport")));
      const value = await measure(run);
      await Promise.all(questions.map(({ end }) => end()));
      return value;
    },
    false,
  );
}

removeHosts();
makeHosts();
try {
  heading("run time of our programs for a 64-byte datagram, sent and received, the measuring of it included");
  for (const [name, port] of [
    ["asked for", matching],
    ["of another connection", other],
  ] as const) {
    const { ns, runs } = await asking(port, ({ pid }) => perPacket(pid, datagrams));
    line(name, ns, "ns", `${runs.toFixed(1)} programs`);
  }

  heading(`64-byte datagrams, 1000 a second, median of ${rounds}`);
  const taken = await alternate(rounds, {
    bare: datagrams,
    "the server is there, nobody asks": () => watching(config, datagrams, false),
    "asked for": () => asking(matching, datagrams),
    "another connection is asked for": () => asking(other, datagrams),
  });
  for (const [name, value] of Object.entries(taken)) {
    const packetNs = 1e6 / value - 1e6 / taken.bare;
    line(name, value, "", name === "bare" ? "" : `${times(value, taken.bare)} bare, ${packetNs.toFixed(0)} ns a packet more`);
  }

  if (minutes > 0) {
    heading("resident while eight clients ask for the ends of four connections, one of them busy");
    await asking(
      matching,
      async ({ pid }) => {
        for (let minute = 1; minute <= minutes; minute++) {
          const samples: number[] = [];
          const end = performance.now() + 60_000;
          while (performance.now() < end) {
            await datagrams();
            samples.push(residentMiB(pid));
            await pause(1000);
          }
          line(`minute ${minute.toString()}`, median(samples), "MiB");
        }
      },
      8,
    );
  }
} finally {
  removeHosts();
}
