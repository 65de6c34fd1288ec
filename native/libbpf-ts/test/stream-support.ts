// SPDX-License-Identifier: MIT
// The object with programs that stream records, and a writer of what they say.
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import {
  BpfObject,
  CsvWriter,
  EventTable,
  type CsvFile,
  type CsvFileOptions,
  type EventProtocol,
  type EventRings,
  type LoadedObject,
} from "libbpf-ts";
import { out } from "./support.js";

export const STREAM = out("stream.bpf.o");
export const HEADER = "Ticks,PID,COMM,SEQUENCE,CPU\n";
export const CPUS = availableParallelism();

export const protocol: EventProtocol = {
  header: { record: "struct event", stream: "stream", source: "source", time: "ns" },
  identity: { record: "struct identity", pid: "pid", name: "name" },
  loss: { record: "struct loss", of: "of", count: "count" },
  sources: { record: "struct source", pid: "pid", name: "name" },
};

export interface Sample {
  readonly event: { readonly stream: number; readonly source: number; readonly ns: bigint };
  readonly sequence: bigint;
  readonly cpu: number;
}

interface Tally {
  readonly emitted: bigint;
  readonly lost: bigint;
  readonly untold: bigint;
}

function u64(...values: (number | bigint)[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), index * 8);
  return bytes;
}

/** Lines behind the header, without their first cell: "pid,name,…"; END stays. */
export function readRows(path: string): string[] {
  const [header, ...lines] = readFileSync(path, "utf8").split("\n");
  if (`${header ?? ""}\n` !== HEADER || lines.pop() !== "") throw new Error(`${path} is not whole`);
  return lines.map((line) => (line.startsWith("END") ? line : line.slice(line.indexOf(",") + 1)));
}

export interface StreamingOptions {
  /** Of the samples that `on_call` makes. */
  readonly callsSource?: number;
  /** An empty one. */
  readonly folder?: string;
}

/** The loaded object, a folder, and writers of both; closed and removed all together. */
export class Streaming {
  readonly object: LoadedObject;
  readonly folder: string;
  readonly #writers: CsvWriter[] = [];

  constructor({ callsSource = 0, folder }: StreamingOptions = {}) {
    this.folder = folder ?? mkdtempSync(join(tmpdir(), "libbpf-ts-"));
    const object = BpfObject.open(STREAM);
    const rings = object.maps.get("rings");
    if (rings) rings.maxEntries = CPUS;
    object.setConstant("calls_source", callsSource);
    this.object = object.load();
  }

  rings(bytesPerCpu = 1 << 20): EventRings {
    const { object } = this;
    return {
      rings: object.map("rings"),
      cpus: Array.from({ length: CPUS }, (_, cpu) => cpu),
      bytesPerCpu,
      btf: object.btf,
      protocol,
      sources: object.map("sources"),
    };
  }

  /** `reading`: the object's rings, too. */
  writer(reading = true): CsvWriter {
    const writer = new CsvWriter();
    this.#writers.push(writer);
    if (reading) writer.readEvents(this.rings());
    return writer;
  }

  open(writer: CsvWriter, name: string, options: Partial<CsvFileOptions> = {}): CsvFile {
    const fd = openSync(join(this.folder, name), "ax");
    const folderFd = openSync(this.folder, "r");
    try {
      return writer.openFile({ fd, folderFd, name, header: HEADER, ...options });
    } finally {
      closeSync(fd);
      closeSync(folderFd);
    }
  }

  table(): EventTable {
    const columns = [{ field: "sequence" }, { field: "cpu" }];
    return new EventTable(this.object.btf, "struct sample", protocol.header, columns, 0n);
  }

  /** A writer whose stream 2 is rows of this file. */
  writing(name: string): { writer: CsvWriter; file: CsvFile } {
    const writer = this.writer();
    const file = this.open(writer, name);
    writer.bind(2, this.table(), file);
    return { writer, file };
  }

  know(source: number, pid: number, name: string): void {
    this.object.map("sources").set(source, { pid, name });
  }

  emit(source: number, records: number, onCpu = 0, stream = 2): void {
    const context = u64(stream, source, records, 0);
    this.object.program("emit").testRun({ context, onCpu: onCpu % CPUS });
  }

  lose(source: number, count: number, of = 2): void {
    this.object.program("lose").testRun({ context: u64(of, source, count), onCpu: 0 });
  }

  rename(source: number, pid: number, name: string): void {
    const text = Buffer.alloc(16);
    text.write(name);
    const context = Buffer.concat([u64(source, pid), text]);
    this.object.program("identify").testRun({ context, onCpu: CPUS - 1 });
  }

  tally(source: number): Tally {
    const tally = this.object.map<number, Tally>("tallies").get(source);
    if (!tally) throw new Error(`no source ${String(source)}`);
    return tally;
  }

  bytes(name: string): Buffer {
    return readFileSync(join(this.folder, name));
  }

  rows(name: string): string[] {
    return readRows(join(this.folder, name));
  }

  [Symbol.dispose](): void {
    for (const writer of this.#writers) writer.close();
    this.object.close();
    rmSync(this.folder, { recursive: true });
  }
}
