/**
 * Owns: a source of lines as plain lines (newline-delimited JSON), Server-Sent Events or WebSocket messages; a client that
 * does not fetch them is dropped, so that nobody waits for it and nothing piles up.
 * Owns not: what the lines are.
 */
import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { WebSocket } from "@fastify/websocket";
import type { Lines, LineSource, Stream } from "./contract.js";

/** Bytes that may still wait for a client when the next lines come. */
export const backlogBytes = 256 << 10;

/** One way to bring lines to a client. */
interface Carrier {
  /** Bytes that wait for it. */
  readonly waiting: number;
  send(lines: Lines): void;
  /** `byRun`: the run is over; else the source has no more, or was asked for no more. */
  end(byRun: boolean): void;
  drop(): void;
}

/** What several clients get is encoded once; and who is slow holds on to what the others hold on to. */
function shared(encode: (lines: Lines) => readonly Buffer[]): (lines: Lines) => readonly Buffer[] {
  const made = new WeakMap<Lines, readonly Buffer[]>();
  return (lines) => {
    let buffers = made.get(lines);
    if (!buffers) made.set(lines, (buffers = encode(lines)));
    return buffers;
  };
}

const asLines = shared((lines) => [Buffer.from(lines.map((line) => `${line}\n`).join(""))]);
const asEvents = shared((lines) => [Buffer.from(lines.map((line) => `data: ${line.replaceAll("\n", "\ndata: ")}\n\n`).join(""))]);
const asMessages = shared((lines) => lines.map((line) => Buffer.from(line)));

/** The response's body is the lines; its head is written by `begin`, with the first of them at the latest. */
function responseCarrier(response: ServerResponse, begin: () => void, encode: (lines: Lines) => readonly Buffer[]): Carrier {
  return {
    get waiting() {
      return response.writableLength;
    },
    send: (lines) => {
      begin();
      for (const buffer of encode(lines)) response.write(buffer);
    },
    end: () => {
      begin();
      response.end();
    },
    drop: () => response.destroy(),
  };
}

/** `raw`: the socket under it. */
function webSocketCarrier(client: WebSocket, raw: Socket): Carrier {
  return {
    get waiting() {
      return client.bufferedAmount;
    },
    send: (lines) => {
      raw.cork(); // one packet, not one for each
      for (const buffer of asMessages(lines)) client.send(buffer, { binary: false });
      raw.uncork();
    },
    end: (byRun) => {
      if (byRun) client.close(1001, "treesnoop has ended");
      else client.close(1000, "there is no more");
    },
    drop: () => {
      client.terminate();
    },
  };
}

export class Streams {
  readonly #ends = new Set<(byRun: boolean) => void>();
  readonly #onDrop: () => void;

  /** `onDrop`: a client did not keep up. */
  constructor(onDrop: () => void) {
    this.#onDrop = onDrop;
  }

  /**
   * As plain lines, or as Server-Sent Events. `socket`: a response that waits for its turn on it has none yet. What the
   * source throws, it throws before the head is sent: there can be a status for it.
   */
  toResponse({ type, lines }: Stream, response: ServerResponse, socket: Socket, headers: OutgoingHttpHeaders, events: boolean): void {
    if (response.destroyed || socket.destroyed) return; // gone before the run had begun
    const contentType = events ? "text/event-stream; charset=utf-8" : type;
    const begin = (): void => {
      if (!response.headersSent) response.writeHead(200, { ...headers, "content-type": contentType }).flushHeaders();
    };
    const stop = this.#run(lines, responseCarrier(response, begin, events ? asEvents : asLines));
    begin();
    socket.setTimeout(0); // between two lines may be any time
    // Node tells only the response whose turn it is that the connection is closed.
    socket.once("close", stop);
    response.once("close", () => {
      socket.off("close", stop);
      stop();
    });
  }

  toWebSocket({ lines }: Stream, client: WebSocket, raw: Socket): void {
    const stop = this.#run(lines, webSocketCarrier(client, raw));
    client.once("close", stop);
    client.on("ping", (data) => {
      // ws would answer each at once: a client that sends pings and reads nothing has it pile up answers.
      if (client.bufferedAmount === 0) client.pong(data);
    });
    client.on("message", () => {
      client.close(1008, "nothing is expected from you");
    });
  }

  /** Ends them all: each client gets what waits for it, and is told that this was all. */
  endAll(): void {
    for (const end of [...this.#ends]) end(true);
  }

  /** The function it returns is for when the client is gone. */
  #run(source: LineSource, carrier: Carrier): () => void {
    const over = new AbortController();
    const stop = (): void => {
      this.#ends.delete(end);
      over.abort();
    };
    const end = (byRun: boolean): void => {
      if (over.signal.aborted) return;
      stop();
      carrier.end(byRun);
    };
    const send = (lines: Lines): void => {
      if (over.signal.aborted || lines.length === 0) return;
      if (carrier.waiting <= backlogBytes) {
        carrier.send(lines);
        return;
      }
      stop();
      carrier.drop();
      this.#onDrop();
    };
    this.#ends.add(end);
    let stopSource: () => void;
    try {
      stopSource = source({ send, end: () => { end(false); } });
    } catch (error) {
      stop();
      throw error;
    }
    if (over.signal.aborted) stopSource();
    else over.signal.addEventListener("abort", stopSource, { once: true });
    return stop;
  }
}
