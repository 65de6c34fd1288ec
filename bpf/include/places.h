/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: taking a place in a table without a lock. Its first word says whose it is: a number that is
 * even, as addresses are; 0: nobody's. Owns not: which place it is.
 */
#ifndef TREESNOOP_PLACES_H
#define TREESNOOP_PLACES_H

#include "kernel.h"

#define PLACE_TAKEN 1 /* somebody is at it */

/* From this holder. To be given to the next, or set free, by who took it. */
static __always_inline bool place_take(__u64 *place, __u64 holder) {
  return __sync_val_compare_and_swap(place, holder, PLACE_TAKEN) == holder;
}

/* From whoever holds it, or nobody. */
static __always_inline bool place_take_over(__u64 *place) {
  __u64 holder = *place;

  return holder != PLACE_TAKEN && place_take(place, holder);
}

#endif
