/**
 * Owns: the words core and modules share: what a module is, what it is given, what it hands back. Types
 * only.
 * Owns not: any behaviour. Modules import all of it through module.ts.
 */
import type { BpfMap, EventCells, Link, LoadedObject, NetfilterOptions, UprobeEvent } from "libbpf-ts";

/** What a cell may hold; `undefined` and `""` are the empty cell. */
export type Cell = number | bigint | string | undefined;

/** One column, in the order of the file. `ticks` cells come from {@link Tick}. */
export interface Column<Name extends string = string> {
  readonly name: Name;
  readonly type: "ticks" | "integer" | "number" | "text";
  readonly unit?: string;
  readonly description: string;
  /** Decimals of a `number`; 3 when not given. */
  readonly digits?: number;
  /** In a stream's table: the record's field it shows, and how. */
  readonly from?: EventCells;
}

/** A row is keyed by column, so a missing or misspelt column does not compile. */
export type RowOf<Columns extends readonly Column[]> = Readonly<
  Record<Columns[number]["name"], Cell>
>;

/** A row of a table whose columns are only known from the options. */
export type AnyRow = Readonly<Record<string, Cell>>;

/** The columns every per-process table begins with. */
export const processColumns = [
  {
    name: "Ticks",
    type: "ticks",
    unit: "s",
    description: "Unix time of the tick; END in the last row of a process",
  },
  { name: "PID", type: "integer", description: "process (tgid) in the monitor's pid namespace" },
  { name: "COMM", type: "text", description: "name of the process at that moment" },
] as const satisfies readonly Column[];

/** A process of the tree, as the kernel recorded it. */
export interface Process {
  /** Serial number, unique in the run: the key of every per-process BPF map. */
  readonly id: number;
  readonly pid: number;
  readonly comm: string;
  /** Serial number of the parent, 0 for a root. */
  readonly parent: number;
  readonly threads: number;
  /** True once its last thread has left the CPU for good: its figures are final. */
  readonly ended: boolean;
  /** Once ended: CPU time of its whole life as the scheduler accounted it, ns. */
  readonly cpuNs: number;
}

/** One interval, as handed to every sampler. */
export interface Tick {
  /** Seconds since this module's previous tick, measured; of the first tick, since it began. */
  readonly elapsed: number;
  /** Unix time it ends at, s: the `Ticks` cell of a row that is about no process. */
  readonly time: number;
  /** Every process that was alive at some time since the previous tick. */
  readonly processes: readonly Process[];
  /**
   * The cells `Ticks`, `PID` and `COMM` of a row about this process. Take them out by name: spreading an
   * object into a row costs twenty times as much as naming its cells (V8), and there are thousands.
   */
  identify(process: Process): RowOf<typeof processColumns>;
}

/** A module that is asked for a few rows each tick. */
export interface Sampler {
  readonly kind: "sampler";
  /** Name of the way the figures are taken, for run.json. */
  readonly backend: string;
  /** The launched target is about to execute: what was before is not part of the run. */
  begin?(): void;
  /**
   * Takes the reading, where that is a moment of its own, and tells when it was, CLOCK_MONOTONIC ns: the
   * tick that `sample` is given ends then.
   */
  read?(): number;
  sample(tick: Tick): Iterable<AnyRow> | Promise<Iterable<AnyRow>>;
  /** Called after the rows of the tick are on disk: the ended processes will not come again. */
  forget?(ended: readonly Process[]): void;
  /** Events that could not be counted, since the start. */
  lost?(): number;
  stop(): void;
}

/** A module whose rows are event records. They go from the kernel to the file without JavaScript. */
export interface Stream {
  readonly kind: "stream";
  readonly backend: string;
  /** Events that never became a record, since the start. */
  lost?(): number;
  stop(): void;
}

/** The answer to "does this host have it", for `treesnoop modules` and for errors. */
export interface Need {
  /** What is needed, in one or two words, e.g. "tp_btf/sched_switch". */
  readonly feature: string;
  readonly supported: boolean | "unknown";
  /** The sentence a user reads: what was found and, when missing, the command that fixes it. */
  readonly reason: string;
}

export interface StreamParts {
  /** `const volatile` variable that holds the stream's number. */
  readonly number: string;
  /** C type of the record, e.g. "struct syscall_event"; it begins with a `struct event`. */
  readonly record: string;
}

/** BPF the module uses: names in the shared object. */
export interface BpfParts {
  readonly programs: readonly string[];
  readonly maps: readonly string[];
  /** Of a module that streams. */
  readonly stream?: StreamParts;
}

/** What is loaded by now of the shared object, by name. */
export type LoadedParts = Pick<LoadedObject, "btf" | "hasProgram" | "program" | "map" | "variable">;

/** A facility several modules use at once. */
export interface Service {
  /** Called at the beginning of each tick, before the modules are read. */
  tick?(): void;
  /** As {@link Sampler.forget}. */
  forget?(ended: readonly Process[]): void;
  stop(): void;
}

/** A process of the tree has replaced its program. */
export interface ExecEvent {
  /** Serial number of the process. */
  readonly process: number;
  readonly pid: number;
}

/** Which processes the run is about, for probes that live in user space. */
export interface Scope {
  /** Of a launched target, before it runs: its command and environment. */
  readonly launch: { readonly command: string; readonly env: NodeJS.ProcessEnv } | undefined;
  /** A live process of the tree; the monitor itself where the tree is everybody. */
  anchor(): number;
  processes(): readonly Process[];
  /** Live processes of the tree. */
  pids(): readonly number[];
  /** Makes the uprobe fire in every process of the tree, now and later, and in no other. */
  cover(event: UprobeEvent): void;
  /** The function it returns ends the listening. */
  onExec(listener: (event: ExecEvent) => void): () => void;
}

/** What a module gets to work with. */
export interface Context {
  readonly object: LoadedParts;
  /** Attaches a program by its SEC(), once however many modules ask; released with the returned link. */
  attach(program: string): Link;
  /**
   * Attaches a netfilter program in a network namespace, counted likewise. Its priority is the given one or, where other
   * BPF programs have that, the next towards zero.
   */
  attachNetfilter(program: string, place: NetfilterOptions): Link;
  map<Value>(name: string): BpfMap<number, Value>;
  /** The processes of the tree at this moment. */
  processes(): readonly Process[];
  /** Which processes the run is about; for probes that live in user space. */
  readonly scope: Scope;
  /** Notes a limit of this run in run.json, and on a terminal. */
  warn(sentence: string): void;
  /** A facility shared by modules, made by the first that asks and stopped with the last. */
  shared<T extends Service>(name: string, make: () => T): T;
}

/** The part of config.json a module owns: JSON-schema fragments by key. */
export type ConfigProperties = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** What config.json asks of a module. */
export interface Request<Options> {
  readonly options: Options;
  /** File name, relative to the output folder. */
  readonly file: string;
}

export interface Module<Options = unknown> {
  /** File stem, config key and symbol prefix. */
  readonly name: string;
  readonly summary: string;
  readonly config: ConfigProperties;
  /** The request in this (validated) configuration, or undefined when the module is off. */
  request(config: Readonly<Record<string, unknown>>): Request<Options> | undefined;
  /** JSON path of the key that names the output file, for messages. */
  readonly fileKey: string;
  columns(options: Options): readonly Column[];
  bpf(options: Options | undefined): BpfParts;
  needs(options: Options | undefined): readonly Need[];
  start(context: Context, options: Options): Sampler | Stream | Promise<Sampler | Stream>;
}
