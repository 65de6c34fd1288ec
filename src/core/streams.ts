/**
 * Owns: the event rings of a run and the streams that go through them: made when the first is switched on,
 * read, ordered and written by a native thread; what the kernel lost of them.
 * Owns not: the files (output.ts), a stream's columns (the module).
 */
import {
  type BpfMap,
  type CsvFile,
  type CsvWriter,
  type EventCells,
  EventTable,
  type EventTap,
  type RowTapOptions,
  type SourceLoss,
} from "libbpf-ts";
import type { Bpf } from "./bpf.js";
import { unixOffsetNs } from "./clock.js";
import { type Column, type Process, processColumns } from "./contract.js";
import { onlineCpus, protocol } from "./event-rings.js";

/** Streams the records of the protocol itself have; the modules' begin behind them. */
export const ownStreams = { identity: 0, loss: 1, first: 2 } as const;

interface LossKey {
  readonly stream: number;
  readonly process: number;
}

/** The fields behind a stream's columns, the three every table begins with left out. */
function cellsOf(columns: readonly Column[]): EventCells[] {
  return columns.slice(processColumns.length).map((column) => {
    if (!column.from) throw new Error(`column ${column.name} of a stream has no field`);
    return column.from;
  });
}

export class Streams {
  readonly #bpf: Bpf;
  readonly #writer: CsvWriter;
  readonly #bytesPerCpu: number;
  readonly #lost: BpfMap<number, number>;
  readonly #losses: BpfMap<LossKey, number>;
  readonly #running = new Map<number, EventTable>();
  #made = false;

  constructor(bpf: Bpf, writer: CsvWriter, bytesPerCpu: number) {
    this.#bpf = bpf;
    this.#writer = writer;
    this.#bytesPerCpu = bytesPerCpu;
    this.#lost = bpf.object.map<number, number>("stream_lost");
    this.#losses = bpf.object.map("stream_losses") as unknown as BpfMap<LossKey, number>;
  }

  /**
   * Writes the stream's records to the file from now on. To be called before its programs are attached.
   * `processes` are those there are by now; of others and of their new names records tell.
   */
  add(
    number: number,
    record: string,
    columns: readonly Column[],
    file: CsvFile,
    processes: () => readonly Process[],
  ): void {
    const { object } = this.#bpf;
    const table = new EventTable(object.btf, record, protocol.header, cellsOf(columns), unixOffsetNs);
    if (!this.#made) {
      this.#writer.readEvents({
        rings: object.map("event_rings"),
        cpus: onlineCpus(),
        bytesPerCpu: this.#bytesPerCpu,
        btf: object.btf,
        protocol,
        sources: object.map("processes"),
      });
      this.#made = true;
    }
    this.#writer.bind(number, table, file);
    this.#running.set(number, table);
    this.#announce();
    for (const { id, pid, comm } of processes()) this.#writer.introduce(id, pid, comm);
  }

  moveTo(number: number, file: CsvFile): void {
    this.#writer.moveTo(number, file);
  }

  /** Everything is in the files: also the last records of a stream whose programs are detached. */
  async finish(number?: number): Promise<void> {
    if (number !== undefined) {
      await this.#writer.sync(true);
      this.#settle((key) => key.stream === number);
    }
    await this.#writer.sync();
  }

  /** After {@link finish}, and when its programs could not be attached. */
  remove(number: number): void {
    this.#running.delete(number);
    this.#announce();
    this.#writer.unbind(number);
  }

  /** Processes of which nothing more comes: their last rows. */
  end(ended: readonly Process[]): void {
    if (this.#running.size === 0 || ended.length === 0) return;
    const ids = new Set(ended.map((process) => process.id));
    this.#settle((key) => ids.has(key.process));
    // Where the identity record was lost, the kernel's table may have forgotten the process by then.
    if (this.lost(ownStreams.identity) > 0) {
      for (const { id, pid, comm } of ended) this.#writer.introduce(id, pid, comm);
    }
    this.#writer.end([...ids]);
  }

  /** Tells the losses that no later record of the process will tell of. */
  #settle(chosen: (key: LossKey) => boolean): void {
    const { object } = this.#bpf;
    const value = (name: string): number => object.variable<number>(name).get();
    if (value("losses_made") === value("losses_told") + value("losses_settled")) return;
    for (const [key, count] of this.#losses.entries()) {
      if (!chosen(key)) continue;
      this.#losses.delete(key);
      if (key.stream !== ownStreams.identity) this.#writer.lost(key.stream, key.process, count);
      object.variable<number>("losses_settled").set(value("losses_settled") + count);
    }
  }

  /** Records that found no room in the rings, ever. */
  lost(number: number): number {
    return (this.#lost.getPerCpu(number) ?? []).reduce((sum, count) => sum + count, 0);
  }

  /** What the stream's table lacks, by process. */
  lossesByProcess(number: number): SourceLoss[] {
    return this.#writer.losses(number);
  }

  /** Looks at some of a running stream's rows; the file does not wait for it. */
  tapRows(number: number, options: RowTapOptions): EventTap<string> | undefined {
    const table = this.#running.get(number);
    return table && this.#writer.tapRows(number, table, options);
  }

  #announce(): void {
    const running = [...this.#running.keys()].reduce((all, number) => all | (1 << number), 0);
    this.#bpf.object.variable<number>("streams_running").set(running);
  }
}
