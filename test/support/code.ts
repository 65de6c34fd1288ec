// Looks at the machine code of a live process. Owns: whether its text is what the file says, which is how a breakpoint shows
// from outside. Does not own: who put one there.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync, realpathSync } from "node:fs";

/** Bytes of a function in the file, and where that is. */
interface Code {
  readonly file: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

function read(path: string, position: number, length: number): Buffer {
  const fd = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(length);
    assert.equal(readSync(fd, bytes, 0, length, position), length, path);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** Where nm and readelf say a function is; dynamic symbols for a library. */
export function codeOf(file: string, name: string, dynamic = false): Code {
  const symbols = execFileSync("nm", [...(dynamic ? ["-D"] : []), "-S", file], { encoding: "utf8" });
  const [, address = "", size = ""] = new RegExp(`^([0-9a-f]+) ([0-9a-f]+) [tTwWi] ${name}(?:@.*)?$`, "m").exec(symbols) ?? [];
  const start = Number.parseInt(address, 16);
  const segment = [
    ...execFileSync("readelf", ["-lW", file], { encoding: "utf8" }).matchAll(/^\s+LOAD\s+0x([0-9a-f]+) 0x([0-9a-f]+) 0x[0-9a-f]+ 0x([0-9a-f]+)/gm),
  ]
    .map((match) => match.slice(1).map((text) => Number.parseInt(text, 16)))
    .find(([, from = 0, length = 0]) => start >= from && start < from + length);
  assert.ok(segment !== undefined, `${name} in ${file}`);
  const [offset = 0, from = 0] = segment;
  const place = start - from + offset;
  return { file: realpathSync(file), offset: place, bytes: read(file, place, Math.min(64, Number.parseInt(size, 16))) };
}

/** Whether a process has the function as the file has it. It must have the file mapped. */
export function untouched(pid: number, code: Code): boolean {
  for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
    const [, start = "", end = "", offset = "", file = ""] = /^([0-9a-f]+)-([0-9a-f]+) r.x\S* ([0-9a-f]+) \S+ \S+\s+(.*)$/.exec(line) ?? [];
    const from = Number.parseInt(offset, 16);
    const length = Number.parseInt(end, 16) - Number.parseInt(start, 16);
    if (file !== code.file || code.offset < from || code.offset >= from + length) continue;
    return read(`/proc/${pid}/mem`, Number.parseInt(start, 16) + code.offset - from, code.bytes.length).equals(code.bytes);
  }
  throw new Error(`process ${pid} has no code of ${code.file}`);
}

/** The file that the dynamic linker maps for a library of a program. */
export function libraryOf(program: string, name: string): string {
  const found = new RegExp(`\\s${name.replaceAll(".", "\\.")}\\S* => (\\S+)`).exec(execFileSync("ldd", [program], { encoding: "utf8" }))?.[1];
  assert.ok(found !== undefined, `${name} of ${program}`);
  return realpathSync(found);
}
