// Ground truth for CPU time. Owns: reading what test/workloads/witness.c (wait4's rusage) and cpusample.c
// (CPU clock and schedstat, sampled from outside) wrote, and the interval arithmetic that turns samples into
// bounds at a given instant. Does not own: treesnoop's numbers.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

/** One line of witness.c. */
export interface Rusage {
  readonly pid: number;
  /** User + system, milliseconds. */
  readonly cpu: number;
  readonly wall: number;
  readonly voluntary: number;
  readonly involuntary: number;
}

export function readWitness(path: string): Rusage[] {
  return readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((text) => {
      const [pid, user, system, wall, voluntary, involuntary] = text.split(" ").map(Number);
      assert.ok(
        pid !== undefined &&
          user !== undefined &&
          system !== undefined &&
          wall !== undefined &&
          voluntary !== undefined &&
          involuntary !== undefined,
      );
      return { pid, cpu: (user + system) / 1000, wall: wall / 1000, voluntary, involuntary };
    });
}

/** One line of cpusample.c: times in seconds since the epoch, values in milliseconds. */
export interface Sample {
  readonly before: number;
  readonly after: number;
  readonly clock: number;
  readonly run: number;
  readonly wait: number;
  /** utime + stime of /proc/PID/stat. */
  readonly stat: number;
  readonly threads: number;
}

export function readSamples(path: string): Sample[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((text) => {
      const [before, after, clock, run, wait, stat, threads] = text.split(" ").map(Number);
      if (
        before === undefined ||
        after === undefined ||
        clock === undefined ||
        run === undefined ||
        wait === undefined ||
        stat === undefined ||
        threads === undefined
      )
        return [];
      return [
        {
          before: before / 1e9,
          after: after / 1e9,
          clock: clock / 1e6,
          run: run / 1e6,
          wait: wait / 1e6,
          stat: stat * 10,
          threads,
        },
      ];
    });
}

export interface Bounds {
  readonly least: number;
  readonly most: number;
}

/**
 * What a counter that only grows can have grown by between two instants: the samples just outside and just
 * inside each instant bound it, with no assumption on how it grew. Undefined when the samples do not reach
 * around both instants.
 */
export function growth(
  samples: readonly Sample[],
  value: (sample: Sample) => number,
  from: number,
  to: number,
): Bounds | undefined {
  const around = (instant: number): Bounds | undefined => {
    const next = samples.findIndex((sample) => sample.before >= instant);
    let last = next - 1;
    while (last >= 0 && (samples[last]?.after ?? Infinity) > instant) last--;
    const low = samples[last];
    const high = samples[next];
    return low === undefined || high === undefined ? undefined : { least: value(low), most: value(high) };
  };
  const start = around(from);
  const end = around(to);
  return start === undefined || end === undefined
    ? undefined
    : { least: end.least - start.most, most: end.most - start.least };
}

/** Asserts `seen` within the bounds, give or take the larger of `share` of it and `absolute`. */
export function within(what: string, seen: number, bounds: Bounds, share: number, absolute: number): void {
  const slack = Math.max(absolute, share * Math.max(Math.abs(bounds.most), Math.abs(bounds.least)));
  assert.ok(
    seen >= bounds.least - slack && seen <= bounds.most + slack,
    `${what}: ${seen.toFixed(3)} is not within ${slack.toFixed(3)} of ${bounds.least.toFixed(3)} … ${bounds.most.toFixed(3)}`,
  );
}

export function close(what: string, seen: number, expected: number, share: number, absolute: number): void {
  within(what, seen, { least: expected, most: expected }, share, absolute);
}
