/**
 * Owns: rows of a table as JSON: numbers as numbers, digit for digit as in the file, an empty cell as
 * null, text without the apostrophe that keeps a spreadsheet from running it.
 * Owns not: the rows (core), their CSV (core/table.ts, the native writer).
 */
import type { Column } from "../core/contract.js";
import { plainText } from "../core/table.js";

const cell = /(?:"((?:[^"]|"")*)"|([^",\n]*))([,\n])/y;
const numeral = /^-?\d+(\.\d+)?$/;

/** Each row as a JSON object, from CSV text of whole rows. */
export function jsonRows(lines: string, columns: readonly Column[]): string[] {
  const keys = columns.map((column) => `${JSON.stringify(column.name)}:`);
  const rows: string[] = [];
  let members: string[] = [];
  cell.lastIndex = 0;
  for (let match = cell.exec(lines); match; match = cell.exec(lines)) {
    const [, quoted, plain = "", end] = match;
    const column = columns[members.length];
    const text = quoted?.replaceAll('""', '"') ?? plain;
    members.push(`${keys[members.length] ?? ""}${jsonCell(text, column?.type === "text")}`);
    if (end === ",") continue;
    rows.push(`{${members.join(",")}}`);
    members = [];
  }
  return rows;
}

/** Each row as it is in the file; a name may have a line end in it. */
export function csvRows(lines: string): string[] {
  return (lines.match(/(?:[^"\n]|"[^"]*")*\n/g) ?? []).map((row) => row.slice(0, -1));
}

function jsonCell(text: string, isText: boolean): string {
  if (text === "") return "null";
  if (isText) return JSON.stringify(plainText(text));
  return numeral.test(text) ? text : JSON.stringify(text); // END
}
