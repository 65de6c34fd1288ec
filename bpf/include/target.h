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
  __u32 call_nr;  /* the system call it is in, for modules/syscall.bpf.c */
  __u64 call_ns;  /* when it entered that; 0 while it is in none that is wanted */
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct thread);
} threads SEC(".maps");

/*
 * Found by the task's address without calling a helper: for most tasks outside the tree the
 * question ends here, and a thread that sits here is spared the look-up in its storage. Who finds
 * the seat taken goes by its storage.
 */
#define SEAT_BITS 10

struct seat {
  __u64 task;           /* who sits here */
  __u32 members;        /* living threads of the tree whose address leads here */
  struct thread thread; /* theirs who sits here; its call_ is the true one, the rest is a copy */
};

struct seat seats[1 << SEAT_BITS] SEC(".bss.seats");

/* A pointer cannot be hashed. How far it is from another can: that is the same all run long. */
static __always_inline __u64 as_number(const void *pointer) {
  __u64 distance = (__u64)pointer - (__u64)seats;

  asm volatile("" : "+r"(distance));
  return distance;
}

static __always_inline struct seat *seat_at(__u64 address) {
  return &seats[address * 0x9e3779b97f4a7c15ULL >> (64 - SEAT_BITS)];
}

static __always_inline struct thread *thread_of(struct task_struct *task) {
  struct thread *thread = bpf_task_storage_get(&threads, task, NULL, 0);
  return thread && thread->process ? thread : NULL;
}

static __always_inline struct thread *current_thread(void) {
  return thread_of(bpf_get_current_task_btf());
}

/*
 * The same for programs that run with every system call. `sit`: to be quicker from then on, where
 * the seat is free; not while the thread's storage holds a call.
 */
static __always_inline struct thread *current_thread_quick(bool sit) {
  struct task_struct *task = bpf_get_current_task_btf();
  __u64 address = as_number(task);
  struct seat *seat = seat_at(address);
  struct thread *thread;

  if (seat->task == address) return &seat->thread;
  thread = seat->members ? thread_of(task) : NULL;
  if (!sit || !thread || __sync_val_compare_and_swap(&seat->task, 0, address)) return thread;
  seat->thread = *thread;
  return &seat->thread;
}

/* Before what its storage says changes, before it ends, and before another task has its address. */
static __always_inline void leave_seat(struct task_struct *task, struct thread *thread) {
  __u64 address = as_number(task);
  struct seat *seat = seat_at(address);

  if (seat->task != address) return;
  if (thread) {
    thread->call_nr = seat->thread.call_nr;
    thread->call_ns = seat->thread.call_ns;
  }
  __sync_lock_test_and_set(&seat->task, 0);
}

#endif
