/**
 * Owns: the words the server and its routes share: what a route is, what it is asked, what it answers.
 * Owns not: HTTP. A route knows nothing of sockets, headers and frameworks.
 */
import type { Need } from "../core/contract.js";
import type { Sources } from "../core/onlooker.js";

/** A JSON schema (draft 2020-12, as OpenAPI 3.1 has it). */
export type Schema = Readonly<Record<string, unknown>>;

/** A schema of an object, property by property. */
export interface ObjectSchema {
  readonly type: "object";
  readonly properties: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties: false;
}

/** A request that has been let in and fits the schemas. */
export interface Asked {
  /** Values of the path's `:name` parts. */
  readonly path: Readonly<Record<string, string>>;
  /** Query parameters; a boolean without a value is true. */
  readonly query: Readonly<Record<string, unknown>>;
  readonly body: unknown;
  /** The client opened a WebSocket or an EventSource: it wants a stream, whatever else it says. */
  readonly streaming: boolean;
  /** The client would rather have text/csv than JSON. */
  readonly wantsCsv: boolean;
}

/** Whole lines that came at once, without their line ends. One array may go to several clients. */
export type Lines = readonly string[];

/** What a stream's lines are handed to. */
export interface LineSink {
  send(lines: Lines): void;
  /** There will be no more. */
  end(): void;
}

/** Begins to send lines; the function it returns ends it, and is called once. Where the client has gone it is never begun. */
export type LineSource = (sink: LineSink) => () => void;

export interface Content {
  /** Media type, with its charset where it is text. */
  readonly type: string;
  readonly content: string | Buffer;
}

export interface Stream {
  /** Media type of the lines, one after the other; as events and messages they have none. */
  readonly type: string;
  readonly lines: LineSource;
}

export type Answer = Content | Stream;

export type Handler = (asked: Asked) => Answer | Promise<Answer>;

/** What a route gets to work with. */
export interface House {
  readonly sources: Sources;
  readonly routes: readonly Route[];
  /** OpenAPI document of all routes. */
  readonly document: () => object;
}

/** One file of routes/ is one route: its default export. */
export interface Route {
  /** As /api/tables/:module. */
  readonly url: string;
  readonly summary: string;
  readonly path?: ObjectSchema;
  readonly query?: ObjectSchema;
  /** With it there is POST besides GET. */
  readonly body?: ObjectSchema;
  /** What the answer is, by media type. */
  readonly answers: Readonly<Record<string, Schema>>;
  /** What the kernel must have; without it the answer is 501. */
  readonly needs?: () => readonly Need[];
  /** Called once, when there is a run to look at. */
  open(house: House): Handler;
}

/** What is wrong with a request that fits the schemas. */
export class Refusal extends Error {
  /** `path`: where in the request, as /query/sip or /body/params/sip. */
  constructor(
    readonly status: number,
    sentence: string,
    readonly path?: string,
  ) {
    super(sentence);
  }
}

export function json(value: unknown): Content {
  return { type: "application/json; charset=utf-8", content: `${JSON.stringify(value)}\n` };
}
