/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: who is in the tree, from the first instruction to the last switch away, and the record of
 * each process (pid, name, start, end) that the monitor reads once a tick. Owns not: any
 * measurement.
 */
#include "drift.h"
#include "events.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct process {
  __u64 start_ns; /* CLOCK_MONOTONIC; when first seen for a process older than the run */
  __u64 end_ns;   /* 0 while a thread is left */
  __u64 cpu_ns;   /* at the end: what the kernel's scheduler accounted to it in its life */
  __u32 pid;      /* tgid in the monitor's pid namespace; 0 where that namespace cannot see it */
  __u32 parent;   /* serial number; 0 for a root */
  __u32 threads;  /* alive now */
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

enum life_kind { LIFE_EXEC = 1, LIFE_END = 2, LIFE_START = 3 };

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

static __always_inline __u32 pid_here(struct task_struct *task) {
  struct pid *pid = BPF_CORE_READ(task, thread_pid);
  struct upid numbers;

  if (!pid || BPF_CORE_READ(pid, level) < pidns_level) return 0;
  if (bpf_core_read(&numbers, sizeof(numbers), &pid->numbers[pidns_level])) return 0;
  return numbers.nr;
}

/* Run once by the monitor, in its own context: /proc would tell what the namespace it was mounted
 * in sees. */
SEC("raw_tp")
int tree_introduce(void *ctx) {
  struct task_struct *monitor = bpf_get_current_task_btf();

  monitor_tgid = monitor->tgid;
  pidns_level = BPF_CORE_READ(monitor, thread_pid, level);
  return 0;
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
  event = event_reserve(IDENTITY_STREAM, id, sizeof(*event));
  if (!event) return;
  event->pid = process->pid;
  __builtin_memcpy(event->comm, process->comm, TASK_COMM_LEN);
  event_submit(event);
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
  return thread;
}

static __always_inline __u32 create(struct task_struct *leader, __u32 parent) {
  struct process process = {.start_ns = bpf_ktime_get_ns(), .parent = parent};
  __u32 id = __sync_fetch_and_add(&last_process, 1) + 1;

  process.pid = pid_here(leader);
  /* A leader that has left while its threads run on keeps its entry, not its place in the count. */
  process.threads = BPF_CORE_READ(leader, exit_state) ? 0 : 1;
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
  tell_life(LIFE_START, id, process.pid);
  return id;
}

/*
 * task_newtask rather than sched_process_fork: it also sees io_uring's worker threads (they do not
 * pass kernel_clone) and carries clone_flags, which tell a thread from a process without guessing.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(tree_newtask, struct task_struct *task, __u64 clone_flags) {
  struct task_struct *parent_task = bpf_get_current_task_btf();
  struct thread *parent = thread_of(parent_task);
  struct process *process;
  __u32 id;

  if (!parent) {
    if (!host_mode || (BPF_CORE_READ(task, flags) & PF_KTHREAD)) return 0;
    if ((__u32)BPF_CORE_READ(parent_task, tgid) == monitor_tgid) return 0;
    if (!(clone_flags & CLONE_THREAD)) create(task, 0);
    return 0;
  }
  if (!(clone_flags & CLONE_THREAD)) {
    if (follow_children) create(task, parent->process);
    return 0;
  }
  id = parent->process;
  process = bpf_map_lookup_elem(&processes, &id);
  if (process && join(task, id)) __sync_fetch_and_add(&process->threads, 1);
  return 0;
}

/* The name of a process is its leader's. exec renames too, and by then the caller leads
 * (de_thread). */
SEC("tp_btf/task_rename")
int BPF_PROG(tree_rename, struct task_struct *task, const char *comm) {
  struct thread *thread = thread_of(task);
  struct process *process;
  __u32 id;

  if (!thread || BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid)) return 0;
  id = thread->process;
  process = bpf_map_lookup_elem(&processes, &id);
  if (!process) return 0;
  bpf_probe_read_kernel_str(process->comm, TASK_COMM_LEN, comm);
  tell_identity(id, process);
  return 0;
}

/* exec from a thread that does not lead gives it the leader's tid. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(tree_exec, struct task_struct *task) {
  struct thread *thread = thread_of(task);

  if (!thread) return 0;
  thread->tid = pid_here(task);
  tell_life(LIFE_EXEC, thread->process, thread->tid);
  return 0;
}

/* Of threads that are gone the signal struct keeps the sum; a process reaped already has none. */
static __always_inline __u64 process_cpu_ns(struct task_struct *last) {
  struct signal_struct *signal = BPF_CORE_READ(last, signal);

  if (!signal) return BPF_CORE_READ(last, se.sum_exec_runtime);
  return BPF_CORE_READ(signal, sum_sched_runtime) +
         BPF_CORE_READ(last, group_leader, se.sum_exec_runtime);
}

/*
 * A process ends with the last switch away from its last thread, not at sched_process_exit:
 * since 6.16 that tracepoint fires before the address space is torn down, and the teardown is time
 * the process used (getrusage counts it). Attached after every module's own programs, so that their
 * last figures are in.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(tree_switch, bool preempt, struct task_struct *prev) {
  struct process *process;
  struct thread *thread;
  __u32 id;

  if (task_state(prev) != TASK_DEAD) return 0;
  thread = thread_of(prev);
  /* Twice attached for a moment while modules are switched on: count once. */
  if (!thread || __sync_lock_test_and_set(&thread->left, 1)) return 0;
  id = thread->process;
  process = bpf_map_lookup_elem(&processes, &id);
  if (!process) return 0;
  if (__sync_fetch_and_sub(&process->threads, 1) > 1) return 0;
  process->exit_code = BPF_CORE_READ(prev, exit_code);
  process->cpu_ns = process_cpu_ns(prev);
  process->end_ns = bpf_ktime_get_ns();
  tell_life(LIFE_END, id, process->pid);
  return 0;
}

/*
 * Finds the tasks that lived before the hooks. The monitor repeats the walk until one finds nothing
 * new: a child is recognised by its parent, and the parent may stand later in the list.
 */
SEC("iter/task")
int tree_walk(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  struct task_struct *leader, *parent;
  struct thread *known;
  struct process *process;
  __u32 id, tgid, pid;

  if (!task || thread_of(task)) return 0;
  if (task->flags & PF_KTHREAD) return 0;
  tgid = task->tgid;
  if (tgid == monitor_tgid) return 0;
  leader = task->group_leader;
  if (!leader) return 0;
  known = thread_of(leader);
  if (known) {
    id = known->process;
    process = bpf_map_lookup_elem(&processes, &id);
    if (process && !task->exit_state && join(task, id)) {
      __sync_fetch_and_add(&process->threads, 1);
      walk_found++;
    }
    return 0;
  }
  if (task->pid != tgid) return 0;
  pid = pid_here(task);
  parent = task->real_parent;
  known = NULL;
  if (follow_children && parent) {
    leader = parent->group_leader;
    if (leader) known = thread_of(leader);
  }
  if (!known && !host_mode && pid != root_pid) return 0;
  if (task->exit_state) return 0;
  id = create(task, known ? known->process : 0);
  if (!id) return 0;
  walk_found++;
  if (pid == root_pid) root_process = id;
  return 0;
}
