/**
 * Owns: the way of an event record from the ring to a module's table, and the names that go with it. The
 * ring keeps the order in which things happened, so an identity record between two rows changes the name
 * from there on.
 * Owns not: what a row looks like (the module), the file.
 */
import { type BpfMap, RingBuffer, type RecordDecoder } from "libbpf-ts";
import type { Bpf } from "./bpf.js";
import { unixSeconds } from "./clock.js";
import type { AnyRow, Identity, Process, Stream } from "./contract.js";

const identityStream = 0;
/** Rows formatted in one turn of the event loop. */
const batchRecords = 4096;

/** Records of a stream: made, and dropped because the ring was full. */
export interface StreamCount {
  readonly seen: number;
  readonly lost: number;
}

interface Consumer {
  readonly stream: Stream;
  readonly decoder: RecordDecoder<Record<string, number>>;
  readonly write: (rows: readonly AnyRow[]) => void;
  rows: AnyRow[];
  /** Rows written so far. */
  delivered: number;
  /** Counts of the stream's number before this consumer had it. */
  readonly before: StreamCount;
}

export class Streams {
  readonly #bpf: Bpf;
  readonly #ring: RingBuffer;
  readonly #counts: BpfMap<number, StreamCount>;
  readonly #consumers = new Map<number, Consumer>();
  readonly #names = new Map<number, Identity>();
  /** Records read from the ring so far, whatever stream they were of. */
  #consumed = 0;
  #scheduled = false;
  #closed = false;

  readonly #find: (process: number) => Process | undefined;

  /** `find` looks a process up whose identity record found no room in the ring. */
  constructor(bpf: Bpf, find: (process: number) => Process | undefined) {
    this.#bpf = bpf;
    this.#find = find;
    this.#counts = bpf.object.map<number, StreamCount>("stream_counts");
    this.#ring = new RingBuffer([bpf.object.map("events")], {
      onReadable: () => {
        this.#schedule();
      },
    });
  }

  /** Counts of a number up to now; to be taken before the programs of its stream are attached. */
  countSoFar(number: number): StreamCount {
    const cpus = this.#counts.getPerCpu(number) ?? [];
    return cpus.reduce(
      (sum, cpu) => ({ seen: sum.seen + cpu.seen, lost: sum.lost + cpu.lost }),
      { seen: 0, lost: 0 },
    );
  }

  /** `before`: of {@link countSoFar}. */
  add(
    number: number,
    stream: Stream,
    processes: readonly Process[],
    before: StreamCount,
    write: (rows: readonly AnyRow[]) => void,
  ): void {
    for (const { id, pid, comm } of processes) this.#names.set(id, { pid, comm });
    const decoder = this.#bpf.object.btf.decoder<Record<string, number>>(stream.record);
    this.#consumers.set(number, { stream, decoder, write, rows: [], delivered: 0, before });
    this.#announce();
  }

  /** Reads the last records of a stream whose programs are detached, and tells its final count. */
  remove(number: number): StreamCount {
    // A program that was running while it was detached may still submit: until the books agree.
    let count = this.count(number);
    for (let tries = 0; tries < 100; tries++) {
      this.drain();
      count = this.count(number);
      if (count.seen - count.lost === this.#consumers.get(number)?.delivered) break;
    }
    this.#consumers.delete(number);
    this.#announce();
    return count;
  }

  /** Records since the stream was added: made, and dropped because the ring was full. */
  count(number: number): StreamCount {
    const now = this.countSoFar(number);
    const before = this.#consumers.get(number)?.before ?? { seen: 0, lost: 0 };
    return { seen: now.seen - before.seen, lost: now.lost - before.lost };
  }

  /**
   * Reads what has been submitted up to now, and no more: a program may fill the ring as fast as it is
   * read, or even by its being read, when two monitors watch each other.
   */
  drain(): void {
    const submitted = this.#counts
      .entriesPerCpu()
      .flatMap(([, cpus]) => cpus)
      .reduce((sum, cpu) => sum + cpu.seen - cpu.lost, 0);
    while (this.#consumed < submitted && this.#batch());
  }

  forget(ended: readonly Process[]): void {
    for (const process of ended) this.#names.delete(process.id);
  }

  #announce(): void {
    const running = [...this.#consumers.keys()].reduce((all, number) => all | (1 << number), 0);
    this.#bpf.object.variable<number>("streams_running").set(running);
  }

  /** A batch a turn of the event loop: signals and ticks are served in between. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed && this.#batch()) this.#schedule();
    });
  }

  /** False when the ring was empty. */
  #batch(): boolean {
    const count = this.#ring.consume((record) => {
      this.#record(record);
    }, batchRecords);
    this.#consumed += count;
    for (const consumer of this.#consumers.values()) {
      if (consumer.rows.length > 0) consumer.write(consumer.rows);
      consumer.delivered += consumer.rows.length;
      consumer.rows = [];
    }
    return count > 0;
  }

  /** struct event: u32 stream, u32 process, u64 ns. */
  #record(record: Buffer): void {
    const number = record.readUInt32LE(0);
    const process = record.readUInt32LE(4);
    if (number === identityStream) {
      const end = record.indexOf(0, 20);
      this.#names.set(process, {
        pid: record.readUInt32LE(16),
        comm: record.toString("utf8", 20, end < 0 || end > 36 ? 36 : end),
      });
      return;
    }
    const consumer = this.#consumers.get(number);
    if (!consumer) return;
    const ns = record.readUInt32LE(8) + record.readUInt32LE(12) * 2 ** 32;
    const who = this.#names.get(process) ?? this.#look(process);
    consumer.rows.push(
      consumer.stream.row(consumer.decoder.decode(record), who, unixSeconds(ns), record),
    );
  }

  #look(process: number): Identity {
    const found = this.#find(process);
    const who = { pid: found?.pid ?? 0, comm: found?.comm ?? "" };
    this.#names.set(process, who);
    return who;
  }

  close(): void {
    this.#closed = true;
    this.#ring.close();
  }
}
