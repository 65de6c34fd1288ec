// Watches a workload that counts its own heap and stands still after each phase (test/workloads/heap_count.h). Owns: waiting
// for a row of mem.csv that was measured during the phase, releasing the process, and the comparison. Does not own:
// which phases there are.
import assert from "node:assert/strict";
import { kill } from "node:process";
import type { TestContext } from "node:test";
import type { Table } from "./csv.js";
import { Run, type RunOptions, type RunRecord } from "./run.js";
import { until } from "./wait.js";

/** Bytes and blocks of a heap. */
export interface Heap {
  readonly bytes: number;
  readonly blocks: number;
}

/** What a process said of itself ("hold": it stands still; "end": its last word), and what treesnoop wrote. */
export interface Phase {
  readonly event: "hold" | "end";
  readonly name: string;
  readonly pid: number;
  readonly own: Heap;
  readonly time: number;
  /** From mem.csv: a row of the hold, or the END row. */
  readonly seen: Heap;
}

export function minus(left: Heap, right: Heap): Heap {
  return { bytes: left.bytes - right.bytes, blocks: left.blocks - right.blocks };
}

function said(line: string): Omit<Phase, "seen"> | undefined {
  const [event, name, pid, bytes, blocks, time] = line.split(" ");
  if ((event !== "hold" && event !== "end") || name === undefined || time === undefined) return undefined;
  return { event, name, pid: Number(pid), own: { bytes: Number(bytes), blocks: Number(blocks) }, time: Number(time) };
}

function heapOf(row: { number(column: string): number }): Heap {
  return { bytes: row.number("size(B)"), blocks: row.number("times") };
}

function warningsOf(run: Run): readonly string[] {
  return (run.record() as RunRecord & { readonly warnings?: readonly string[] }).warnings ?? [];
}

export interface Watched {
  readonly run: Run;
  readonly table: Table;
  /** Phases by name, in the order they were reached. */
  readonly phases: ReadonlyMap<string, Phase>;
  phase(name: string): Phase;
}

export interface WatchOptions extends RunOptions {
  /** Holds of which the row is to be taken only once another process has left: phase → the leaving phase's name. */
  readonly after?: Readonly<Record<string, string>>;
  readonly expectedCode?: number;
  /** What run.json must warn of before the first hold is looked at. */
  readonly warning?: RegExp;
}

/**
 * Runs a workload under treesnoop, phase by phase. A row counts for a phase when it is the second one stamped after the
 * process stood still: whatever the stamp means within its tick, that tick began inside the phase.
 */
export async function watchHolds(t: TestContext, options: WatchOptions): Promise<Watched> {
  const run = new Run(t, { deadline: 120, ...options });
  const phases = new Map<string, Phase>();
  const ended = new Map<string, number>();
  const open = new Set<Promise<void>>();
  const problems: unknown[] = [];
  const endRow = (pid: number): Heap | undefined => {
    const row = run.growing("mem.csv")?.ends(pid)[0];
    return row === undefined ? undefined : heapOf(row);
  };
  const observe = async (line: Omit<Phase, "seen">): Promise<void> => {
    if (line.event === "end") {
      // Its own row comes a tick later; the table is complete only when the run is over.
      ended.set(line.name, line.pid);
      return;
    }
    const other = options.after?.[line.name];
    let since = line.time;
    const { warning } = options;
    if (warning !== undefined && phases.size === 0) {
      await until(`${warning.source} in run.json`, () => warningsOf(run).some((text) => warning.test(text)), 10);
      since = Date.now() / 1000;
    }
    if (other !== undefined) {
      await until(`the END row of ${other}`, () => {
        const pid = ended.get(other);
        return pid !== undefined && endRow(pid) !== undefined;
      });
      since = Date.now() / 1000;
    }
    const row = await until(`a row of process ${line.pid} in phase ${line.name}`, () => {
      if (run.child.exitCode !== null) throw new Error(`treesnoop ended with ${run.child.exitCode}: ${run.stderr}`);
      return run.growing("mem.csv")?.of(line.pid).filter((candidate) => !candidate.isEnd && candidate.ticks > since)[1];
    });
    phases.set(line.name, { ...line, seen: heapOf(row) });
    kill(line.pid, "SIGUSR1");
  };
  let consumed = 0;
  let running = true;
  const finished = run.finished.finally(() => {
    running = false;
  });
  finished.catch(() => undefined);
  const lastWords: Omit<Phase, "seen">[] = [];
  const readOn = (): void => {
    for (;;) {
      const end = run.stdout.indexOf("\n", consumed);
      if (end < 0) return;
      const line = said(run.stdout.slice(consumed, end));
      consumed = end + 1;
      if (line === undefined) continue;
      if (line.event === "end") lastWords.push(line);
      const task = observe(line).catch((error: unknown) => {
        problems.push(error);
        // A process nobody releases would hang the run; the failure is kept and told below.
        run.child.kill("SIGKILL");
        try {
          kill(line.pid, "SIGKILL");
        } catch {
          // gone already
        }
      });
      open.add(task);
      void task.finally(() => open.delete(task));
    }
  };
  await until(
    "the workload to finish",
    () => {
      readOn();
      return !running || problems.length > 0;
    },
    options.deadline ?? 120,
  );
  if (problems.length === 0) readOn();
  await Promise.all(open);
  if (problems.length > 0) throw problems[0];
  const outcome = await finished;
  assert.deepEqual({ code: outcome.code, stderr: outcome.stderr }, { code: options.expectedCode ?? 0, stderr: "" });
  const table = run.table("mem.csv");
  for (const line of lastWords) {
    const ends = table.ends(line.pid);
    assert.equal(ends.length, 1, `END rows of process ${line.pid} (${line.name})`);
    for (const row of ends) phases.set(`end-${line.name}`, { ...line, seen: heapOf(row) });
  }
  return {
    run,
    table,
    phases,
    phase(name: string): Phase {
      const phase = phases.get(name);
      assert.ok(phase !== undefined, `the workload never said ${name}: ${[...phases.keys()].join(" ")}`);
      return phase;
    },
  };
}

/** Every phase for which `base` names one: seen minus the constant of that base phase equals the workload's own count. */
export function matches(watched: Watched, base: (name: string) => Heap): void {
  const wrong: string[] = [];
  const show = (heap: Heap): string => `${heap.bytes} B in ${heap.blocks}`;
  for (const [name, phase] of watched.phases) {
    const seen = minus(phase.seen, base(name));
    if (seen.bytes !== phase.own.bytes || seen.blocks !== phase.own.blocks)
      wrong.push(`${name} (process ${phase.pid}): workload ${show(phase.own)}, treesnoop ${show(seen)}`);
  }
  assert.deepEqual(wrong, [], `phases that differ:\n${wrong.join("\n")}`);
}
