/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: one accessor per difference between kernels, with the commit or version that made it, so
 * that a program never asks which kernel it runs on.
 */
#ifndef TREESNOOP_DRIFT_H
#define TREESNOOP_DRIFT_H

#include "kernel.h"

/* task_struct.state became __state in 5.14 (2f064a59a11f); the old name lives in a flavour. */
struct task_struct___before_5_14 {
  long state;
} __attribute__((preserve_access_index));

static __always_inline unsigned int task_state(struct task_struct *task) {
  if (bpf_core_field_exists(task->__state)) return task->__state; /* hot: no helper call */
  return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
}

/* Nanoseconds a thread has waited on run queues; absent without CONFIG_SCHED_INFO. */
static __always_inline __u64 task_run_delay(struct task_struct *task) {
  if (!bpf_core_field_exists(task->sched_info.run_delay)) return 0;
  return BPF_CORE_READ(task, sched_info.run_delay);
}

/* kfree_skb's: the socket that was to receive the packet (its fourth argument since 6.11,
 * c53795d48ee8). It may be let go of by now, but its memory stays a socket's for as long. */
static __always_inline struct sock *drop_socket(const unsigned long long *ctx) {
  if (!bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->rx_sk)) return NULL;
  return (struct sock *)ctx[3];
}

/* The sixth argument: libbpf names it since 1.2. */
#ifndef PT_REGS_PARM6
#if defined(__TARGET_ARCH_x86)
#define PT_REGS_PARM6(x) (__PT_REGS_CAST(x)->r9)
#else
#define PT_REGS_PARM6(x) (__PT_REGS_CAST(x)->regs[5])
#endif
#endif

#endif
