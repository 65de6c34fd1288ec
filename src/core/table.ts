/**
 * Owns: how a row becomes CSV text: RFC 4180, numbers plain, hostile text neutralised.
 * Owns not: files (output-file.ts).
 */
import { stringify } from "csv-stringify/sync";
import type { AnyRow, Cell, Column } from "./contract.js";

/**
 * Text a spreadsheet would run: a process can name itself `=cmd()`. A leading apostrophe makes it text
 * (OWASP, "CSV Injection"); the full-width forms are taken as formulas by East Asian editions.
 */
const formula = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

function text(value: Cell): string {
  const plain = String(value).replaceAll("\0", "");
  return formula.test(plain) ? `'${plain}` : plain;
}

function number(value: Cell, digits: number): string {
  if (typeof value !== "number") return String(value);
  const fixed = value.toFixed(digits);
  return /^-0\.?0*$/.test(fixed) ? fixed.slice(1) : fixed;
}

function format(column: Column, value: Cell): string {
  if (value === undefined || value === "") return "";
  switch (column.type) {
    case "ticks":
      return typeof value === "number" ? value.toFixed(6) : String(value);
    case "integer":
      return String(value);
    case "number":
      return number(value, column.digits ?? 3);
    case "text":
      return text(value);
  }
}

/** CSV lines, each ending in LF; a lone CR is quoted too, since readers take it for a line end. */
function lines(records: readonly (readonly string[])[]): string {
  return stringify(records as string[][], { record_delimiter: "\n", quoted_match: /[\r\n]/ });
}

export function header(columns: readonly Column[]): string {
  return lines([columns.map((column) => column.name)]);
}

/** Characters a cell must be quoted for; only text cells can hold one. */
const special = /[",\r\n]/;

/**
 * The lines of a table. Rows whose text needs no quoting, nearly all, are joined here: an idle tick over a
 * thousand processes would otherwise spend most of its time in the library looking for what to quote.
 */
export function rows(columns: readonly Column[], table: readonly AnyRow[]): string {
  const quotes = columns.map((column) => column.type === "text");
  let done = "";
  for (const row of table) {
    const cells = columns.map((column) => format(column, row[column.name]));
    const plain = !cells.some((cell, index) => quotes[index] && special.test(cell));
    done += plain ? `${cells.join(",")}\n` : lines([cells]);
  }
  return done;
}
