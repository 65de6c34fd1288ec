/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: system calls of the tree, as one record per entry and per return or as totals per process
 * and call.
 */
#include "events.h"

#define SYSCALL_MAX 1024 /* above every table there is: x86-64 ends below 480, x32 below 550 */
#define SYSCALL_BUCKETS 160

enum syscall_action { SYSCALL_ENTRY = 0, SYSCALL_RETURN = 1 };

struct syscall_event {
  struct event event;
  __u32 tid;
  __u16 nr;
  __u8 action;
  __u8 compat; /* made through the 32-bit table, whose numbers mean other calls */
  __s64 value; /* entry: first argument; return: the result */
  __u64 duration_ns;
};

EVENT_RECORD(syscall_event);

/* A return is reported only after its entry: a child's return from fork, and the call a thread was
 * in when it was found, have none. */
struct syscall_thread {
  __u64 entry_ns;
  __u32 nr;
  __u32 pending;
};

struct syscall_key {
  __u32 process;
  __u32 nr;
};

/*
 * buckets: log-linear, 4 to a power of two, so a percentile is within 12.5 % of the truth:
 * 0-3 ns each their own, then (exponent - 1) * 4 + the two bits below the leading one, up to 2^41
 * ns.
 */
struct syscall_total {
  __u64 calls, errors, total_ns;
  __u64 max_ns; /* of the tick below */
  __u32 tick;
  __u32 unused;
  __u32 buckets[SYSCALL_BUCKETS];
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct syscall_thread);
} syscall_threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, struct syscall_key);
  __type(value, struct syscall_total);
} syscall_totals SEC(".maps");

const volatile __u32 syscall_stream = 0;
__u8 syscall_summary = 0;
__u64 syscall_wanted[SYSCALL_MAX / 64] = {}; /* a bit per number, set by the monitor */
__u32 syscall_tick = 1;                      /* the monitor counts it up before each reading */
__u64 syscall_lost = 0;                      /* calls that found no room in syscall_totals */

static __always_inline bool syscall_is_wanted(__u32 nr) {
  if (nr >= SYSCALL_MAX) return false;
  return syscall_wanted[(nr / 64) & (SYSCALL_MAX / 64 - 1)] >> (nr % 64) & 1;
}

static __always_inline bool syscall_is_compat(void) {
#if defined(__TARGET_ARCH_x86)
  struct task_struct *task = bpf_get_current_task_btf();
  /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
  return task->thread_info.status & 2;
#else
  return false;
#endif
}

static __always_inline void syscall_emit(struct thread *thread, __u32 nr, __u8 action, __s64 value,
                                         __u64 ns, __u64 duration_ns) {
  struct syscall_event *event = event_reserve(syscall_stream, thread->process, ns, sizeof(*event));

  if (!event) return;
  event->tid = thread->tid;
  event->nr = nr;
  event->action = action;
  event->compat = syscall_is_compat();
  event->value = value;
  event->duration_ns = duration_ns;
  event_submit(event, sizeof(*event));
}

static __always_inline __u32 syscall_bucket(__u64 ns) {
  __u32 exponent = 0, bucket;

  if (ns < 4) return ns;
  if (ns >> 32) exponent = 32;
  if (ns >> (exponent + 16)) exponent += 16;
  if (ns >> (exponent + 8)) exponent += 8;
  if (ns >> (exponent + 4)) exponent += 4;
  if (ns >> (exponent + 2)) exponent += 2;
  if (ns >> (exponent + 1)) exponent += 1;
  bucket = (exponent - 1) * 4 + ((ns >> (exponent - 2)) & 3);
  return bucket < SYSCALL_BUCKETS ? bucket : SYSCALL_BUCKETS - 1;
}

static __always_inline void syscall_add(__u32 process, __u32 nr, __s64 result, __u64 ns) {
  static const struct syscall_total zero;
  struct syscall_key key = {.process = process, .nr = nr};
  struct syscall_total *total = bpf_map_lookup_elem(&syscall_totals, &key);
  __u32 bucket;

  if (!total) {
    bpf_map_update_elem(&syscall_totals, &key, &zero, BPF_NOEXIST);
    total = bpf_map_lookup_elem(&syscall_totals, &key);
    if (!total) {
      __sync_fetch_and_add(&syscall_lost, 1);
      return;
    }
  }
  bucket = syscall_bucket(ns);
  if (bucket >= SYSCALL_BUCKETS) return; /* cannot be: said to the verifier */
  __sync_fetch_and_add(&total->calls, 1);
  if (result < 0 && result >= -4095) __sync_fetch_and_add(&total->errors, 1);
  __sync_fetch_and_add(&total->total_ns, ns);
  __sync_fetch_and_add(&total->buckets[bucket], 1);
  if (total->tick != syscall_tick) {
    total->tick = syscall_tick;
    total->max_ns = 0;
  }
  if (ns > total->max_ns) total->max_ns = ns; /* two threads may race by one sample */
}

SEC("tp_btf/sys_enter")
int BPF_PROG(syscall_enter, struct pt_regs *regs, long nr) {
  struct thread *thread = current_thread();
  struct syscall_thread *own;
  __u64 now;

  if (!thread || !syscall_is_wanted(nr)) return 0;
  now = bpf_ktime_get_ns();
  own = bpf_task_storage_get(&syscall_threads, bpf_get_current_task_btf(), NULL,
                             BPF_LOCAL_STORAGE_GET_F_CREATE);
  if (own) {
    own->entry_ns = now;
    own->nr = nr;
    own->pending = 1;
  }
  if (!syscall_summary)
    syscall_emit(thread, nr, SYSCALL_ENTRY, PT_REGS_PARM1_SYSCALL(regs), now, 0);
  return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(syscall_return, struct pt_regs *regs, long result) {
  struct thread *thread = current_thread();
  struct syscall_thread *own;
  __u64 now;

  if (!thread) return 0;
  own = bpf_task_storage_get(&syscall_threads, bpf_get_current_task_btf(), NULL, 0);
  if (!own || !own->pending) return 0;
  own->pending = 0;
  now = bpf_ktime_get_ns();
  if (syscall_summary)
    syscall_add(thread->process, own->nr, result, now - own->entry_ns);
  else
    syscall_emit(thread, own->nr, SYSCALL_RETURN, result, now, now - own->entry_ns);
  return 0;
}
