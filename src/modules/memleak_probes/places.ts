/**
 * Owns: "bin:func" → a file and an offset in it, or a sentence that names what was perhaps meant.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { elfSymbols, executableRanges } from "libbpf-ts";
import { nearest, RunError } from "../../core/module.js";
import { commandFile, loaderCache } from "../../services/programs.js";

export interface Place {
  /** As the user wrote it: the PROBE cell. */
  readonly text: string;
  readonly file: string;
  /** In the file, bytes. */
  readonly offset: number;
}

const refuse = (sentence: string, hint = ""): RunError =>
  new RunError(2, `memleak_probes.probes: ${sentence}`, hint);

/** A path, or the name of a program on PATH or of a library the loader knows. */
function findFile(name: string): string | undefined {
  if (fs.existsSync(name)) return path.resolve(name);
  if (name.includes("/")) return undefined;
  return (
    commandFile(name, process.env) ??
    loaderCache().find((library) => library.name === name || library.name.startsWith(`${name}.so`))
      ?.file
  );
}

function atOffset(text: string, file: string, offset: number): Place {
  let ranges;
  try {
    ranges = executableRanges(file);
  } catch {
    throw refuse(`${JSON.stringify(text)}: ${JSON.stringify(file)} is not an ELF program or library.`);
  }
  if (ranges.some(({ from, to }) => offset >= from && offset < to)) return { text, file, offset };
  const code = ranges.map(({ from, to }) => `0x${from.toString(16)} to 0x${to.toString(16)}`);
  throw refuse(
    `${JSON.stringify(text)}: there is no code at that offset of the file.`,
    `Its code lies at ${code.join(" and ")}.`,
  );
}

function findPlace(text: string): Place {
  const colon = text.lastIndexOf(":");
  const [name, symbol] = [text.slice(0, colon), text.slice(colon + 1)];
  if (colon < 1 || symbol === "") {
    throw refuse(`${JSON.stringify(text)} is not of the form bin:function or bin:0xOFFSET.`);
  }
  const file = findFile(name);
  if (file === undefined) {
    throw refuse(
      `${JSON.stringify(text)}: there is no file ${JSON.stringify(name)}.`,
      `Paths are relative to ${process.cwd()}.`,
    );
  }
  if (/^0x[0-9a-f]+$/i.test(symbol)) return atOffset(text, file, Number(symbol));
  let symbols;
  try {
    symbols = elfSymbols(file).filter((each) => each.type === "function" || each.type === "ifunc");
  } catch {
    throw refuse(`${JSON.stringify(text)}: ${JSON.stringify(name)} is not an ELF program or library.`);
  }
  const found = symbols.filter((each) => each.name === symbol);
  const offsets = [...new Set(found.map((each) => each.offset))];
  if (found.some((each) => each.type === "ifunc")) {
    throw refuse(
      `${JSON.stringify(text)}: ${symbol} is chosen among several when the program is loaded (IFUNC).`,
      "Name the implementation, or its offset.",
    );
  }
  if (offsets.length > 1) {
    throw refuse(
      `${JSON.stringify(text)}: ${JSON.stringify(name)} has several functions ${symbol}.`,
      `Name one by its offset: ${offsets.map((each) => `${name}:0x${each.toString(16)}`).join(", ")}.`,
    );
  }
  if (offsets[0] !== undefined) return { text, file, offset: offsets[0] };
  const near = nearest(
    symbol,
    symbols.map((each) => each.name),
    3,
  ).map(({ name: other }) => other);
  throw refuse(
    `${JSON.stringify(text)}: ${JSON.stringify(name)} has no function ${JSON.stringify(symbol)}.`,
    near.length > 0
      ? `Closest: ${near.join(", ")}.`
      : "It has no function symbols (stripped); name an offset, bin:0xOFFSET.",
  );
}

/** Two names may stand for the same code; which of them a row should show is not ours to choose. */
export function findPlaces(texts: readonly string[]): Place[] {
  const places = new Map<string, Place>();
  for (const place of texts.map(findPlace)) {
    const key = `${fs.realpathSync(place.file)}:${String(place.offset)}`;
    const same = places.get(key);
    if (same) {
      throw refuse(`${JSON.stringify(same.text)} and ${JSON.stringify(place.text)} are the same place.`);
    }
    places.set(key, place);
  }
  return [...places.values()];
}
