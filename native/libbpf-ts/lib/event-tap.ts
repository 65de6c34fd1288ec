// SPDX-License-Identifier: MIT
import type { FieldCondition } from "./event-cell.js";
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

export interface TapOptions<T> {
  /** Only records for which all of these hold. */
  readonly where?: readonly FieldCondition[];
  /** At most so many records a second, by their own clock; default 1000. */
  readonly perSecond?: number;
  /** `skipped`: matching records that were passed over since the call before. */
  readonly onEvents: (events: readonly TappedEvent<T>[], skipped: number) => void;
}

/** A consumer of some of a stream's records, until closed. */
export class EventTap<T> {
  readonly #native: NativeTap;
  readonly #decoder: RecordDecoder<T>;
  readonly #onEvents: TapOptions<T>["onEvents"];
  readonly #onClose: () => void;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @internal */
  constructor(tap: NativeTap, decoder: RecordDecoder<T>, options: TapOptions<T>, onClose: () => void) {
    this.#native = tap;
    this.#decoder = decoder;
    this.#onEvents = options.onEvents;
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
    const events: TappedEvent<T>[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      const name = bytes.subarray(at + nameOffset, at + headerSize);
      const end = name.indexOf(0);
      // A record may be shorter than its C type: what is missing reads as zero.
      const record = Buffer.alloc(Math.max(length, this.#decoder.size));
      bytes.copy(record, 0, at + headerSize, at + headerSize + length);
      events.push({
        record: this.#decoder.decode(record),
        pid: bytes.readUInt32LE(at + 4),
        name: name.toString("utf8", 0, end < 0 ? name.length : end),
      });
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
