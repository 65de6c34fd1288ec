/** GET or POST /api/NumLatencyFrequency: one connection's packets, latency and frequency across layers, once a second. */
import ipaddr from "ipaddr.js";
import { Analyzer, analyzerNeeds, Busy, type Connection } from "../../services/analyzer.js";
import { linesOf, type Named } from "../analyzer-lines.js";
import { type LineSource, type ObjectSchema, Refusal, type Route, type Schema } from "../contract.js";

interface Params {
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly sip?: string;
  readonly dip?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly protocol?: "tcp" | "udp";
}

interface Question {
  readonly named: Named;
  readonly connection: Connection;
}

const port = (end: string): Schema => ({
  type: "integer",
  minimum: 0,
  maximum: 65535,
  default: 0,
  description: `${end} port; 0: any`,
});
const address = (end: string): Schema => ({
  type: "string",
  maxLength: 45,
  description: `${end} address; 0.0.0.0 or ::, or none: any`,
});

const params = {
  ipv4: { type: "boolean", description: "IPv4; what is asked when neither is named" },
  ipv6: { type: "boolean", description: "IPv6; with both there are 13 lines of each" },
  sip: address("local"),
  dip: address("remote"),
  sport: port("local"),
  dport: port("remote"),
  protocol: { enum: ["tcp", "udp"], default: "tcp" },
} as const;

const type = { const: "NumLatencyFrequency" } as const;
const once = { type: "boolean", default: false, description: "the first second's lines, then the end" } as const;

const query: ObjectSchema = {
  type: "object",
  properties: { type, ...params, once },
  additionalProperties: false,
};

const body: ObjectSchema = {
  type: "object",
  properties: { type, params: { type: "object", properties: params, additionalProperties: false } },
  required: ["type", "params"],
  additionalProperties: false,
};

/** Where the parameters are, as a refusal names it. */
type Place = "query" | "body/params";

/** 16 bytes, of IPv4 the first four. */
function bytesOf(name: "sip" | "dip", { [name]: text }: Params, place: Place, ip: 4 | 6): { text: string; bytes: Uint8Array } {
  const refuse = (why: string): never => {
    throw new Refusal(400, `${place}/${name} is ${JSON.stringify(text)}${why}`, `/${place}/${name}`);
  };
  const any = ip === 4 ? "0.0.0.0" : "::";
  const wanted = text === undefined || text === "" || text === "0.0.0.0" || text === "::" ? any : text;
  const family = ip === 4 ? "ipv4" : "ipv6";
  if (wanted.includes("%") || !(ip === 4 ? ipaddr.IPv4.isValidFourPartDecimal(wanted) : ipaddr.IPv6.isValid(wanted))) {
    refuse(`, which is no ${family} address.`);
  }
  const parsed = ipaddr.parse(wanted);
  if (parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress()) {
    refuse(`: its packets are IPv4. Ask for ${parsed.toIPv4Address().toString()} with "ipv4": true.`);
  }
  const bytes = new Uint8Array(16);
  bytes.set(parsed.toByteArray());
  return { text: wanted, bytes };
}

function questionOf(params: Params, place: Place, ip: 4 | 6): Question {
  const { sport = 0, dport = 0, protocol = "tcp" } = params;
  const local = bytesOf("sip", params, place, ip);
  const remote = bytesOf("dip", params, place, ip);
  return {
    named: { type: ip === 4 ? "ipv4" : "ipv6", saddr: local.text, daddr: remote.text, sport, dport },
    connection: { ip, protocol, local: local.bytes, remote: remote.bytes, localPort: sport, remotePort: dport },
  };
}

function questionsOf(params: Params, place: Place): Question[] {
  const { ipv6 = false, ipv4 = !ipv6 } = params;
  if (!ipv4 && !ipv6) throw new Refusal(400, `${place}/ipv4 and ${place}/ipv6 are both false: one must be true.`, `/${place}/ipv4`);
  return [...(ipv4 ? [questionOf(params, place, 4)] : []), ...(ipv6 ? [questionOf(params, place, 6)] : [])];
}

/** The places are taken here, where there is still a status to say that there are none. */
function answers(analyzer: Analyzer, questions: readonly Question[], justOnce: boolean): LineSource {
  const release = placesFor(analyzer, questions);
  return (sink) => {
    let open = questions.length;
    const ends: (() => void)[] = [];
    const endAll = (): void => {
      for (const end of ends) end();
    };
    try {
      for (const { named, connection } of questions) {
        const end = analyzer.ask(connection, (window) => {
          sink.send(linesOf(named, window));
          if (!justOnce) return;
          end();
          if (--open === 0) sink.end();
        });
        ends.push(end);
      }
    } catch (error) {
      endAll();
      throw error;
    } finally {
      release();
    }
    return endAll;
  };
}

function placesFor(analyzer: Analyzer, questions: readonly Question[]): () => void {
  try {
    return analyzer.prepare(questions.map(({ connection }) => connection));
  } catch (error) {
    if (!(error instanceof Busy)) throw error;
    throw new Refusal(503, "32 connections are asked for already: end one of these requests.");
  }
}

export default {
  url: "/api/NumLatencyFrequency",
  summary: "A connection's packets by layer, the time between layers, and its drops, every second.",
  query,
  body,
  answers: {
    "application/x-ndjson": { type: "string", description: "13 lines a second: {type, data}, data a JSON text" },
    "text/event-stream": { type: "string", description: "where a client accepts that: the same as events" },
  },
  needs: analyzerNeeds,
  open({ sources }) {
    const analyzer = new Analyzer((parts) => sources.lend(parts));
    return ({ query, body }) => {
      const { once: justOnce = false, ...asked } = query as Params & { once?: boolean };
      const posted = (body as { params: Params } | undefined)?.params;
      const questions = posted ? questionsOf(posted, "body/params") : questionsOf(asked, "query");
      return { type: "application/x-ndjson; charset=utf-8", lines: answers(analyzer, questions, justOnce) };
    };
  },
} satisfies Route;
