// SPDX-License-Identifier: MIT
import { encodeValue, type Codec } from "./codec.js";
import type { BtfVariable } from "./btf.js";
import type { NativeMap } from "./native.js";

/**
 * A global variable of a loaded object, in memory shared with the programs (kernel ≥ 5.5). Aligned
 * values of 2, 4 or 8 bytes are read and written whole; larger ones may be seen half changed.
 */
export class Variable<T> {
  readonly name: string;
  readonly #section: NativeMap;
  readonly #variable: BtfVariable;
  readonly #codec: Codec;

  /** @internal */
  constructor(section: NativeMap, variable: BtfVariable, codec: Codec) {
    this.name = variable.name;
    this.#section = section;
    this.#variable = variable;
    this.#codec = codec;
  }

  /** The value now. */
  get(): T {
    const bytes = this.#section.readMemory(this.#variable.offset, this.#codec.size);
    return this.#codec.decode(bytes, 0) as T;
  }

  /** Writes this variable's bytes and no others. @throws BpfError (EROFS) in .rodata */
  set(value: T): void {
    this.#section.writeMemory(
      this.#variable.offset,
      encodeValue(this.#codec, value, this.name),
    );
  }
}
