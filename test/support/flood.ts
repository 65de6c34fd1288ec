// Follows the flooders of test/workloads/stream_flood.h through syscall.csv. Owns: that each row of a process is
// the one that comes next, LOST rows counted in, that END is the last, and that the books in run.json say the
// same. Does not own: how the run was disturbed.
import assert from "node:assert/strict";
import { eachEvent, type EventRow } from "./events.js";
import type { ModuleRecord } from "./run.js";

/** Switches only the system calls of the flood on. */
export const floodConfig = {
  snoop_syscall: "bpf",
  syscall_output_file: "syscall.csv",
  syscall_filter: ["umask"],
  interval: 0.1,
};

/** One process: its calls are numbered, and each makes two events. */
export class Flooder {
  readonly pid: number;
  readonly first: number;
  /** Events that happened, by the process's own count. */
  readonly happened: number;
  /** Event rows. */
  events = 0;
  /** Events that LOST rows tell of. */
  lost = 0;
  lostRows = 0;
  /** Event rows behind the last LOST row. */
  sinceLost = 0;
  ended = false;
  readonly names = new Set<string>();

  constructor(pid: number, first: number, calls: number) {
    this.pid = pid;
    this.first = first;
    this.happened = 2 * calls;
  }

  take(row: EventRow): void {
    if (this.ended) this.#fail("END was its last row", row);
    this.names.add(row.comm);
    if (row.kind === "end") {
      this.ended = true;
    } else if (row.kind === "lost") {
      if (!(row.lost > 0)) this.#fail("how many are lost", row);
      this.lost += row.lost;
      this.lostRows++;
      this.sinceLost = 0;
    } else {
      const position = this.events + this.lost;
      const call = this.first + Math.floor(position / 2);
      const entry = position % 2 === 0;
      if (row.entry !== entry || row.tid !== this.pid || row.name !== "umask")
        this.#fail(entry ? "an entry is next" : "a return is next", row);
      if (entry ? row.first !== String(call) : call > this.first && row.result !== String((call - 1) & 0o777))
        this.#fail(`call ${call} is next`, row);
      this.events++;
      this.sinceLost++;
    }
  }

  #fail(expected: string, row: EventRow): never {
    assert.fail(
      `process ${this.pid}, after ${this.events} events and ${this.lost} lost: ${expected}, not ${JSON.stringify(row)}`,
    );
  }
}

/** What the workloads print of themselves. */
function flooders(stdout: string): Map<number, Flooder> {
  const found = [...stdout.matchAll(/^flooder (\d+) (\d+) (\d+)$/gm)].map((match) => {
    const [pid = 0, first = 0, calls = 0] = match.slice(1).map(Number);
    return [pid, new Flooder(pid, first, calls)] as const;
  });
  assert.ok(found.length > 0, stdout);
  return new Map(found);
}

export interface Flood {
  readonly processes: readonly Flooder[];
  /** The name all of them have. */
  readonly name: string;
  /** Rows of all kinds, also those of processes that do not flood (they have END rows). */
  readonly rows: number;
  readonly events: number;
  readonly lost: number;
  readonly happened: number;
}

/** Reads the files of a flood in their order, checks each row against the one before. */
export function readFlood(stdout: string, paths: string | readonly string[]): Flood {
  const known = flooders(stdout);
  let rows = 0;
  eachEvent(paths, (row) => {
    rows++;
    const process = known.get(row.pid);
    if (process !== undefined) process.take(row);
    else assert.equal(row.kind, "end", `an event of nobody who floods: ${JSON.stringify(row)}`);
  });
  const processes = [...known.values()];
  const sum = (of: (process: Flooder) => number): number => processes.reduce((total, each) => total + of(each), 0);
  const [name, ...others] = new Set(processes.flatMap((process) => [...process.names]));
  assert.ok(name !== undefined && others.length === 0, `one name, not ${name ?? ""} ${others.join(" ")}`);
  return {
    processes,
    name,
    rows,
    events: sum((process) => process.events),
    lost: sum((process) => process.lost),
    happened: sum((process) => process.happened),
  };
}

/** run.json: what was seen is what happened, and it is written or lost, all told and by process. */
export function checkBooks(record: ModuleRecord | undefined, flood: Flood): void {
  assert.ok(record !== undefined);
  const { rows, events_seen: seen, events_written: written, events_lost: lost } = record;
  assert.deepEqual(
    { rows, seen, written, lost },
    { rows: flood.rows, seen: flood.happened, written: flood.events, lost: flood.happened - flood.events },
  );
  assert.deepEqual(
    [...(record.lost_by_process ?? [])].sort((a, b) => a.pid - b.pid),
    flood.processes
      .filter((process) => process.happened > process.events)
      .map((process) => ({ pid: process.pid, comm: flood.name, lost: process.happened - process.events }))
      .sort((a, b) => a.pid - b.pid),
    "lost by process",
  );
}

/** The same, and LOST rows tell of every event that is missing, each process has its END. */
export function checkAll(record: ModuleRecord | undefined, flood: Flood): void {
  for (const process of flood.processes) {
    assert.equal(process.events + process.lost, process.happened, `rows and LOST of process ${process.pid}`);
    assert.ok(process.ended, `END of process ${process.pid}`);
  }
  checkBooks(record, flood);
}
