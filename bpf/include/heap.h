/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the ledger of live heap blocks: (address space, address) -> size, and each space's sums.
 * Owns not: which functions feed it (modules/mem.bpf.c).
 *
 * A fork gives the child its parent's blocks. Copying them in the fork hook would stall the fork,
 * so the child's space keeps a link to its parent's and the fork's number there (its epoch), and
 * looks a block up along that chain. Each block carries the epoch it was born in; a parent that
 * frees or replaces a block some living child may still see moves it to `heap_graves` under the
 * epoch of its death; the graves of one address form a list, newest first. So a child forked with
 * epoch k sees exactly the blocks with birth < k <= death. docs/mem.md draws it.
 */
#ifndef TREESNOOP_HEAP_H
#define TREESNOOP_HEAP_H

#include "target.h"

#define HEAP_CHAIN 16  /* generations of fork without exec that are followed */
#define HEAP_GRAVES 32 /* graves of one address that are searched */

struct heap_space {
  __u64 size, times; /* live bytes as asked for, live blocks */
  __u32 parent;      /* space forked from; 0: none, or exec */
  __u32 fork_epoch;  /* the parent's epoch at that fork */
  __u32 epoch;       /* forks made so far */
  __u32 views;       /* spaces that look through this one */
  __u32 users;       /* processes that live in it (a vfork child shares its parent's) */
  __u32 graves;      /* ever made */
};

struct heap_key {
  __u64 address;
  __u32 space;
  __u32 death; /* epoch; 0 in heap_blocks, and for the head of an address's list in heap_graves */
};

struct heap_block {
  __u64 size;
  __u32 birth;   /* epoch */
  __u32 freed;   /* 1: an inherited block this space has freed */
  __u32 earlier; /* in heap_graves: death epoch of the grave before this one; 0: none */
  __u32 unused;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct heap_space);
} heap_spaces SEC(".maps");

/* process -> space */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, __u32);
} heap_processes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 20);
  __type(key, struct heap_key);
  __type(value, struct heap_block);
} heap_blocks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 18);
  __type(key, struct heap_key);
  __type(value, struct heap_block);
} heap_graves SEC(".maps");

__u32 heap_last_space = 0;
__u64 heap_lost = 0; /* blocks or spaces that found no room: sums are too small from here on */

static __always_inline struct heap_space *heap_space_by_id(__u32 space) {
  return bpf_map_lookup_elem(&heap_spaces, &space);
}

static __always_inline __u32 heap_space_create(const struct heap_space *from) {
  __u32 space = __sync_fetch_and_add(&heap_last_space, 1) + 1;

  if (!bpf_map_update_elem(&heap_spaces, &space, from, BPF_NOEXIST)) return space;
  __sync_fetch_and_add(&heap_lost, 1);
  return 0;
}

/*
 * Global functions below, not inlined: the verifier then checks each once, not at every place of
 * call; a loop over another loop is two functions for the same reason.
 */

enum heap_sight { HEAP_UNSEEN, HEAP_LIVE, HEAP_FREED, HEAP_TOO_MANY };

static __always_inline int heap_sight(struct heap_block *block, __u64 *size) {
  *size = block->size;
  return block->freed ? HEAP_FREED : HEAP_LIVE;
}

/* The block a child forked with this epoch sees in the graves of its parent. */
__noinline int heap_grave(__u32 parent, __u64 address, __u32 fork_epoch, __u64 *size) {
  struct heap_key key = {.address = address, .space = parent};
  struct heap_block *block = bpf_map_lookup_elem(&heap_graves, &key);
  __u32 i;

  if (!size) return HEAP_UNSEEN;
  for (i = 0; i < HEAP_GRAVES; i++) {
    if (!block || block->earlier < fork_epoch) return HEAP_UNSEEN;
    key.death = block->earlier;
    block = bpf_map_lookup_elem(&heap_graves, &key);
    if (block && block->birth < fork_epoch) return heap_sight(block, size);
  }
  return HEAP_TOO_MANY;
}

