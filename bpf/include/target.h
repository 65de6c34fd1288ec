/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the one question every program asks first, "is this task ours?", and what it gets back:
 * which process the thread belongs to. Membership is task-local storage, so the answer costs one
 * pointer chase, needs no map sized by guess, and goes away with the task. Owns not: who becomes a
 * member (core/tree.bpf.c).
 */
#ifndef TREESNOOP_TARGET_H
#define TREESNOOP_TARGET_H

#include "kernel.h"

/*
 * A process is known by a serial number, never by its tgid: the kernel may hand a tgid out again
 * within one tick, and a tgid changes meaning between pid namespaces.
 */
struct thread {
  __u32 process;  /* serial number of the process, from 1; 0 while the entry is being made */
  __u32 tid;      /* as the monitor's pid namespace sees it */
  __u64 since_ns; /* CLOCK_MONOTONIC: born, or found by the walk over existing tasks */
  __u32 left;     /* 1 once its last switch away was seen */
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct thread);
} threads SEC(".maps");

static __always_inline struct thread *thread_of(struct task_struct *task) {
  struct thread *thread = bpf_task_storage_get(&threads, task, NULL, 0);
  return thread && thread->process ? thread : NULL;
}

static __always_inline struct thread *current_thread(void) {
  return thread_of(bpf_get_current_task_btf());
}

#endif
