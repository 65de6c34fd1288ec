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

const PT_LOAD = 1;
const PF_X = 1;

/**
 * Parts of the file that are mapped as code: `[from, to)` in file offsets. A uprobe elsewhere is refused
 * by the kernel, with EINVAL, only when a task is included.
 * @throws RangeError for what is not a 64-bit little-endian ELF file; Node's fs errors
 */
export function executableRanges(path: string): { from: number; to: number }[] {
  const header = readCode(path, 0, 64);
  if (header.length < 64 || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1) {
    throw new RangeError(`${path} is not a 64-bit little-endian ELF file`);
  }
  const size = header.readUInt16LE(54);
  const count = header.readUInt16LE(56);
  const table = readCode(path, Number(header.readBigUInt64LE(32)), size * count);
  const ranges: { from: number; to: number }[] = [];
  for (let at = 0; size >= 56 && at + size <= table.length; at += size) {
    const executable = (table.readUInt32LE(at + 4) & PF_X) !== 0;
    if (table.readUInt32LE(at) !== PT_LOAD || !executable) continue;
    const from = Number(table.readBigUInt64LE(at + 8));
    ranges.push({ from, to: from + Number(table.readBigUInt64LE(at + 32)) });
  }
  return ranges;
}
