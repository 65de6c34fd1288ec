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

/** The text itself, from what a cell of a file shows. */
export function plainText(shown: string): string {
  return shown.startsWith("'") && formula.test(shown.slice(1)) ? shown.slice(1) : shown;
}

function number(value: Cell, digits: number): string {
  if (typeof value !== "number") return String(value);
  // Not "-0.000": a difference may round to nothing from below.
  return (value < 0 && value > -0.5 / 10 ** digits ? 0 : value).toFixed(digits);
}

/** What turns a cell of the column into text, the quoting aside. */
function formatter(column: Column): (value: Cell) => string {
  const digits = column.digits ?? 3;
  const format = {
    ticks: (value: Cell): string => (typeof value === "number" ? value.toFixed(6) : String(value)),
    integer: String,
    number: (value: Cell): string => number(value, digits),
    text,
  }[column.type];
  return (value) => (value === undefined || value === "" ? "" : format(value));
}

/** CSV lines, each ending in LF; a lone CR is quoted too, since readers take it for a line end. */
function lines(records: readonly (readonly string[])[]): string {
  return stringify(records as string[][], { record_delimiter: "\n", quoted_match: /[\r\n]/ });
}

/** Characters a cell must be quoted for; only text cells can hold one. */
const special = /[",\r\n]/;

/** The CSV text of one table. */
export class Table {
  readonly #columns: readonly {
    readonly name: string;
    readonly format: (value: Cell) => string;
    readonly text: boolean;
  }[];

  constructor(columns: readonly Column[]) {
    this.#columns = columns.map((column) => ({
      name: column.name,
      format: formatter(column),
      text: column.type === "text",
    }));
  }

  header(): string {
    return lines([this.#columns.map((column) => column.name)]);
  }

  /**
   * Rows whose text needs no quoting, nearly all, are joined here: an idle tick over a thousand processes
   * would otherwise spend most of its time in the library looking for what to quote.
   */
  rows(table: readonly AnyRow[]): string {
    let done = "";
    for (const row of table) {
      let line = "";
      let plain = true;
      for (const { name, format, text } of this.#columns) {
        const cell = format(row[name]);
        if (text && special.test(cell)) plain = false;
        line += `${cell},`;
      }
      done += plain ? `${line.slice(0, -1)}\n` : lines([this.#cells(row)]);
    }
    return done;
  }

  #cells(row: AnyRow): string[] {
    return this.#columns.map(({ name, format }) => format(row[name]));
  }
}
