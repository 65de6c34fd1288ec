// Reads treesnoop's CSV files as a stranger would. Owns: a strict RFC 4180 reader (LF, UTF-8, one header row,
// every record as wide as the header) that refuses what a spreadsheet would only guess at. Does not own: what
// the columns mean.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

interface Cell {
  readonly text: string;
  readonly quoted: boolean;
}

/**
 * One record. Columns are asked for by name; a name the file does not have is an error, not an empty value.
 */
export class Row {
  readonly #columns: ReadonlyMap<string, number>;
  readonly #cells: readonly Cell[];
  /** The record's place in the file, from 0 for the first one below the header. */
  readonly index: number;

  constructor(columns: ReadonlyMap<string, number>, cells: readonly Cell[], index: number) {
    this.#columns = columns;
    this.#cells = cells;
    this.index = index;
  }

  #cell(column: string): Cell {
    const at = this.#columns.get(column);
    const cell = at === undefined ? undefined : this.#cells[at];
    assert.ok(cell !== undefined, `no column ${column} in ${[...this.#columns.keys()].join(",")}`);
    return cell;
  }

  text(column: string): string {
    return this.#cell(column).text;
  }

  isEmpty(column: string): boolean {
    return this.#cell(column).text === "";
  }

  /** A number as §3 of the format wants it: unquoted, `.` for decimals, no exponent, no padding. */
  number(column: string): number {
    return Number(this.#numeral(column, /^-?\d+(\.\d+)?$/));
  }

  /** An integer that may need more than 53 bits. */
  integer(column: string): bigint {
    return BigInt(this.#numeral(column, /^-?\d+$/));
  }

  #numeral(column: string, shape: RegExp): string {
    const cell = this.#cell(column);
    assert.ok(!cell.quoted, `record ${this.index}: the number in ${column} is quoted`);
    assert.match(cell.text, shape, `record ${this.index}, column ${column}`);
    return cell.text;
  }

  get isEnd(): boolean {
    return this.text("Ticks") === "END";
  }

  /** Tells how many events of the process are missing here: LOST in the fourth cell, the number in the fifth. */
  get isLost(): boolean {
    return this.#cells[3]?.text === "LOST";
  }

  get pid(): number {
    return this.number("PID");
  }

  get ticks(): number {
    return this.number("Ticks");
  }

  toString(): string {
    return this.#cells.map((cell) => cell.text).join(",");
  }
}

export class Table {
  readonly header: readonly string[];
  readonly rows: readonly Row[];

  constructor(header: readonly string[], rows: readonly Row[]) {
    this.header = header;
    this.rows = rows;
  }

  /** The rows of one process, in file order. */
  of(pid: number): Row[] {
    return this.rows.filter((row) => row.pid === pid);
  }

  pids(): Set<number> {
    return new Set(this.rows.map((row) => row.pid));
  }

  /** The distinct tick times, in file order. */
  ticks(): number[] {
    return [...new Set(this.rows.filter((row) => !row.isEnd).map((row) => row.ticks))];
  }

  /** The rows with END of one process. */
  ends(pid: number): Row[] {
    return this.of(pid).filter((row) => row.isEnd);
  }

  sum(column: string, rows: readonly Row[] = this.rows): number {
    return rows.reduce((total, row) => total + row.number(column), 0);
  }
}

/**
 * Splits into records; throws with a byte position on anything RFC 4180 (with LF line ends) does not allow.
 */
function records(text: string): Cell[][] {
  const found: Cell[][] = [];
  let record: Cell[] = [];
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(
      `not RFC 4180 at character ${at}: ${what}: …${JSON.stringify(text.slice(Math.max(0, at - 40), at + 20))}`,
    );
  };
  while (at < text.length) {
    let value = "";
    const quoted = text[at] === '"';
    if (quoted) {
      at++;
      for (;;) {
        const end = text.indexOf('"', at);
        if (end < 0) fail("a quoted field never ends");
        value += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        value += '"';
        at++;
      }
    } else {
      const rest = /[,"\r\n]/g;
      rest.lastIndex = at;
      const end = rest.exec(text)?.index ?? text.length;
      value = text.slice(at, end);
      at = end;
    }
    record.push({ text: value, quoted });
    if (at >= text.length) fail("the last record has no line end");
    const separator = text[at];
    if (separator !== "," && separator !== "\n") fail(`${JSON.stringify(separator)} after a field`);
    at++;
    if (separator === "\n") {
      found.push(record);
      record = [];
    } else if (at >= text.length) {
      fail("the file ends inside a record");
    }
  }
  return found;
}

/**
 * Parses a whole table. `unfinished` says that the writer is still at work (or was killed): what follows the
 * last line end is then left out, as any reader of a growing file does.
 */
export function parseTable(bytes: Uint8Array, unfinished = false): Table {
  let text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
    unfinished ? bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1) : bytes,
  );
  assert.ok(!text.startsWith("\ufeff"), "the file starts with a byte-order mark");
  if (unfinished && text === "") text = "\n";
  const [header, ...body] = records(text);
  assert.ok(header !== undefined, "no header row");
  const names = header.map((cell) => cell.text);
  assert.equal(new Set(names).size, names.length, `a column name stands twice: ${names.join(",")}`);
  const columns = new Map(names.map((name, index) => [name, index]));
  return new Table(
    names,
    body.map((cells, index) => {
      assert.equal(cells.length, names.length, `record ${index} has another width than the header`);
      return new Row(columns, cells, index);
    }),
  );
}

export function readTable(path: string, unfinished = false): Table {
  return parseTable(readFileSync(path), unfinished);
}
