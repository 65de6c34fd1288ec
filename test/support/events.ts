// Reads syscall.csv in events mode at any size, a line at a time. Owns: the columns by name, the three kinds of
// rows (events, END, LOST), whole lines and nothing else. Does not own: what the rows have to say
// (support/flood.ts, the tests), the format in general (support/csv.ts).
import assert from "node:assert/strict";
import { closeSync, openSync, readSync } from "node:fs";

const header = "Ticks,PID,COMM,ACTION,SYSCALL_ID,PARM1,TID,SYSCALL,RET,DURATION";

/** The cells of a row as they stand in the file. */
export interface EventRow {
  readonly kind: "event" | "end" | "lost";
  /** Seconds; of an END row NaN. */
  readonly ticks: number;
  readonly pid: number;
  readonly comm: string;
  readonly entry: boolean;
  readonly first: string;
  readonly tid: number;
  readonly name: string;
  readonly result: string;
  /** Of a LOST row: events missing at this place. */
  readonly lost: number;
}

function parse(line: string): EventRow {
  const cells = line.split(",");
  const [ticks = "", pid = "", comm = "", action = "", id = "", first = "", tid = "", name = "", result = ""] = cells;
  const kind = ticks === "END" ? "end" : action === "LOST" ? "lost" : "event";
  const shaped =
    kind === "event"
      ? action === "0"
        ? result === ""
        : action === "1" && first === ""
      : cells.slice(kind === "end" ? 3 : 5).every((cell) => cell === "");
  // A message that nobody reads is not to be made for each of millions of rows.
  if (cells.length !== 10 || !shaped || line.includes('"')) assert.fail(`not a row of syscall.csv: ${line}`);
  return {
    kind,
    ticks: Number(ticks),
    pid: Number(pid),
    comm,
    entry: action === "0",
    first,
    tid: Number(tid),
    name,
    result,
    lost: kind === "lost" ? Number(id) : 0,
  };
}

/** Calls `take` with each line, without its end. A file of many hundred megabytes fits in no string. */
export function eachLine(path: string, take: (line: string) => void): void {
  const file = openSync(path, "r");
  try {
    const block = Buffer.alloc(1 << 20);
    let rest = "";
    for (;;) {
      const length = readSync(file, block);
      if (length === 0) break;
      const lines = (rest + block.toString("latin1", 0, length)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) take(line);
    }
    assert.equal(rest, "", `${path} ends within a line`);
  } finally {
    closeSync(file);
  }
}

/** Calls `take` with each row of the files, one file after the other, each of which has the header. */
export function eachEvent(paths: string | readonly string[], take: (row: EventRow) => void): void {
  for (const path of [paths].flat()) {
    let first = true;
    eachLine(path, (line) => {
      if (first) assert.equal(line, header, path);
      else take(parse(line));
      first = false;
    });
    assert.ok(!first, `${path} is empty`);
  }
}

/** All of a file that is known to be small. */
export function readEvents(paths: string | readonly string[]): EventRow[] {
  const rows: EventRow[] = [];
  eachEvent(paths, (row) => rows.push(row));
  return rows;
}
