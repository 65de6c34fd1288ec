// SPDX-License-Identifier: MIT
import { failure } from "./errors.js";
import { bindConditions, isBytes } from "./event-cell.js";
import type { EventTable } from "./event-table.js";
import { findField } from "./event-path.js";
import { nativeMap, type BpfMap } from "./map.js";
import {
  native,
  type NativeCsvFile,
  type NativeCondition,
  type NativeCsvWriter,
  type NativeFileFigures,
  type NativeTap,
} from "./native.js";
import type { ObjectBtf } from "./object-btf.js";
import {
  decoding,
  EventTap,
  formatting,
  type RowTapOptions,
  type TapOptions,
  type TappedEvent,
} from "./event-tap.js";

const compressions = { none: 0, gzip: 1, zstd: 2 } as const;
const synced = 0;

/** How the records of an object's rings begin, and the two kinds the writer itself understands. */
export interface EventProtocol {
  /** First member of every record, with u32 `stream`, u32 `source` and u64 `time` (CLOCK_MONOTONIC ns). */
  readonly header: {
    readonly record: string;
    readonly stream: string;
    readonly source: string;
    readonly time: string;
  };
  /** Stream 0: u32 `pid` and char array `name` that the source has from now on. */
  readonly identity: { readonly record: string; readonly pid: string; readonly name: string };
  /** Stream 1: u64 `count` records of the source and of the stream u32 `of` found no room. */
  readonly loss: { readonly record: string; readonly of: string; readonly count: string };
  /** Members of the value of a map from u32 source: where the name is when its record was lost. */
  readonly sources: { readonly record: string; readonly pid: string; readonly name: string };
}

export interface EventRings {
  /** BPF_MAP_TYPE_ARRAY_OF_MAPS by CPU, still empty; kernel ≥ 5.8. */
  readonly rings: BpfMap<unknown, unknown>;
  /** CPUs that get a ring. On any other, programs find none. */
  readonly cpus: readonly number[];
  /** Size of each ring: a power of two of pages. */
  readonly bytesPerCpu: number;
  readonly btf: ObjectBtf;
  readonly protocol: EventProtocol;
  /** Hash map from u32 source to `protocol.sources.record`. */
  readonly sources: BpfMap<unknown, unknown>;
}

export interface CsvFileOptions {
  /** Open for appending and empty, or a pipe's writing end. Stays the caller's to close. */
  readonly fd: number;
  /** Folder of the file, for the ones that follow it. Stays the caller's to close. */
  readonly folderFd: number;
  /** Name in the folder; the ones that follow insert a number: a.csv.gz, a.1.csv.gz. */
  readonly name: string;
  /** First line of each file, with its LF. */
  readonly header: string;
  /** Bytes after which the table goes on in another file. */
  readonly maxSize?: number | undefined;
  readonly compression?: keyof typeof compressions;
}

/** Running totals of a file and of those that followed it. */
export type CsvFileFigures = NativeFileFigures;

/** Where a field is that has to be as the protocol says, in bytes. */
function offsetOf(btf: ObjectBtf, record: string, path: string, wanted: number | "text"): number {
  const { offset, type } = findField(btf.type(record), path);
  const fits = wanted === "text" ? isBytes(type) : type.kind === "int" && type.size === wanted;
  if (fits) return offset;
  const reason = wanted === "text" ? "is no char array" : `is no integer of ${String(wanted)} bytes`;
  throw failure("read events", `${record}.${path}`, "EINVAL", `it ${reason}`);
}

/** A file the writer's thread writes: whole lines only. */
export class CsvFile {
  /** @internal */
  readonly native: NativeCsvFile;

  /** @internal */
  constructor(file: NativeCsvFile) {
    this.native = file;
  }

  /** Appends whole lines, in the background; `rows` of them. Those the file cannot take are counted. */
  append(lines: string, rows: number): void {
    this.native.append(lines, rows);
  }

  figures(): CsvFileFigures {
    return this.native.figures();
  }

  /** Closes when what was appended is written; a pipe's reader is waited for so long. */
  close(timeoutMs = 0): void {
    this.native.close(timeoutMs);
  }
}

/** Records of one source that are not in the file. */
export interface SourceLoss {
  readonly pid: number;
  readonly name: string;
  readonly count: number;
}

/**
 * A native thread that writes CSV files: rows given as text, and event records that go from the kernel's
 * rings to the file without JavaScript. It merges the rings in order of time: exactly in the order of cause
 * and effect when programs read the time before they reserve the record.
 */
export class CsvWriter {
  readonly #native: NativeCsvWriter;
  readonly #waiting = new Map<number, () => void>();
  readonly #taps = new Map<number, () => void>();
  #lastId = 0;
  #closed = false;

