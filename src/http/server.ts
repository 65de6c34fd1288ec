/**
 * Owns: the server: made of the routes and the guards before them, listening before anything is launched,
 * answering when there is a run to look at, gone when that is over.
 * Owns not: what a route answers, who is let in.
 */
import type { OutgoingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import swagger from "@fastify/swagger";
import websocket from "@fastify/websocket";
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { version } from "../core/cli.js";
import { host } from "../core/host.js";
import type { HttpSettings, Onlooker, OnlookerRecord } from "../core/onlooker.js";
import { listenFailure, resolve, urlOf } from "./address.js";
import { type Answer, type Asked, type Handler, type House, Refusal, type Route } from "./contract.js";
import { Clients, guard, isStreaming, limits } from "./guards.js";
import { loadRoutes } from "./registry.js";
import { Streams } from "./streaming.js";
import { webSocketsOf } from "./upgrades.js";
import { answerErrors, fillFlags, refusalSchema } from "./validation.js";

/** At the end clients have so long to take what is on its way, ms. */
const farewellMs = 250;

declare module "fastify" {
  interface FastifyRequest {
    /** The answer needs no deadline any more. */
    fetched: () => void;
    answer: Answer;
  }
}

function parseQuery(text: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(text));
}

function asked(request: FastifyRequest): Asked {
  const accept = request.headers.accept ?? "";
  return {
    path: request.params as Asked["path"],
    query: request.query as Asked["query"],
    body: request.body,
    streaming: isStreaming(request),
    wantsCsv: accept.includes("text/csv") && !accept.includes("application/json"),
  };
}

/** Of a route that needs what this host does not have, the handler says so. */
function openRoute(route: Route, house: House): Handler {
  const missing = host.missing(route.needs?.() ?? []);
  if (!missing) return route.open(house);
  return () => {
    throw new Refusal(501, `${route.url} cannot be had here: ${missing.reason}`);
  };
}

/** The answer is found before it is sent: a WebSocket, too, is refused by a status. */
function addRoute(app: FastifyInstance, route: Route, handler: () => Promise<Handler>, streams: Streams): void {
  const response = Object.entries(route.answers).map(([type, schema]) => [type, { schema }] as const);
  const options = {
    url: route.url,
    schema: {
      summary: route.summary,
      ...(route.path ? { params: route.path } : {}),
      ...(route.query ? { querystring: route.query } : {}),
      response: { 200: { description: route.summary, content: Object.fromEntries(response) }, "4xx": refusalSchema },
    },
    preValidation: (request: FastifyRequest, _reply: FastifyReply, done: () => void) => {
      fillFlags(request.query as Record<string, unknown>, route.query);
      done();
    },
    preHandler: async (request: FastifyRequest) => {
      request.answer = await (await handler())(asked(request));
      if (request.ws && !("lines" in request.answer)) throw new Refusal(400, "This is no stream.");
    },
    handler: (request: FastifyRequest, reply: FastifyReply) => {
      const { answer } = request;
      if (!("lines" in answer)) return reply.type(answer.type).send(answer.content);
      request.fetched();
      const headers = reply.getHeaders() as OutgoingHttpHeaders;
      streams.toResponse(answer, reply.raw, request.raw.socket, headers, isStreaming(request));
      return reply.hijack();
    },
  };
  app.route({
    ...options,
    method: "GET",
    wsHandler: (client, request) => {
      request.fetched();
      if ("lines" in request.answer) streams.toWebSocket(request.answer, client, request.raw.socket);
    },
  });
  if (route.body) app.route({ ...options, method: "POST", schema: { ...options.schema, body: route.body } });
}

async function makeApp(settings: HttpSettings, clients: Clients): Promise<FastifyInstance> {
  const app = fastify({
    bodyLimit: limits.bodyBytes,
    serverFactory: (handler) => clients.serve(handler),
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    routerOptions: { querystringParser: parseQuery },
  });
  app.removeContentTypeParser("text/plain"); // the one kind of body a foreign page may send unasked
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "treesnoop", description: "What a run sees, while it sees it.", version },
      ...(settings.token === undefined
        ? {}
        : {
            components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
            security: [{ token: [] }],
          }),
    },
  });
  await app.register(websocket, {
    options: { maxPayload: 1024, autoPong: false, server: webSocketsOf(app.server) },
    errorHandler: (_error, client) => {
      client.terminate(); // gone without a farewell, or not speaking the protocol: nobody's news
    },
  });
  return app;
}

export async function openServer(settings: HttpSettings, report: (sentence: string) => void): Promise<Onlooker> {
  const address = await resolve(settings);
  const routes = await loadRoutes();
  const clients = new Clients();
  const app = await makeApp(settings, clients);
  const port = (): number => (app.server.address() as AddressInfo).port;
  guard(app, settings, clients, port);
  answerErrors(app, report);

  let begin: (house: House) => void = () => undefined;
  const house = new Promise<House>((resolved) => {
    begin = resolved;
  });
  const record: OnlookerRecord = { url: "", clients_dropped: 0 };
  const streams = new Streams(() => record.clients_dropped++);
  for (const route of routes) {
    let opened: Promise<Handler> | undefined;
    addRoute(app, route, () => (opened ??= house.then((there) => openRoute(route, there))), streams);
  }
  try {
    await app.listen({ host: address.address, port: settings.port });
  } catch (error) {
    throw listenFailure(error, settings);
  }
  record.url = urlOf(settings.host, port());

  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    streams.endAll();
    await clients.close(farewellMs);
    await app.close();
  };
  return {
    record,
    note: `http: ${record.url}${address.local ? "" : ", which others can reach: every request takes the token"}`,
    begin: (sources) => {
      begin({ sources, routes, document: () => app.swagger() });
    },
    stop: () => (stopped ??= stop()),
  };
}
