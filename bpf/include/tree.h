/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the table of processes, what the monitor is told at once, and adding a task to it.
 * Owns not: when that happens (core/tree.bpf.c).
 */
#ifndef TREESNOOP_TREE_H
#define TREESNOOP_TREE_H

#include "drift.h"
#include "events.h"

struct process {
  __u64 end_ns;  /* CLOCK_MONOTONIC; 0 while a thread is left */
  __u64 cpu_ns;  /* of threads that are gone, as the scheduler accounted it */
  __u32 pid;     /* tgid in the monitor's pid namespace; 0 where that namespace cannot see it */
  __u32 parent;  /* serial number; 0 for a root */
  __u32 threads; /* alive now */
  __s32 exit_code;
  char comm[TASK_COMM_LEN];
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct process);
} processes SEC(".maps");

enum life_kind { LIFE_EXEC = 1, LIFE_END = 2 };

/* What the monitor must hear at once, in a ring of its own so that no flood of events delays it. */
struct life_event {
  __u32 kind;
  __u32 process;
  __u32 pid;
};

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 256 << 10);
} life SEC(".maps");

const volatile __u8 follow_children = 1;
const volatile __u8 host_mode = 0;

__u32 pidns_level = 0;  /* depth of the monitor's pid namespace */
__u32 monitor_tgid = 0; /* in the initial namespace; never in the tree */
__u32 root_pid = 0; /* the walk starts from this process, as the monitor's namespace numbers it */
__u32 root_process = 0; /* its serial number, once found */
__u32 last_process = 0; /* serial numbers given out */
__u32 life_mask = 0;  /* bit per life_kind somebody waits for; the end of the root always counts */
__u64 walk_found = 0; /* tasks the walk has added so far */
__u64 processes_lost = 0; /* forks nobody could record: the table was full or memory short */

/* Nothing comes after the last row of a process: 0 for one that has ended. */
static __always_inline __u32 living_process(__u32 id) {
  struct process *process = id ? bpf_map_lookup_elem(&processes, &id) : NULL;

  return process && !process->end_ns ? id : 0;
}

static __always_inline __u32 pid_here(struct task_struct *task) {
  struct pid *pid = BPF_CORE_READ(task, thread_pid);
  struct upid numbers;

  if (!pid || BPF_CORE_READ(pid, level) < pidns_level) return 0;
  if (bpf_core_read(&numbers, sizeof(numbers), &pid->numbers[pidns_level])) return 0;
  return numbers.nr;
}

static __always_inline void tell_life(__u32 kind, __u32 process, __u32 pid) {
  struct life_event *event;

  if (!(life_mask & (1 << kind)) && !(kind == LIFE_END && process == root_process)) return;
  event = bpf_ringbuf_reserve(&life, sizeof(*event), 0);
  if (!event) return; /* the monitor also looks at the table each tick: late, not lost */
  event->kind = kind;
  event->process = process;
  event->pid = pid;
  bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void tell_identity(__u32 id, struct process *process) {
  struct identity_event *event;

  if (!streams_running) return;
  event = event_reserve(IDENTITY_STREAM, id, bpf_ktime_get_ns(), sizeof(*event));
  if (!event) return;
  event->pid = process->pid;
  __builtin_memcpy(event->comm, process->comm, TASK_COMM_LEN);
  event_submit(event, sizeof(*event));
}

/* Adds the task to a process; the compare-and-swap decides between the fork hook and the walk. */
static __always_inline struct thread *join(struct task_struct *task, __u32 id) {
  struct thread *thread =
      bpf_task_storage_get(&threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

  if (!thread) {
    __sync_fetch_and_add(&processes_lost, 1);
    return NULL;
  }
  if (thread->process) return NULL;
  thread->tid = pid_here(task);
  thread->since_ns = bpf_ktime_get_ns();
  if (__sync_val_compare_and_swap(&thread->process, 0, id)) return NULL;
  __sync_fetch_and_add(&seat_at(as_number(task))->members, 1);
  return thread;
}

static __always_inline __u32 create(struct task_struct *leader, __u32 parent) {
  struct process process = {.parent = parent};
  __u32 id = __sync_fetch_and_add(&last_process, 1) + 1;

  process.pid = pid_here(leader);
  /* Threads that were gone before the run; a leader that has left keeps its entry, not its place.
   */
  process.cpu_ns = BPF_CORE_READ(leader, signal, sum_sched_runtime);
  process.threads = 1;
  if (BPF_CORE_READ(leader, exit_state)) {
    process.cpu_ns += BPF_CORE_READ(leader, se.sum_exec_runtime);
    process.threads = 0;
  }
  BPF_CORE_READ_STR_INTO(&process.comm, leader, comm);
  if (bpf_map_update_elem(&processes, &id, &process, BPF_NOEXIST)) {
    __sync_fetch_and_add(&processes_lost, 1);
    return 0;
  }
  if (!join(leader, id)) {
    bpf_map_delete_elem(&processes, &id);
    return 0;
  }
  tell_identity(id, &process);
  return id;
}

#endif
