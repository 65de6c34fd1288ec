// SPDX-License-Identifier: MIT
import type { NativeLink } from "./native.js";

/**
 * An attachment. It lasts until it is closed, its object is closed, or the process ends;
 * dropping the last reference to it does not detach.
 */
export interface Link {
  readonly closed: boolean;
  /** Detaches. Closing twice is fine. */
  close(): void;
  [Symbol.dispose](): void;
}

/** An attached iterator program. */
export interface IteratorLink extends Link {
  /**
   * Runs the iterator once and returns everything it wrote (bpf_seq_write, bpf_seq_printf),
   * synchronously. @throws BpfError
   */
  read(): Buffer;
}

/** @internal */
export class NativeBackedLink implements IteratorLink {
  readonly #native: NativeLink;

  constructor(native: NativeLink) {
    this.#native = native;
  }

  get closed(): boolean {
    return this.#native.closed();
  }

  close(): void {
    this.#native.close();
  }

  read(): Buffer {
    return this.#native.readIterator();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
