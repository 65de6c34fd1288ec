// SPDX-License-Identifier: MIT
import type { FieldCondition } from "./event-cell.js";
import type { EventTable } from "./event-table.js";
import type { NativeTap } from "./native.js";
import type { RecordDecoder } from "./object-btf.js";

/** As EventTap::kHeaderSize in src/event_tap.h: u32 length, u32 pid, name. */
const headerSize = 24;
const nameOffset = 8;
/** The consumer is not called more often than this, ms. */
const pauseMs = 50;

export interface TappedEvent<T> {
  readonly record: T;
  readonly pid: number;
  readonly name: string;
}

interface Limit {
  /** At most so many records a second, by their own clock; default 1000. */
  readonly perSecond?: number;
}

export interface TapOptions<T> extends Limit {
  /** Only records for which all of these hold. */
  readonly where?: readonly FieldCondition[];
  /** `skipped`: matching records that were passed over since the call before. */
  readonly onEvents: (events: readonly TappedEvent<T>[], skipped: number) => void;
}

export interface RowTapOptions extends Limit {
  /** Lines as they are in the file, LF included; `skipped`: records passed over since the call before. */
  readonly onRows: (rows: readonly string[], skipped: number) => void;
}

/** Makes of a record, which lives only as long as the call, what the consumer gets. */
type Reader<Event> = (record: Buffer, pid: number, name: Buffer) => Event;

/** @internal */
export function decoding<T>(decoder: RecordDecoder<T>): Reader<TappedEvent<T>> {
  return (record, pid, name) => {
    const end = name.indexOf(0);
    // A record may be shorter than its C type: what is missing reads as zero.
    const whole = Buffer.alloc(Math.max(record.length, decoder.size));
    record.copy(whole);
    return {
      record: decoder.decode(whole),
      pid,
      name: name.toString("utf8", 0, end < 0 ? name.length : end),
    };
  };
}

/** @internal */
export function formatting(table: EventTable): Reader<string> {
  return (record, pid, name) => table.row(record, pid, name);
}

/** A consumer of some of a stream's records, until closed. */
export class EventTap<Event> {
  readonly #native: NativeTap;
  readonly #read: Reader<Event>;
  readonly #onEvents: (events: readonly Event[], skipped: number) => void;
  readonly #onClose: () => void;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @internal */
  constructor(
    tap: NativeTap,
    read: Reader<Event>,
    onEvents: (events: readonly Event[], skipped: number) => void,
    onClose: () => void,
  ) {
    this.#native = tap;
    this.#read = read;
    this.#onEvents = onEvents;
    this.#onClose = onClose;
  }

  /** @internal There is something to take: a little later, when there is more. */
  readable(): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.take();
    }, pauseMs).unref();
  }

  /** Hands over what waits, now. */
  take(): void {
    const { bytes, skipped } = this.#native.take();
    const events: Event[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      const pid = bytes.readUInt32LE(at + 4);
      const record = bytes.subarray(at + headerSize, at + headerSize + length);
      events.push(this.#read(record, pid, bytes.subarray(at + nameOffset, at + headerSize)));
      at += headerSize + Math.ceil(length / 8) * 8;
    }
    if (events.length > 0 || skipped > 0) this.#onEvents(events, skipped);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#native.close();
    this.#onClose();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