/* The inherited block at the address, as it was when the space was forked; 1 when there is one. */
__noinline int heap_inherited(__u32 id, __u64 address, __u64 *size) {
  struct heap_key key = {.address = address};
  struct heap_space *space = heap_space_by_id(id);
  struct heap_block *block;
  __u32 depth, fork_epoch;
  int sight;

  if (!size) return 0;
  for (depth = 0; depth < HEAP_CHAIN; depth++) {
    if (!space || !space->parent) return 0;
    key.space = space->parent;
    fork_epoch = space->fork_epoch;
    block = bpf_map_lookup_elem(&heap_blocks, &key);
    if (block && block->birth < fork_epoch) return heap_sight(block, size) == HEAP_LIVE;
    space = heap_space_by_id(key.space);
    if (!space || !space->graves) continue;
    sight = heap_grave(key.space, address, fork_epoch, size);
    if (sight == HEAP_TOO_MANY) break;
    if (sight != HEAP_UNSEEN) return sight == HEAP_LIVE;
  }
  __sync_fetch_and_add(&heap_lost, 1);
  return 0;
}

/* Call before a block of this space changes: keeps what a living child may still see. */
static __always_inline void heap_bury(__u32 id, struct heap_space *space, __u64 address,
                                      struct heap_block *block) {
  struct heap_key key = {.address = address, .space = id};
  struct heap_block grave = *block, head = {.earlier = space->epoch}, *newest;

  if (!space->views || block->birth >= space->epoch) return;
  newest = bpf_map_lookup_elem(&heap_graves, &key);
  grave.earlier = newest ? newest->earlier : 0;
  __sync_fetch_and_add(&space->graves, 1);
  if (bpf_map_update_elem(&heap_graves, &key, &head, BPF_ANY)) goto lost;
  key.death = space->epoch;
  if (!bpf_map_update_elem(&heap_graves, &key, &grave, BPF_ANY)) return;
lost:
  __sync_fetch_and_add(&heap_lost, 1);
}

__noinline int heap_allocated(__u32 id, __u64 address, __u64 size) {
  struct heap_key key = {.address = address, .space = id};
  struct heap_space *space = heap_space_by_id(id);
  struct heap_block block = {.size = size}, *old;

  if (!space) return 0;
  old = bpf_map_lookup_elem(&heap_blocks, &key);
  if (old) {
    heap_bury(id, space, address, old);
    if (!old->freed) { /* its free was not seen */
      __sync_fetch_and_sub(&space->size, old->size);
      __sync_fetch_and_sub(&space->times, 1);
    }
  }
  block.birth = space->epoch;
  if (bpf_map_update_elem(&heap_blocks, &key, &block, BPF_ANY)) {
    __sync_fetch_and_add(&heap_lost, 1);
    return 0;
  }
  __sync_fetch_and_add(&space->size, size);
  __sync_fetch_and_add(&space->times, 1);
  return 0;
}

/* 1 when there was a block, and how large: a realloc that fails puts it back. */
__noinline int heap_freed(__u32 id, __u64 address, __u64 *size) {
  struct heap_key key = {.address = address, .space = id};
  struct heap_space *space = heap_space_by_id(id);
  struct heap_block freed = {.freed = 1}, *block;
  __u64 inherited;

  if (!space || !size) return 0;
  block = bpf_map_lookup_elem(&heap_blocks, &key);
  if (block) {
    if (block->freed) return 0;
    *size = block->size;
    heap_bury(id, space, address, block);
    if (!space->parent || !heap_inherited(id, address, &inherited)) {
      bpf_map_delete_elem(&heap_blocks, &key);
      goto sums;
    }
  } else if (!heap_inherited(id, address, size)) {
    return 0; /* older than the probes */
  }
  freed.birth = space->epoch;
  if (bpf_map_update_elem(&heap_blocks, &key, &freed, BPF_ANY)) __sync_fetch_and_add(&heap_lost, 1);
sums:
  __sync_fetch_and_sub(&space->size, *size);
  __sync_fetch_and_sub(&space->times, 1);
  return 1;
}

#endif
