/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what the kernel's scheduler has accounted to each thread, handed to its process when the
 * thread leaves the CPU for the last time or the monitor walks the tasks.
 *
 * Why not the sum of the intervals between sched_switch events: such a stream can have holes (a
 * kernel that hides the switches of some tasks charges the next thread with their time, by tens of
 * milliseconds), and it misses what the scheduler charges from the wake-up interrupt on. The
 * scheduler's own nanoseconds are what getrusage and schedstat show, and reading them costs nothing
 * per switch. A thread on the CPU is up to date to the last scheduler tick; the rest is in the next
 * reading.
 */
#include "drift.h"
#include "target.h"

/* How much of each sum has been handed over. */
struct cpu_thread {
  __u64 on_ns, alive_ns, wait_ns, voluntary, involuntary;
};

struct cpu_total {
  __u64 on_ns;    /* on a CPU */
  __u64 alive_ns; /* existing, summed over the threads: on and off */
  __u64 wait_ns;  /* runnable, on a run queue */
  __u64 voluntary, involuntary;
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct cpu_thread);
} cpu_threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct cpu_total);
} cpu_totals SEC(".maps");

__u8 cpu_baseline =
    0; /* 1: what is found now was before the module's time, and counts as handed over */
__u64 cpu_walk_ns =
    0; /* when the last walk began: the end of the interval of every process in it */
__u64 cpu_walk_end_ns = 0;
__u64 cpu_lost = 0; /* threads or processes that found no room in the maps above */

static __always_inline struct cpu_total *cpu_total_of(__u32 process) {
  static const struct cpu_total zero;
  struct cpu_total *total = bpf_map_lookup_elem(&cpu_totals, &process);

  if (total) return total;
  bpf_map_update_elem(&cpu_totals, &process, &zero, BPF_NOEXIST);
  return bpf_map_lookup_elem(&cpu_totals, &process);
}

/* What has come since the last call. The walk and the end of a thread may meet on two CPUs: whoever
 * exchanges the value owns the difference, so nothing is added twice. */
static __always_inline __u64 cpu_take(__u64 *handed, __u64 now) {
  __u64 before;
  __u32 i;

  for (i = 0; i < 3; i++) {
    before = *handed;
    if (now <= before) return 0;
    if (__sync_val_compare_and_swap(handed, before, now) == before) return now - before;
  }
  return 0;
}

static __always_inline void cpu_hand_over(struct task_struct *task, struct thread *thread,
                                          __u64 now) {
  __u64 on, alive, wait, voluntary, involuntary;
  struct cpu_thread *cpu;
  struct cpu_total *total;

  cpu = bpf_task_storage_get(&cpu_threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
  total = cpu ? cpu_total_of(thread->process) : NULL;
  if (!total) {
    __sync_fetch_and_add(&cpu_lost, 1);
    return;
  }
  on = cpu_take(&cpu->on_ns, BPF_CORE_READ(task, se.sum_exec_runtime));
  alive = now > thread->since_ns ? cpu_take(&cpu->alive_ns, now - thread->since_ns) : 0;
  wait = cpu_take(&cpu->wait_ns, task_run_delay(task));
  voluntary = cpu_take(&cpu->voluntary, BPF_CORE_READ(task, nvcsw));
  involuntary = cpu_take(&cpu->involuntary, BPF_CORE_READ(task, nivcsw));
  if (cpu_baseline) return;
  __sync_fetch_and_add(&total->on_ns, on);
  __sync_fetch_and_add(&total->alive_ns, alive);
  __sync_fetch_and_add(&total->wait_ns, wait);
  __sync_fetch_and_add(&total->voluntary, voluntary);
  __sync_fetch_and_add(&total->involuntary, involuntary);
}

/* Not sched_process_exit: tearing down the address space comes after it (since 6.16) and is work
 * too. */
SEC("tp_btf/sched_switch")
int BPF_PROG(cpu_last_switch, bool preempt, struct task_struct *prev) {
  struct thread *thread;

  if (task_state(prev) != TASK_DEAD) return 0;
  thread = thread_of(prev);
  if (thread && !thread->left) cpu_hand_over(prev, thread, bpf_ktime_get_ns());
  return 0;
}

SEC("iter/task")
int cpu_walk(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  struct thread *thread = task ? thread_of(task) : NULL;

  if (ctx->meta->seq_num == 0) cpu_walk_ns = bpf_ktime_get_ns();
  if (!task) cpu_walk_end_ns = bpf_ktime_get_ns();
  if (thread && !thread->left) cpu_hand_over(task, thread, cpu_walk_ns);
  return 0;
}
