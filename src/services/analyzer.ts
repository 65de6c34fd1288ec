/**
 * Owns: questions about single connections while a run goes on: told to the kernel, counted there, read once a
 * second, each from the moment it was asked (bpf/include/analyzer.h). Nothing is attached while nobody asks.
 * Owns not: how the answer looks (http/analyzer-lines.ts).
 */
import { attachAll, type BpfParts, type Context, host, monotonicNs, type Need } from "../core/module.js";
import { type Identity, type Names, namesOf } from "./names.js";
import { receivedNeeds, receivedParts, sentNeeds, sentParts, stampReceived, stampSent } from "./packets.js";
import { holderNeeds, holderParts, holdSockets, pastParts, rememberOwners } from "./sockets.js";

/** Where packets end their way first: one under way while these are attached is not counted in half. */
const programs = ["analyzer_transport_in", "analyzer_link_out", "analyzer_retransmit", "analyzer_retransmit_synack", "analyzer_dropped"];

const parts: BpfParts = {
  programs: [...holderParts.programs, ...pastParts.programs, ...receivedParts.programs, ...sentParts.programs, ...programs],
  maps: [...holderParts.maps, ...pastParts.maps, ...receivedParts.maps, ...sentParts.maps],
};

export const analyzerNeeds = (): Need[] => [
  ...holderNeeds(),
  ...receivedNeeds(),
  ...sentNeeds(),
  host.tracepoint("tcp_retransmit_skb"),
  host.tracepoint("tcp_retransmit_synack"),
  host.tracepoint("kfree_skb"),
];

/** A connection as its local end sees it. Addresses are 16 bytes in network order, of IPv4 the first four; all zero: any. Port 0: any. */
export interface Connection {
  readonly ip: 4 | 6;
  readonly protocol: "tcp" | "udp";
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
}

/** By layer: link, network, transport. By crossing: link and network, link and transport, network and transport. */
export interface Direction {
  readonly packets: readonly number[];
  readonly crossings: readonly number[];
  /** Of all crossings together. */
  readonly crossingNs: readonly number[];
}

/** What was seen in one window. */
export interface Window {
  /** Its length, s. */
  readonly elapsed: number;
  readonly send: Direction;
  readonly receive: Direction;
  readonly drops: number;
  /** Whose it is; undefined: no process of the run was seen with it. */
  readonly owner: Identity | undefined;
}

/** All places for questions are taken. */
export class Busy extends Error {}

/** ANALYZER_QUERIES of bpf/include/analyzer.h */
const places = 32;
const windowMs = 1000;
/** What is attached stays so long without a question: who asks again and again is not kept waiting, ms. */
const lingerMs = 2000;
const protocols = { tcp: 6, udp: 17 } as const;

interface Count {
  packets: number[];
  crossings: number[];
  crossing_ns: number[];
}

interface Total {
  directions: Count[];
  drops: number;
  owner_ns: number;
  owner: number;
}

interface Ends {
  saddr: number[];
  daddr: number[];
  sport: number;
  dport: number;
  ip: number;
  protocol: number;
}

type Listener = (window: Window) => void;

/** What the kernel counts, for everybody who asks the same; each reckons with differences of their own. */
interface Question {
  readonly place: number;
  users: number;
}

/** What there is while somebody asks. */
interface Attached {
  readonly context: Context;
  readonly names: Names;
  readonly detach: () => void;
}

function words(address: Uint8Array): number[] {
  return [...new Uint32Array(address.slice().buffer)];
}

function endsOf({ ip, protocol, local, remote, localPort, remotePort }: Connection): Ends {
  return {
    saddr: words(local),
    daddr: words(remote),
    sport: localPort,
    dport: remotePort,
    ip,
    protocol: protocols[protocol],
  };
}

function keyOf(connection: Connection): string {
  return JSON.stringify(endsOf(connection));
}

function activate(context: Context, place: number, on: boolean): void {
  const active = context.object.variable<number>("analyzer_active");
  const bit = 1 << place;
  active.set((on ? active.get() | bit : active.get() & ~bit) >>> 0);
}

function sum(cpus: readonly Total[]): Total {
  const add = (pick: (total: Total) => number): number => cpus.reduce((all, cpu) => all + pick(cpu), 0);
  const eachLayer = (pick: (total: Total) => number[]): number[] =>
    [0, 1, 2].map((layer) => add((total) => pick(total)[layer] ?? 0));
  const latest = cpus.reduce<Total | undefined>(
    (best, cpu) => (cpu.owner_ns > (best?.owner_ns ?? 0) ? cpu : best),
    undefined,
  );
  return {
    directions: [0, 1].map((index) => ({
      packets: eachLayer((total) => total.directions[index]?.packets ?? []),
      crossings: eachLayer((total) => total.directions[index]?.crossings ?? []),
      crossing_ns: eachLayer((total) => total.directions[index]?.crossing_ns ?? []),
    })),
    drops: add((total) => total.drops),
    owner_ns: latest?.owner_ns ?? 0,
    owner: latest?.owner ?? 0,
  };
}

