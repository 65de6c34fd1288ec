/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: who is in the tree, from the first instruction to the last switch away, and the record of
 * each process (pid, name, start, end) that the monitor reads once a tick. Owns not: any
 * measurement.
 */
#include "tree.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Run once by the monitor, in its own context: /proc would tell what the namespace it was mounted
 * in sees. */
SEC("raw_tp")
int tree_introduce(void *ctx) {
  struct task_struct *monitor = bpf_get_current_task_btf();

  monitor_tgid = monitor->tgid;
  pidns_level = BPF_CORE_READ(monitor, thread_pid, level);
  return 0;
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

  leave_seat(task, NULL); /* of a task before it whose end was not reported */
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
  leave_seat(task, thread);
  thread->tid = pid_here(task);
  tell_life(LIFE_EXEC, thread->process, thread->tid);
  return 0;
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
  leave_seat(prev, thread);
  __sync_fetch_and_sub(&seat_at(as_number(prev))->members, 1);
  id = thread->process;
  process = bpf_map_lookup_elem(&processes, &id);
  if (!process) return 0;
  __sync_fetch_and_add(&process->cpu_ns, BPF_CORE_READ(prev, se.sum_exec_runtime));
  if (__sync_fetch_and_sub(&process->threads, 1) > 1) return 0;
  process->exit_code = BPF_CORE_READ(prev, exit_code);
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
  __u32 id, pid;

  /* A leader that has left stands for nothing by itself; each thread it left behind leads to it. */
  if (!task || thread_of(task) || task->exit_state) return 0;
  if ((task->flags & PF_KTHREAD) || (__u32)task->tgid == monitor_tgid) return 0;
  leader = task->group_leader;
  if (!leader) return 0;
  known = thread_of(leader);
  if (known) {
    id = known->process;
  } else {
    pid = pid_here(leader);
    parent = leader->real_parent;
    if (follow_children && parent && parent->group_leader) known = thread_of(parent->group_leader);
    if (!known && !host_mode && pid != root_pid) return 0;
    id = create(leader, known ? known->process : 0);
    if (!id) return 0;
    walk_found++;
    if (pid == root_pid) root_process = id;
  }
  process = bpf_map_lookup_elem(&processes, &id);
  if (process && join(task, id)) {
    __sync_fetch_and_add(&process->threads, 1);
    walk_found++;
  }
  return 0;
}
