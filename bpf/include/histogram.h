/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: how lengths of time are summed up for percentiles: the buckets, and the longest of a tick.
 * Read by src/services/histogram.ts.
 *
 * Log-linear, 4 to a power of two, so a percentile is within 12.5 % of the truth: 0-3 ns each their
 * own, then (exponent - 1) * 4 + the two bits below the leading one, up to 2^41 ns.
 */
#ifndef TREESNOOP_HISTOGRAM_H
#define TREESNOOP_HISTOGRAM_H

#include "kernel.h"

#define HISTOGRAM_BUCKETS 160

/* The longest of a tick, in one word so that it can be exchanged. */
struct histogram_longest {
  __u64 ns : 48;
  __u64 tick : 16;
};

struct histogram {
  struct histogram_longest longest[2]; /* of this tick and the one before, by its lowest bit */
  __u32 buckets[HISTOGRAM_BUCKETS];
};

static __always_inline __u32 histogram_bucket(__u64 ns) {
  __u32 exponent = 0, bucket;

  if (ns < 4) return ns;
  if (ns >> 32) exponent = 32;
  if (ns >> (exponent + 16)) exponent += 16;
  if (ns >> (exponent + 8)) exponent += 8;
  if (ns >> (exponent + 4)) exponent += 4;
  if (ns >> (exponent + 2)) exponent += 2;
  if (ns >> (exponent + 1)) exponent += 1;
  bucket = (exponent - 1) * 4 + ((ns >> (exponent - 2)) & 3);
  return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* `tick`: the monitor counts it up before each reading. */
static __always_inline void histogram_add(struct histogram *histogram, __u64 ns, __u32 tick) {
  union {
    struct histogram_longest is;
    __u64 word;
  } old, mine = {.is = {.ns = ns >> 48 ? ~0ULL >> 16 : ns, .tick = tick}};
  __u64 *longest = (__u64 *)&histogram->longest[mine.is.tick & 1];
  __u32 bucket = histogram_bucket(ns), tries;

  if (bucket >= HISTOGRAM_BUCKETS) return; /* cannot be: said to the verifier */
  __sync_fetch_and_add(&histogram->buckets[bucket], 1);
  for (tries = 0; tries < 4; tries++) {
    old.word = *(volatile __u64 *)longest;
    if (old.is.tick == mine.is.tick && old.is.ns >= mine.is.ns) return;
    if (__sync_val_compare_and_swap(longest, old.word, mine.word) == old.word) return;
  }
}

#endif
