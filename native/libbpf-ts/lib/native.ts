// SPDX-License-Identifier: MIT
// The addon's surface, typed. Nothing outside lib/ sees it.
import { createRequire } from "node:module";

export interface NativeProgramSpec {
  name: string;
  section: string;
  type: string;
  autoload: boolean;
  loaded: boolean;
}

export interface NativeMapSpec {
  name: string;
  type: string;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags: number;
  keyTypeId: number;
  valueTypeId: number;
  internal: boolean;
  autocreate: boolean;
  shared: boolean;
  created: boolean;
}

export interface NativeObject {
  programs(): NativeProgramSpec[];
  maps(): NativeMapSpec[];
  btf(): Buffer | undefined;
  setAutoload(program: string, value: boolean): void;
  setAutocreate(map: string, value: boolean): void;
  setMaxEntries(map: string, value: number): void;
  writeInitial(map: string, offset: number, bytes: Uint8Array): void;
  load(): void;
  program(name: string): NativeProgram;
  map(name: string): NativeMap;
  close(): void;
}

export interface NativeShape {
  keySize: number;
  valueSize: number;
  valueStride: number;
  valueBytes: number;
  maxEntries: number;
  perCpu: boolean;
}

export interface NativeMap {
  fd(): number;
  shape(): NativeShape;
  lookup(key: Uint8Array): Buffer | undefined;
  update(key: Uint8Array, value: Uint8Array, flags: number): void;
  remove(key: Uint8Array): boolean;
  entries(drain: boolean): { count: number; keys: Buffer; values: Buffer };
  removeMany(keys: Uint8Array): number;
  readMemory(offset: number, length: number): Buffer;
  writeMemory(offset: number, bytes: Uint8Array): void;
}

export interface NativeProgram {
  fd(): number;
  information(): { id: number; runTimeNs: bigint; runCount: bigint; recursionMisses: bigint };
  testRun(context: Uint8Array, cpu: number): number;
  attach(): NativeLink;
  attachUprobe(
    path: string,
    offset: number | bigint,
    pid: number,
    retprobe: boolean,
    cookie: bigint,
  ): NativeLink;
  attachCgroup(path: string): NativeLink;
  attachPerfEvent(
    type: number,
    config: number | bigint,
    samplePeriod: number,
    sampleFrequency: number,
    pid: number,
    cpu: number,
  ): NativeLink;
  attachIterator(): NativeLink;
  attachRawTracepoint(name: string): NativeLink;
  attachScopedUprobe(event: NativeUprobeEvent, cookie: bigint, anchorPid: number): NativeLink;
  attachNetfilter(family: number, hook: number, priority: number, namespace: number): NativeLink;
}

export interface NativeLink {
  closed(): boolean;
  close(): void;
  readIterator(): Buffer;
}

export interface NativeRing {
  fill(buffer: Uint8Array, maxRecords: number): number;
  pending(): number;
  rearm(): void;
  closed(): boolean;
  close(): void;
}

export interface NativeTracefs {
  readText(path: string): string;
  appendText(path: string, text: string): void;
  defineUprobe(
    group: string,
    name: string,
    path: string,
    offset: number | bigint,
    retprobe: boolean,
  ): NativeUprobeEvent;
  close(): void;
}

export interface NativeUprobeEvent {
  id(): number;
  include(tid: number): boolean;
  includeEveryone(): void;
  closed(): boolean;
  close(): void;
}

export interface NativeElfSymbol {
  name: string;
  address: bigint;
  offset: number;
  size: number;
  type: "function" | "object" | "other" | "ifunc";
  exported: boolean;
}

export interface NativeElfInfo {
  machine: string;
  type: "executable" | "shared" | "relocatable" | "core" | "other";
  interpreter?: string;
  needed: string[];
  runpath?: string;
  buildId?: string;
  hasSymtab: boolean;
}

export interface NativeCondition {
  offset: number;
  width: number;
  equal: boolean;
  /** The field's bits, zero-extended. */
  value: bigint;
}

