/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: telling the monitor at once of a process of the tree in a network namespace that the
 * monitor does not know. Owns not: which those are, and what is done about it
 * (src/services/namespaces.ts).
 */
#include "target.h"

/* By inode number. Least recently used: an entry that had to go costs a word too many. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __type(value, __u32);
} namespaces_known SEC(".maps");

/* Numbers of threads, as the monitor's pid namespace has them. */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} namespaces_entered SEC(".maps");

static __always_inline int namespaces_look(struct task_struct *task) {
  struct thread *thread = thread_of(task);
  __u32 inode, *entered;

  if (!thread) return 0;
  inode = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
  if (!inode || bpf_map_lookup_elem(&namespaces_known, &inode)) return 0;
  entered = bpf_ringbuf_reserve(&namespaces_entered, sizeof(*entered), 0);
  if (!entered) return 0; /* the monitor also looks each tick: late, not lost */
  *entered = thread->tid;
  bpf_ringbuf_submit(entered, BPF_RB_FORCE_WAKEUP);
  return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(namespaces_newtask, struct task_struct *task, __u64 clone_flags) {
  return clone_flags & CLONE_NEWNET ? namespaces_look(task) : 0;
}

/*
 * unshare(2) and setns(2) have no hook but the exit of every system call, for every task. Who has
 * called them mostly executes something next: ip netns exec, nsenter, container runtimes.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(namespaces_exec, struct task_struct *task) { return namespaces_look(task); }
