/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: nanoseconds on and off the CPU per process, kept per thread and handed to the process when
 * the thread ends or the monitor walks the tasks.
 *
 * Every interval is taken exactly once: whoever closes it exchanges `since` for now and owns the
 * difference. So the walk may close the running interval of a thread on another CPU at any moment,
 * and a thread that never switches is counted all the same.
 */
#include "drift.h"
#include "target.h"

struct cpu_thread {
  __u64 since_ns;                                       /* start of the open interval */
  __u64 on_ns, off_ns, wait_ns, voluntary, involuntary; /* not yet handed to the process */
  __u64 run_delay;                                      /* the kernel's own sum at the last look */
  __u32 process;
  __u32 on;
};

struct cpu_total {
  __u64 on_ns, off_ns, wait_ns, voluntary, involuntary;
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

__u64 cpu_start_ns = 0; /* when the module was switched on: nothing before it is counted */
__u64 cpu_lost = 0;     /* threads or processes that found no room in the maps above */

static __always_inline struct cpu_thread *cpu_thread_of(struct task_struct *task, __u32 on) {
  struct cpu_thread *cpu = bpf_task_storage_get(&cpu_threads, task, NULL, 0);
  struct thread *thread;

  if (cpu && cpu->process) return cpu;
  thread = thread_of(task);
  if (!thread) return NULL;
  cpu = bpf_task_storage_get(&cpu_threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (!cpu) {
    __sync_fetch_and_add(&cpu_lost, 1);
    return NULL;
  }
  cpu->since_ns = thread->since_ns;
  cpu->run_delay = task_run_delay(task);
  cpu->on = on;
  /* Last, and only one of two racing callers may go on to count. */
  if (__sync_val_compare_and_swap(&cpu->process, 0, thread->process)) return NULL;
  return cpu;
}

static __always_inline void cpu_hand_over(struct cpu_thread *cpu) {
  static const struct cpu_total zero;
  __u32 process = cpu->process;
  struct cpu_total *total = bpf_map_lookup_elem(&cpu_totals, &process);

  if (!total) {
    bpf_map_update_elem(&cpu_totals, &process, &zero, BPF_NOEXIST);
    total = bpf_map_lookup_elem(&cpu_totals, &process);
    if (!total) {
      __sync_fetch_and_add(&cpu_lost, 1);
      return;
    }
  }
  __sync_fetch_and_add(&total->on_ns, __sync_lock_test_and_set(&cpu->on_ns, 0));
  __sync_fetch_and_add(&total->off_ns, __sync_lock_test_and_set(&cpu->off_ns, 0));
  __sync_fetch_and_add(&total->wait_ns, __sync_lock_test_and_set(&cpu->wait_ns, 0));
  __sync_fetch_and_add(&total->voluntary, __sync_lock_test_and_set(&cpu->voluntary, 0));
  __sync_fetch_and_add(&total->involuntary, __sync_lock_test_and_set(&cpu->involuntary, 0));
}

/* How much of the interval that ends now lies in the time the module was on. */
static __always_inline __u64 cpu_interval(__u64 since, __u64 now) {
  if (since < cpu_start_ns) since = cpu_start_ns;
  return now > since ? now - since : 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(cpu_switch, bool preempt, struct task_struct *prev, struct task_struct *next) {
  __u64 now = bpf_ktime_get_ns(), since, delay;
  struct cpu_thread *cpu;
  __u32 state;

  cpu = cpu_thread_of(prev, 1);
  if (cpu) {
    since = __sync_lock_test_and_set(&cpu->since_ns, now);
    cpu->on = 0;
    __sync_fetch_and_add(&cpu->on_ns, cpu_interval(since, now));
    /* sched_info_arrive() of this slice has run: the sum holds every wait up to it. */
    delay = task_run_delay(prev);
    __sync_fetch_and_add(&cpu->wait_ns, delay - cpu->run_delay);
    cpu->run_delay = delay;
    state = task_state(prev);
    if (preempt || state == 0)
      __sync_fetch_and_add(&cpu->involuntary, 1);
    else
      __sync_fetch_and_add(&cpu->voluntary, 1);
    if (state == TASK_DEAD) cpu_hand_over(cpu);
  }
  cpu = cpu_thread_of(next, 0);
  if (cpu) {
    since = __sync_lock_test_and_set(&cpu->since_ns, now);
    cpu->on = 1;
    __sync_fetch_and_add(&cpu->off_ns, cpu_interval(since, now));
  }
  return 0;
}

SEC("iter/task")
int cpu_sample(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  struct thread *thread;
  struct cpu_thread *cpu;
  __u64 now, since;
  __u32 on;

  if (!task) return 0;
  thread = thread_of(task);
  if (!thread || thread->left) return 0;
  cpu = cpu_thread_of(task, task->on_cpu);
  if (!cpu) return 0;
  on = cpu->on;
  since = cpu->since_ns;
  now = bpf_ktime_get_ns();
  /* Failing means a switch closed the interval just now, and counted it. */
  if (now > since && __sync_val_compare_and_swap(&cpu->since_ns, since, now) == since)
    __sync_fetch_and_add(on ? &cpu->on_ns : &cpu->off_ns, cpu_interval(since, now));
  cpu_hand_over(cpu);
  return 0;
}