export interface NativeCell {
  kind:
    | "unsigned"
    | "signed"
    | "hex"
    | "boolean"
    | "seconds"
    | "fixed"
    | "signed fixed"
    | "names"
    | "signed names"
    | "text"
    | "ipv4"
    | "ipv6";
  offset: number;
  width: number;
  divisor: number;
  digits: number;
  /** By value; an empty one is no name. */
  names: string[];
  /** Of values that would make `names` too long: 64 bits, sign-extended, ascending. */
  farNames: { value: bigint; name: string }[];
  other: string;
  when: NativeCondition[];
}

export interface NativeEventSpec {
  timeOffset: number;
  unixOffsetNs: bigint;
  columns: NativeCell[][];
}

export interface NativeEventTable {
  row(record: Uint8Array, pid: number, name: Uint8Array): Buffer;
  lostRow(ns: bigint, pid: number, name: Uint8Array, lost: number | bigint): Buffer;
  endRow(pid: number, name: Uint8Array): Buffer;
}

export interface NativeFileFigures {
  /** Rows in the files, headers aside; of these, rows that are events. */
  rows: number;
  events: number;
  /** Rows that could not be written; of these, events. */
  rowsLost: number;
  eventsLost: number;
  bytes: number;
  files: number;
  /** errno of the last write that failed, 0 when none has; EAGAIN: a pipe's reader is slow. */
  problem: number;
}

export interface NativeCsvFile {
  append(lines: string, rows: number): void;
  figures(): NativeFileFigures;
  close(timeoutMs: number): void;
}

export interface NativeTap {
  take(): { bytes: Buffer; skipped: number };
  close(): void;
}

export interface NativeCsvWriter {
  readEvents(
    rings: NativeMap,
    cpus: readonly number[],
    bytesPerCpu: number,
    layout: Uint32Array,
    sources: NativeMap,
  ): void;
  openFile(
    fd: number,
    folderFd: number,
    name: string,
    header: string,
    maxSize: number,
    compression: number,
  ): NativeCsvFile;
  bind(stream: number, table: NativeEventTable, file: NativeCsvFile): void;
  moveTo(stream: number, file: NativeCsvFile): void;
  unbind(stream: number): void;
  introduce(source: number, pid: number, name: Uint8Array): void;
  lost(stream: number, source: number, count: number): void;
  end(sources: Uint32Array): void;
  sync(id: number, quiesce: boolean): void;
  losses(stream: number): { pid: number; name: Buffer; count: number }[];
  tap(stream: number, where: readonly NativeCondition[], perSecond: number, id: number): NativeTap;
  close(): void;
}

export interface NativeModule {
  NativeObject: new (file: string | Uint8Array | NativeObject, name: string) => NativeObject;
  NativeRing: new (maps: NativeMap[], onReadable?: () => void) => NativeRing;
  NativeEventTable: new (spec: NativeEventSpec) => NativeEventTable;
  NativeCsvWriter: new (onEvent: (kind: number, id: number) => void) => NativeCsvWriter;
  NativeTracefs: new () => NativeTracefs;
  setErrorFactory(
    factory: (
      operation: string,
      object: string,
      errno: number,
      message: string,
      log: string,
    ) => Error,
  ): void;
  setLogListener(level?: number, listener?: (level: number, text: string) => void): void;
  elfSymbols(path: string, names: readonly string[]): NativeElfSymbol[];
  elfInfo(path: string): NativeElfInfo;
  probeProgramType(type: string): number | undefined;
  probeMapType(type: string): number | undefined;
  probeHelper(programType: string, helper: number): number | undefined;
  helperId(name: string): number | undefined;
  hasBtf(): boolean;
  hasType(name: string): boolean | undefined;
  hasMember(type: string, member: string): boolean | undefined;
  enumerators(name: string): (string | bigint)[] | undefined;
  enableStatistics(): number;
  libbpfVersion(): string;
  possibleCpus(): number;
}

// The tests run against a sanitizer build too. Only this one name: whoever sets the environment of a
// privileged process must not choose the code it loads.
const folder = process.env["LIBBPF_TS_BUILD"] === "build-asan" ? "build-asan" : "build";

export const native = createRequire(import.meta.url)(
  `../${folder}/Release/libbpf_ts.node`,
) as NativeModule;
