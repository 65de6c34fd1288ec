/**
 * Owns: percentiles of the lengths of time that programs sum up (bpf/include/histogram.h).
 */

/** `struct histogram`, decoded. */
export interface Histogram {
  /** Of the tick that runs and the one before. */
  readonly longest: readonly { readonly ns: number; readonly tick: number }[];
  readonly buckets: readonly number[];
}

const bucketCount = 160; // as HISTOGRAM_BUCKETS

export const noTimes: Histogram = {
  longest: [{ ns: 0, tick: 0 }, { ns: 0, tick: 0 }],
  buckets: new Array<number>(bucketCount).fill(0),
};

/** Of that tick. */
export function longestNs(histogram: Histogram, tick: number): number {
  const own = histogram.longest.filter((longest) => longest.tick === tick % 2 ** 16);
  return Math.max(0, ...own.map((longest) => longest.ns));
}

export function together(one: Histogram, other: Histogram): Histogram {
  return {
    longest: [...one.longest, ...other.longest],
    buckets: one.buckets.map((count, index) => count + (other.buckets[index] ?? 0)),
  };
}

/** What has come into the buckets. */
export function since(now: Histogram, then: Histogram): number[] {
  return now.buckets.map((count, index) => count - (then.buckets[index] ?? 0));
}

/** Middle of a bucket in ns; the inverse of histogram_bucket(). */
function bucketNs(bucket: number): number {
  if (bucket < 4) return bucket;
  const exponent = Math.floor(bucket / 4) + 1;
  const step = 2 ** (exponent - 2);
  return 2 ** exponent + (bucket % 4) * step + step / 2;
}

/** The smallest bucket that the share of all does not exceed, in ns. */
export function percentileNs(buckets: readonly number[], share: number): number {
  const all = buckets.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (const [bucket, count] of buckets.entries()) {
    seen += count;
    if (seen >= all * share && count > 0) return bucketNs(bucket);
  }
  return 0;
}
