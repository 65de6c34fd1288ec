/**
 * Owns: the words between a run and whoever looks on from outside, the HTTP server for one: what it is
 * given, what is expected of it. Types only.
 * Owns not: anything a look could change; a run does not depend on being looked at.
 */
import type { BpfParts, Column, Context } from "./contract.js";
import type { RunRecord } from "./run-record.js";

/** The rows of one interval. */
export interface Interval {
  /** Unix time it ended at, s; undefined before the first. */
  readonly time: number | undefined;
  /** Rows as in the file, each with its LF; of very many the newest. */
  readonly lines: string;
  /** How many rows there were in all. */
  readonly all: number;
}

/** What is told of each interval; undefined: there will be no more. */
export type IntervalListener = (interval: Interval | undefined) => void;

/** The table of a module that is on. */
export interface TableView {
  readonly module: string;
  readonly summary: string;
  readonly columns: readonly Column[];
  /** First line of the file, with its LF. */
  readonly header: string;
  readonly file: string;
  /** Rows in the file so far. */
  readonly rows: number;
  /** The latest interval that is over; of a stream nobody has looked at, the one that is running. */
  latest(): Promise<Interval>;
  /** Tells of every interval from now on, until the function it returns is called. */
  subscribe(listener: IntervalListener): () => void;
}

/** A context of one's own; what was taken through it is given back with `release`. */
export interface Loan {
  readonly context: Context;
  readonly release: () => void;
}

export interface Sources {
  /** run.json as it is now. */
  run(): RunRecord;
  /** Tables of the modules that are on. */
  tables(): readonly TableView[];
  /** With these parts, loaded by the first that asks. @throws VerifierError, BpfError */
  lend(parts: BpfParts): Loan;
}

/** What a run tells of the one who looks on, in run.json. */
export interface OnlookerRecord {
  url: string;
  /** Clients that did not keep up with what they had asked for. */
  clients_dropped: number;
}

export interface Onlooker {
  readonly record: OnlookerRecord;
  /** Where it is, for a user. */
  readonly note: string;
  /** The run has everything there is to look at. */
  begin(sources: Sources): void;
  stop(): Promise<void>;
}

export interface HttpSettings {
  /** 0: any that is free. */
  readonly port: number;
  readonly host: string;
  readonly token: string | undefined;
}

/** Opens it before anything is launched. @throws RunError when it cannot listen as configured */
export type OpenOnlooker = (settings: HttpSettings) => Promise<Onlooker>;
