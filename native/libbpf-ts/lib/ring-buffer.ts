// SPDX-License-Identifier: MIT
import { failure } from "./errors.js";
import { nativeMap, type BpfMap } from "./map.js";
import { native, type NativeRing } from "./native.js";

const HEADER = 8; // u32 length, u32 ring index
const FIRST_SIZE = 256 << 10;
const BATCH_SIZE = 1 << 20;
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

export interface RingBufferOptions {
  /**
   * Called when there is something to read; then not again until consume() or consumeBatch() ran.
   * Does not keep the process alive. Records submitted with BPF_RB_NO_WAKEUP do not cause it.
   */
  onReadable?: () => void;
}

/** Reads one or several BPF_MAP_TYPE_RINGBUF maps (kernel ≥ 5.8). */
export class RingBuffer {
  readonly #native: NativeRing;
  readonly #onReadable: (() => void) | undefined;
  #buffer = Buffer.alloc(0);
  #position = 0; // of what a handler that threw left behind
  #end = 0;
  #consuming = false;

  /** @throws BpfError when a map is not a ring buffer, or cannot be mapped */
  constructor(maps: readonly BpfMap<unknown, unknown>[], options: RingBufferOptions = {}) {
    this.#onReadable = options.onReadable;
    const natives = maps.map((map) => nativeMap(map));
    this.#native = options.onReadable
      ? new native.NativeRing(natives, options.onReadable)
      : new native.NativeRing(natives);
  }

  /**
   * Hands over every record there is, synchronously, oldest first within a ring.
   *
   * The Buffer is only valid during the call: copy what must last. When the handler throws, the
   * record it was given is gone and the next call goes on after it.
   * @param ring index of the map the record came from
   * @param limit stop after this many records
   * @returns how many were handed over
   */
  consume(handler: (record: Buffer, ring: number) => void, limit: number = NO_LIMIT): number {
    if (this.#consuming) {
      throw failure("read", "ring buffer", "EBUSY", "consume() was called from its own handler");
    }
    this.#consuming = true;
    let count = 0;
    try {
      while (count < limit) {
        if (this.#position === this.#end && !this.#refill(limit - count)) break;
        const at = this.#position;
        const length = this.#buffer.readUInt32LE(at);
        const ring = this.#buffer.readUInt32LE(at + 4);
        this.#position = at + HEADER + Math.ceil(length / 8) * 8;
        count++;
        handler(this.#buffer.subarray(at + HEADER, at + HEADER + length), ring);
      }
    } finally {
      this.#consuming = false;
      this.#rearm();
    }
    return count;
  }

  /**
   * Records back to back, each as u32 length, u32 ring index, payload, padding to 8 bytes; in memory
   * of its own, which the caller keeps. For a consumer that reads fields itself.
   * @param maxBytes at most this much, though never less than one record
   */
  consumeBatch(maxBytes: number = BATCH_SIZE): { bytes: Buffer; count: number } {
    if (this.#consuming) {
      throw failure("read", "ring buffer", "EBUSY", "consumeBatch() was called from a handler");
    }
    let bytes: Buffer;
    if (this.#position < this.#end) {
      bytes = Buffer.from(this.#buffer.subarray(this.#position, this.#end));
      this.#position = this.#end = 0;
    } else {
      const pending = this.#native.pending();
      bytes = Buffer.allocUnsafe(Math.min(pending, Math.max(0, maxBytes)));
      let filled = this.#native.fill(bytes, NO_LIMIT);
      if (filled < 0) {
        bytes = Buffer.allocUnsafe(-filled);
        filled = this.#native.fill(bytes, NO_LIMIT);
      }
      bytes = bytes.subarray(0, Math.max(0, filled));
    }
    let count = 0;
    for (let at = 0; at < bytes.length; count++) {
      at += HEADER + Math.ceil(bytes.readUInt32LE(at) / 8) * 8;
    }
    this.#rearm();
    return { bytes, count };
  }

  get closed(): boolean {
    return this.#native.closed();
  }

  /** Stops notifications. Records not yet read are gone. Closing twice is fine. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #refill(records: number): boolean {
    if (this.#buffer.length === 0) this.#buffer = Buffer.allocUnsafeSlow(FIRST_SIZE);
    let filled = this.#native.fill(this.#buffer, records);
    if (filled < 0) {
      this.#buffer = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(-filled)));
      filled = this.#native.fill(this.#buffer, records);
    }
    this.#position = 0;
    this.#end = Math.max(0, filled);
    return filled > 0;
  }

  #rearm(): void {
    const onReadable = this.#onReadable;
    if (!onReadable) return;
    if (this.#position === this.#end) {
      this.#native.rearm();
      return;
    }
    // Already taken from the kernel, so the kernel will not tell again.
    setImmediate(() => {
      if (!this.closed && !this.#consuming) onReadable();
    }).unref();
  }
}