function since(now: Count | undefined, before: Count | undefined): Direction {
  const less = (key: keyof Count): number[] =>
    (now?.[key] ?? []).map((value, index) => value - (before?.[key][index] ?? 0));
  return { packets: less("packets"), crossings: less("crossings"), crossingNs: less("crossing_ns") };
}

/** What was counted at this place since the last call; at first, since this one. */
function windows(context: Context, names: Names, place: number): () => Window {
  const read = (): Total => sum(context.map<Total>("analyzer_totals").getPerCpu(place) ?? []);
  let before = read();
  let then = monotonicNs();
  let owner: { readonly id: number; readonly identity: Identity } | undefined;
  return () => {
    const now = monotonicNs();
    const total = read();
    if (total.owner_ns !== before.owner_ns) {
      // TIME_WAIT answers without the socket: a packet of nobody's is no news of one that is still there.
      const id = total.owner === 0 && owner && names.lives(owner.id) ? owner.id : total.owner;
      const identity = names.find(id) ?? (id === owner?.id ? owner.identity : undefined);
      owner = identity && { id, identity };
    }
    const window = {
      elapsed: (now - then) / 1e9,
      send: since(total.directions[0], before.directions[0]),
      receive: since(total.directions[1], before.directions[1]),
      drops: total.drops - before.drops,
      owner: owner?.identity,
    };
    [before, then] = [total, now];
    return window;
  };
}

/** A context of the run with these parts, and giving it back. */
export type Lend = (parts: BpfParts) => { readonly context: Context; readonly release: () => void };

export class Analyzer {
  readonly #lend: Lend;
  readonly #questions = new Map<string, Question>();
  #attached: Attached | undefined;
  #lingering: NodeJS.Timeout | undefined;

  /** `lend` gives a context of the run, held while somebody asks. */
  constructor(lend: Lend) {
    this.#lend = lend;
  }

  /**
   * Takes places for these questions, to be asked at once. Who never asks them, since the client is gone by then, does
   * not keep them longer than what is attached; the function it returns gives them back earlier.
   * @throws Busy when 32 others are asked already
   */
  prepare(connections: readonly Connection[]): () => void {
    const keys = new Set([...this.#questions.keys(), ...connections.map(keyOf)]);
    if (keys.size > places) throw new Busy();
    const taken = connections.map((connection) => this.#take(connection).giveBack);
    const release = (): void => {
      clearTimeout(late);
      for (const giveBack of taken.splice(0)) giveBack();
    };
    const late = setTimeout(release, lingerMs).unref();
    return release;
  }

  /**
   * Tells of each window of one second from now on, until the function it returns is called.
   * @throws Busy when its place was not taken before and there is none
   */
  ask(connection: Connection, listener: Listener): () => void {
    const { attached, place, giveBack } = this.#take(connection);
    const window = windows(attached.context, attached.names, place);
    const timer = setInterval(() => {
      listener(window());
    }, windowMs);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      clearInterval(timer);
      giveBack();
    };
  }

  #take(connection: Connection): { attached: Attached; place: number; giveBack: () => void } {
    const attached = this.#attach();
    const { context } = attached;
    const key = keyOf(connection);
    const question = this.#questions.get(key) ?? this.#begin(context, key, connection);
    const { place } = question;
    question.users++;
    const giveBack = (): void => {
      if (--question.users > 0) return;
      this.#questions.delete(key);
      if (this.#attached) activate(context, place, false);
      this.#linger();
    };
    return { attached, place, giveBack };
  }

  #begin(context: Context, key: string, connection: Connection): Question {
    const taken = new Set([...this.#questions.values()].map(({ place }) => place));
    const place = Array.from({ length: places }, (_, index) => index).find((index) => !taken.has(index));
    if (place === undefined) throw new Busy();
    const queries = context.object.variable<Ends[]>("analyzer_queries");
    queries.set(queries.get().map((query, index) => (index === place ? endsOf(connection) : query)));
    activate(context, place, true);
    const question = { place, users: 0 };
    this.#questions.set(key, question);
    return question;
  }

  #attach(): Attached {
    if (this.#attached) return this.#attached;
    const { context, release } = this.#lend(parts);
    try {
      holdSockets(context);
      rememberOwners(context);
      stampReceived(context, "asked");
      stampSent(context, "asked");
      const names = namesOf(context);
      const detach = attachAll(context, programs);
      const detachAll = (): void => {
        detach();
        release();
      };
      return (this.#attached = { context, names, detach: detachAll });
    } catch (error) {
      release();
      throw error;
    }
  }

  #linger(): void {
    clearTimeout(this.#lingering);
    this.#lingering = setTimeout(() => {
      if (this.#questions.size > 0) return;
      this.#attached?.detach();
      this.#attached = undefined;
    }, lingerMs).unref();
  }
}
