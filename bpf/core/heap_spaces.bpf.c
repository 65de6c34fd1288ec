/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: when an address space begins (fork, exec) and ends, and clearing away what the ended ones
 * leave.
 */
#include "heap_thread.h"

/* After tree_newtask in the list of hooks: the child is known by then. */
SEC("tp_btf/task_newtask")
int BPF_PROG(heap_newtask, struct task_struct *task, __u64 clone_flags) {
  struct heap_space *parent, child = {.users = 1};
  struct heap_thread *own;
  struct thread *thread;
  __u32 process, space;

  if (clone_flags & CLONE_THREAD) return 0;
  thread = thread_of(task);
  own = heap_thread();
  if (!thread || !own) return 0;
  space = own->space;
  parent = heap_space_by_id(space);
  if (!parent) return 0;
  process = thread->process;
  if (clone_flags & CLONE_VM) {
    __sync_fetch_and_add(&parent->users, 1);
  } else {
    child.size = parent->size;
    child.times = parent->times;
    child.parent = space;
    /* Counted before the epoch moves: from then on the parent buries what it frees. */
    __sync_fetch_and_add(&parent->views, 1);
    child.fork_epoch = __sync_fetch_and_add(&parent->epoch, 1) + 1;
    space = heap_space_create(&child);
    if (!space) return 0;
  }
  if (bpf_map_update_elem(&heap_processes, &process, &space, BPF_ANY))
    __sync_fetch_and_add(&heap_lost, 1);
  return 0;
}

__u64 heap_garbage = 0; /* blocks left behind by ended spaces since the last sweep, about */

/* One user less; a space nobody lives in or looks through goes, and so may the one it looked
 * through. */
static __always_inline void heap_leave(__u32 id) {
  struct heap_space *space = heap_space_by_id(id);
  __u32 depth;

  if (!space) return;
  __sync_fetch_and_sub(&space->users, 1);
  for (depth = 0; depth < HEAP_CHAIN && space && !space->users && !space->views; depth++) {
    __u32 parent = space->parent;
    __sync_fetch_and_add(&heap_garbage, space->times);
    bpf_map_delete_elem(&heap_spaces, &id);
    id = parent;
    space = heap_space_by_id(id);
    if (space) __sync_fetch_and_sub(&space->views, 1);
  }
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(heap_exec, struct task_struct *task) {
  struct heap_thread *own = heap_thread_of(task);
  struct heap_space empty = {.users = 1};
  struct thread *thread = thread_of(task);
  __u32 process, space;

  if (!own || !thread) return 0;
  heap_leave(own->space);
  space = heap_space_create(&empty);
  own->space = space;
  own->call = 0;
  process = thread->process;
  bpf_map_update_elem(&heap_processes, &process, &space, BPF_ANY);
  return 0;
}

/* Run by the monitor once the last row of a process is written: ctx->args[0] is the process. */
SEC("raw_tp")
int heap_release(struct bpf_raw_tracepoint_args *ctx) {
  __u32 process = ctx->args[0];
  __u32 *space = bpf_map_lookup_elem(&heap_processes, &process);

  if (!space) return 0;
  heap_leave(*space);
  bpf_map_delete_elem(&heap_processes, &process);
  return 1;
}

static long heap_sweep_one(struct bpf_map *map, struct heap_key *key, void *value, void *context) {
  __u32 space = key->space;

  if (!heap_space_by_id(space)) bpf_map_delete_elem(map, key);
  return 0;
}

/* Run by the monitor when the ended spaces may hold much of the ledger. */
SEC("raw_tp")
int heap_sweep(struct bpf_raw_tracepoint_args *ctx) {
  heap_garbage = 0;
  bpf_for_each_map_elem(&heap_blocks, heap_sweep_one, NULL, 0);
  bpf_for_each_map_elem(&heap_graves, heap_sweep_one, NULL, 0);
  return 0;
}
