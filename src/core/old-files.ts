/**
 * Owns: what becomes of the files of an earlier run: put aside under the time they were begun, a table with
 * the files that continue it (`syscall.csv`, `syscall.1.csv` …), or removed.
 * Owns not: what is created in their place (output-file.ts).
 */
import * as fs from "node:fs";
import * as path from "node:path";

/** `syscall.csv.gz` → `syscall`, `.csv.gz`. */
function splitName(name: string): { stem: string; extension: string } {
  const packed = /^(.+)(\.csv\.(?:gz|zst))$/.exec(name);
  if (packed?.[1] !== undefined && packed[2] !== undefined) {
    return { stem: packed[1], extension: packed[2] };
  }
  const parsed = path.parse(name);
  return { stem: parsed.name, extension: parsed.ext };
}

const exists = (file: string): boolean => fs.lstatSync(file, { throwIfNoEntry: false }) !== undefined;

function isFileOrLink(file: string): boolean {
  const there = fs.lstatSync(file, { throwIfNoEntry: false });
  return there !== undefined && (there.isFile() || there.isSymbolicLink());
}

function timeInName(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${date}T${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join("-")}`;
}

/** Renames `stem` + each tail + extension alike, by the time the first one was begun. */
function putAside(folder: string, name: string, tails: readonly string[]): string | undefined {
  const [first] = tails;
  if (first === undefined) return undefined;
  const { stem, extension } = splitName(name);
  const at = (middle: string): string => path.join(folder, `${stem}${middle}${extension}`);
  const old = fs.lstatSync(at(first));
  const begun = timeInName(old.birthtimeMs > 0 ? old.birthtime : old.mtime);
  for (let again = 1; ; again++) {
    const time = `.${begun}${again === 1 ? "" : `-${String(again)}`}`;
    if (tails.some((tail) => exists(at(time + tail)))) continue;
    for (const tail of tails) fs.renameSync(at(tail), at(time + tail));
    return first === "" ? path.basename(at(time)) : undefined;
  }
}

/** `cpu.csv` → `cpu.2026-11-20T10-15-00.csv`; the new name, if there was an old file. */
export function keepOld(file: string): string | undefined {
  return putAside(path.dirname(file), path.basename(file), exists(file) ? [""] : []);
}

/**
 * The same for a table and what continues it: `cpu.1.csv` → `cpu.2026-11-20T10-15-00.1.csv`. Files of
 * `inUse` are tables of their own.
 */
export function keepOldTable(file: string, inUse: ReadonlySet<string>): string | undefined {
  const folder = path.dirname(file);
  const name = path.basename(file);
  const { stem, extension } = splitName(name);
  const tails = fs
    .readdirSync(folder)
    .filter((each) => each.startsWith(`${stem}.`) && each.endsWith(extension))
    .map((each) => each.slice(stem.length, each.length - extension.length))
    .filter((tail) => /^\.[1-9]\d{0,8}$/.test(tail))
    .sort((one, other) => Number(one.slice(1)) - Number(other.slice(1)))
    .filter((tail) => {
      const each = path.join(folder, `${stem}${tail}${extension}`);
      return isFileOrLink(each) && !inUse.has(each);
    });
  return putAside(folder, name, exists(file) ? ["", ...tails] : tails);
}

/**
 * Removes a table and what continues it, up to the first number that is missing: `cpu.2025.csv` alone may be
 * anybody's.
 */
export function removeOldTable(file: string, inUse: ReadonlySet<string>): void {
  const { stem, extension } = splitName(path.basename(file));
  fs.rmSync(file, { force: true });
  for (let number = 1; ; number++) {
    const each = path.join(path.dirname(file), `${stem}.${String(number)}${extension}`);
    if (!exists(each)) return;
    if (isFileOrLink(each) && !inUse.has(each)) fs.rmSync(each);
  }
}
