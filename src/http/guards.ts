/**
 * Owns: who is let in: how many clients, which Host and Origin, whose token, how large a request, how long
 * an answer may take to be fetched.
 * Owns not: whether a request makes sense (validation.ts, the routes).
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { HttpSettings } from "../core/onlooker.js";
import { isOurs } from "./address.js";
import { Refusal } from "./contract.js";

export const limits = {
  /** Connections that are answered; the same number more are told that there are too many. */
  clients: 64,
  /** Requests of one connection that have no answer yet: browsers and curl wait for each. */
  unanswered: 16,
  bodyBytes: 16 << 10,
  /** An answer that has not been fetched by then is given up, ms. */
  answerMs: 60_000,
} as const;

/** What bounds a connection's time and size. */
const bounds = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 16 << 10,
} as const;

/** The connections of a server: how many, which are too many, which ask without reading the answers. */
export class Clients {
  readonly #open = new Map<Socket, { unanswered: number }>();
  readonly #tooMany = new WeakSet<Socket>();

  serve(handler: RequestListener): Server {
    const server = createServer(bounds, (request, response) => {
      const client = this.#open.get(request.socket);
      // Node takes in all requests of a packet, a thousand or so, however many wait for their turn.
      if (!client || client.unanswered >= limits.unanswered) {
        request.socket.destroy();
        return;
      }
      client.unanswered++;
      response.once("close", () => client.unanswered--);
      handler(request, response);
    });
    server.timeout = 30_000; // without a byte either way
    server.maxConnections = 2 * limits.clients; // who comes then finds the connection closed
    server.on("connection", (socket) => {
      if (this.#open.has(socket)) return; // read anew (upgrades.ts)
      if (this.#open.size >= limits.clients) this.#tooMany.add(socket);
      this.#open.set(socket, { unanswered: 0 });
      socket.once("close", () => this.#open.delete(socket));
      socket.setMaxListeners(2 * limits.unanswered); // each answer may wait for its end
      socket.setKeepAlive(true, 30_000); // a peer that is gone without a word must not stay counted
    });
    return server;
  }

  tooMany(socket: Socket): boolean {
    return this.#tooMany.has(socket);
  }

  /** Waits a moment for what is on its way out, then closes whatever is open. */
  async close(ms: number): Promise<void> {
    const end = Date.now() + ms;
    const busy = (): boolean => [...this.#open.keys()].some((socket) => socket.writableLength > 0);
    while (busy() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
    for (const socket of this.#open.keys()) socket.destroySoon();
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (const socket of this.#open.keys()) socket.destroy();
  }
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** Whether a page of another origin is behind it. A person who follows a link there is not; a frame of a page is. */
function isForeign({ headers, socket }: IncomingMessage, host: string, port: number): boolean {
  const { origin } = headers;
  if (origin !== undefined) {
    return !origin.startsWith("http://") || !isOurs(origin.slice(7), host, port, socket.localAddress);
  }
  const site = headers["sec-fetch-site"] ?? "none";
  if (site === "none" || site === "same-origin") return false;
  return headers["sec-fetch-mode"] !== "navigate" || headers["sec-fetch-dest"] !== "document";
}

/** What a browser's EventSource and WebSocket can say of a token is in the URL only. */
function tokenOf(request: FastifyRequest): string | undefined {
  const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (bearer !== undefined || !isStreaming(request)) return bearer;
  const { token } = request.query as { token?: unknown };
  return typeof token === "string" ? token : undefined;
}

export function isStreaming(request: FastifyRequest): boolean {
  return request.ws || (request.headers.accept ?? "").includes("text/event-stream");
}

/** Of a body that is not wholly here. */
function hasMore(raw: IncomingMessage): boolean {
  const { "content-length": length, "transfer-encoding": coding } = raw.headers;
  return !raw.complete && (coding !== undefined || Number(length ?? 0) > 0);
}

/** Puts the guards before every route. `port` is known once it listens. */
export function guard(app: FastifyInstance, { host, token }: HttpSettings, clients: Clients, port: () => number): void {
  const wanted = token === undefined ? undefined : digest(token);

  app.addHook("onRequest", (request: FastifyRequest, reply: FastifyReply, done) => {
    const { raw } = request;
    const { headers, socket } = raw;
    const late = setTimeout(() => socket.destroy(), limits.answerMs).unref();
    request.fetched = () => {
      clearTimeout(late);
    };
    reply.raw.once("close", request.fetched);
    void reply.headers({
      "cache-control": "no-store",
      "content-security-policy": "default-src 'none'",
      "cross-origin-resource-policy": "same-origin",
      "x-content-type-options": "nosniff",
    });
    done(refusal());

    function refusal(): Error | undefined {
      if (clients.tooMany(socket)) {
        void reply.headers({ connection: "close", "retry-after": "1" });
        return new Refusal(503, `There are ${String(limits.clients)} clients already.`);
      }
      // A proxy's form, http://name/path: the name in it would go before the Host header.
      if (!raw.url?.startsWith("/")) return new Refusal(400, "What is asked for is a path.");
      if (!isOurs(headers.host ?? "", host, port(), socket.localAddress)) {
        return new Refusal(403, "The Host header names somebody else: use the address the server listens on.");
      }
      if (isForeign(raw, host, port())) return new Refusal(403, "Pages of another origin have no access.");
      if (wanted && !timingSafeEqual(digest(tokenOf(request) ?? ""), wanted)) {
        void reply.header("www-authenticate", "Bearer");
        return new Refusal(401, "This takes the token: Authorization: Bearer TOKEN.");
      }
      delete (request.query as { token?: unknown }).token; // no route's parameter
      if (Number(headers["content-length"] ?? 0) > limits.bodyBytes) {
        return new Refusal(413, `A body has at most ${String(limits.bodyBytes)} bytes.`);
      }
      return undefined;
    }
  });

  // The rest of a body nobody reads would be read only to be thrown away.
  app.addHook("onSend", (request, reply, _payload, done) => {
    if (hasMore(request.raw)) void reply.header("connection", "close");
    done();
  });
}
