// SPDX-License-Identifier: MIT
// ELF files, for people who name functions.
import { closeSync, openSync, readSync } from "node:fs";
import { native, type NativeElfInfo, type NativeElfSymbol } from "./native.js";

/**
 * A defined symbol. `address` is the virtual address in the file's own layout, `offset` where that
 * is in the file, `size` in bytes. `exported`: it is in .dynsym.
 */
export type ElfSymbol = NativeElfSymbol;

/** `buildId` in hex; `runpath` falls back to the older rpath. */
export type ElfInfo = NativeElfInfo;

/**
 * Symbols of .dynsym, then those of .symtab that are not among them, without their versions; of
 * several versions of a name the one a linker would choose comes first.
 * @param options.names only these names: much faster on large files
 * @throws BpfError (ENOEXEC when it is not ELF)
 */
export function elfSymbols(
  path: string,
  options: { names?: readonly string[] } = {},
): ElfSymbol[] {
  if (options.names?.length === 0) return [];
  return native.elfSymbols(path, options.names ?? []);
}

/** What the file says about itself. @throws BpfError (ENOEXEC when it is not ELF) */
export function elfInfo(path: string): ElfInfo {
  return native.elfInfo(path);
}

/** Up to `length` bytes at a file offset; fewer at the end of the file. @throws Node's fs errors */
export function readCode(path: string, offset: number, length: number): Buffer {
  const fd = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readSync(fd, bytes, 0, length, offset));
  } finally {
    closeSync(fd);
  }
}
