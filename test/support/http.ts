// A client of treesnoop's HTTP server that says exactly what it is told to, and how large the server is. Owns: finding
// the server of a run, one request on a connection of its own, raw bytes. Does not own: what a test expects.
import { readFileSync } from "node:fs";
import { once } from "node:events";
import { request, type IncomingHttpHeaders } from "node:http";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { Run } from "./run.js";
import { until } from "./wait.js";

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface Said {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export class Client {
  readonly port: number;
  readonly host: string;

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.host = hostname.replace(/^\[|\]$/g, "");
    this.port = Number(port);
  }

  /** The path goes out as it is. */
  ask(path: string, { method = "GET", headers = {}, body }: Said = {}): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const asked = request({ host: this.host, port: this.port, path, method, headers, agent: false }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => (text += part));
        response.on("end", () => {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
        });
        response.on("error", reject);
      });
      asked.on("error", reject);
      asked.end(body);
    });
  }

  async json(path: string, said?: Said): Promise<unknown> {
    const { status, text } = await this.ask(path, said);
    if (status !== 200) throw new Error(`${path}: ${status} ${text}`);
    return JSON.parse(text) as unknown;
  }

  /** A connection that says nothing yet; what fails on it is for `heard` to show. */
  connect(): Socket {
    const socket = connect(this.port, this.host);
    socket.on("error", () => undefined);
    return socket;
  }

  /** Sends these bytes and gives all that comes back until the connection is closed. */
  async raw(bytes: string): Promise<string> {
    const socket = this.connect();
    let heard = "";
    socket.setEncoding("utf8").on("data", (part: string) => (heard += part));
    socket.write(bytes);
    await new Promise((resolve) => socket.once("close", resolve));
    return heard;
  }
}

/** The server of a run, once it answers. */
export async function clientOf(run: Run): Promise<Client> {
  const url = await until("the server's address in run.json", () => {
    if (run.child.exitCode !== null) throw new Error(`treesnoop ended with ${run.child.exitCode}: ${run.stderr}`);
    try {
      return run.record().http?.url;
    } catch {
      return undefined; // not yet there
    }
  });
  return new Client(url);
}

/** A port nobody listens on, for who has to know it before the run does. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** What the process has resident, in MiB. */
export function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
}
