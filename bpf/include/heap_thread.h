/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: per thread, the address space it allocates in and the allocator call it is inside of.
 */
#ifndef TREESNOOP_HEAP_THREAD_H
#define TREESNOOP_HEAP_THREAD_H

#include "heap.h"

/* Frames further apart than this lie on different stacks (sigaltstack, coroutines). */
#define HEAP_STACK_SPAN (8ULL << 20)

struct heap_thread {
  __u64 sp;   /* at entry of the call; what matches its return */
  __u64 size; /* asked for */
  __u64 old;  /* realloc: the block taken out of the ledger */
  __u64 old_size;
  __u64 result; /* posix_memalign: where it stores the address */
  __u32 call;   /* 0: in none */
  __u32 space;
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct heap_thread);
} heap_threads SEC(".maps");

/* The space of a process; a process first met now starts empty. */
static __always_inline __u32 heap_space_of(__u32 process) {
  __u32 *known = bpf_map_lookup_elem(&heap_processes, &process);
  struct heap_space empty = {.users = 1};
  __u32 space;

  if (known) return *known;
  space = heap_space_create(&empty);
  if (!space) return 0;
  if (!bpf_map_update_elem(&heap_processes, &process, &space, BPF_NOEXIST)) return space;
  bpf_map_delete_elem(&heap_spaces, &space); /* another thread was first */
  known = bpf_map_lookup_elem(&heap_processes, &process);
  return known ? *known : 0;
}

static __always_inline struct heap_thread *heap_thread_of(struct task_struct *task) {
  struct heap_thread *own = bpf_task_storage_get(&heap_threads, task, NULL, 0);
  struct thread *thread;

  if (own && own->space) return own; /* the usual case: one lookup */
  thread = thread_of(task);
  if (!thread) return NULL;
  own = bpf_task_storage_get(&heap_threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (!own) {
    __sync_fetch_and_add(&heap_lost, 1);
    return NULL;
  }
  own->space = heap_space_of(thread->process);
  return own->space ? own : NULL;
}

static __always_inline struct heap_thread *heap_thread(void) {
  return heap_thread_of(bpf_get_current_task_btf());
}

/* Stacks grow down: a call in progress stands above, or at the same place when it jumped on
 * (reallocarray ends in a jump to realloc). One that stands below was left by longjmp. */
static __always_inline bool heap_is_nested(struct heap_thread *own, __u64 sp) {
  return own->call && own->sp >= sp && own->sp - sp < HEAP_STACK_SPAN;
}

#endif