  /** @throws BpfError when there is no thread to be had */
  constructor() {
    this.#native = new native.NativeCsvWriter((kind, id) => {
      if (kind !== synced) {
        this.#taps.get(id)?.();
        return;
      }
      this.#waiting.get(id)?.();
      this.#waiting.delete(id);
    });
  }

  /**
   * Makes the rings and reads them from now on. Once: a writer reads the rings of one object.
   * @throws BpfError (ENOMEM, EINVAL) when a ring of that size cannot be made, and when the protocol is
   * not that of the object (ENOENT, EINVAL); there are no rings then
   */
  readEvents({ rings, cpus, bytesPerCpu, btf, protocol, sources }: EventRings): void {
    const { header, identity, loss, sources: known } = protocol;
    this.#native.readEvents(
      nativeMap(rings),
      cpus,
      bytesPerCpu,
      Uint32Array.from([
        offsetOf(btf, header.record, header.stream, 4),
        offsetOf(btf, header.record, header.source, 4),
        offsetOf(btf, header.record, header.time, 8),
        offsetOf(btf, identity.record, identity.pid, 4),
        offsetOf(btf, identity.record, identity.name, "text"),
        findField(btf.type(identity.record), identity.name).type.size,
        offsetOf(btf, loss.record, loss.of, 4),
        offsetOf(btf, loss.record, loss.count, 8),
        btf.type(known.record).size,
        offsetOf(btf, known.record, known.pid, 4),
        offsetOf(btf, known.record, known.name, "text"),
      ]),
      nativeMap(sources),
    );
  }

  openFile(options: CsvFileOptions): CsvFile {
    const { fd, folderFd, name, header, maxSize, compression } = options;
    return new CsvFile(
      this.#native.openFile(fd, folderFd, name, header, maxSize ?? 0, compressions[compression ?? "none"]),
    );
  }

  /** From now on the stream's records are rows of the file. */
  bind(stream: number, table: EventTable, file: CsvFile): void {
    this.#native.bind(stream, table.native, file.native);
  }

  /** The same table goes on in another file. */
  moveTo(stream: number, file: CsvFile): void {
    this.#native.moveTo(stream, file.native);
  }

  unbind(stream: number): void {
    this.#native.unbind(stream);
  }

  /** Names a source that was there before its stream was bound; what a record has said of it holds. */
  introduce(source: number, pid: number, name: string): void {
    this.#native.introduce(source, pid, Buffer.from(name));
  }

  /** Records that were lost and that no loss record tells of; a row tells it, after all there is. */
  lost(stream: number, source: number, count: number): void {
    this.#native.lost(stream, source, count);
  }

  /** Sources of which nothing more comes: each gets its last row in every table, after all others. */
  end(sources: readonly number[]): void {
    if (sources.length > 0) this.#native.end(Uint32Array.from(sources));
  }

  /**
   * Resolves when everything up to now is in the files, or counted as lost.
   * @param quiesce programs have just been detached: waits for those still running too
   */
  sync(quiesce = false): Promise<void> {
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      if (this.#closed) {
        resolve();
        return;
      }
      this.#waiting.set(id, resolve);
      this.#native.sync(id, quiesce);
    });
  }

  /** What the bound stream has lost so far, by source. */
  losses(stream: number): SourceLoss[] {
    return this.#native
      .losses(stream)
      .map(({ pid, name, count }) => ({ pid, name: name.toString(), count }));
  }

  /**
   * Looks at some of a bound stream's records, without holding up the file: what the consumer does not
   * take in time is passed over and counted.
   */
  tap<T>(
    stream: number,
    btf: ObjectBtf,
    record: string,
    options: TapOptions<T>,
  ): EventTap<TappedEvent<T>> {
    const where = bindConditions(btf.type(record), options.where ?? []);
    return this.#tap(stream, where, options.perSecond, (native, close) => {
      return new EventTap(native, decoding(btf.decoder<T>(record)), options.onEvents, close);
    });
  }

  /** As {@link tap}, every record as the line it is in the file of this table. */
  tapRows(stream: number, table: EventTable, options: RowTapOptions): EventTap<string> {
    return this.#tap(stream, [], options.perSecond, (native, close) => {
      return new EventTap(native, formatting(table), options.onRows, close);
    });
  }

  #tap<Event>(
    stream: number,
    where: readonly NativeCondition[],
    perSecond: number | undefined,
    make: (native: NativeTap, close: () => void) => EventTap<Event>,
  ): EventTap<Event> {
    const id = ++this.#lastId;
    const tap = make(this.#native.tap(stream, where, perSecond ?? 1000, id), () =>
      this.#taps.delete(id),
    );
    this.#taps.set(id, () => {
      tap.readable();
    });
    return tap;
  }

  /**
   * Writes what it has been given, and what is in the rings, and ends the thread. Closing twice is fine.
   * A process or worker that comes to its end does it by itself, process.exit() in the main thread does not.
   */
  close(): void {
    this.#closed = true;
    this.#native.close();
    for (const resolve of this.#waiting.values()) resolve();
    this.#waiting.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
