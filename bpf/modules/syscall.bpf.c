/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: system calls of the tree, as one record per entry and per return or as totals per process
 * and call.
 */
#include "events.h"
#include "histogram.h"

#define SYSCALL_MAX 1024 /* above every table there is: x86-64 ends below 480, x32 below 550 */

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

struct syscall_total {
  __u64 calls, errors, total_ns;
  struct histogram durations;
};

/* By process << 16 | number of the call. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u64);
  __type(value, struct syscall_total);
} syscall_totals SEC(".maps");

/*
 * In front of it, a table without collisions that is found without calling a helper: a key whose
 * cell is taken goes to syscall_totals. A key may come to have a total in both: they add up.
 */
#define SYSCALL_CELL_BITS 9

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << SYSCALL_CELL_BITS);
  __type(key, __u32);
  __type(value, __u64);
} syscall_cell_keys SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << SYSCALL_CELL_BITS);
  __type(key, __u32);
  __type(value, struct syscall_total);
} syscall_cell_totals SEC(".maps");

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
  /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
  return bpf_get_current_task_btf()->thread_info.status & 2;
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

/* The cell's total; NULL when the cell is another key's. */
static __always_inline struct syscall_total *syscall_cell(__u64 key) {
  __u32 cell = key * 0x9e3779b97f4a7c15ULL >> (64 - SYSCALL_CELL_BITS);
  __u64 *owner = bpf_map_lookup_elem(&syscall_cell_keys, &cell);

  if (!owner) return NULL;
  if (*owner != key && __sync_val_compare_and_swap(owner, 0, key)) return NULL;
  return bpf_map_lookup_elem(&syscall_cell_totals, &cell);
}

static __always_inline struct syscall_total *syscall_total(__u64 key) {
  static const struct syscall_total zero;
  struct syscall_total *total = syscall_cell(key);

  if (total) return total;
  total = bpf_map_lookup_elem(&syscall_totals, &key);
  if (total) return total;
  bpf_map_update_elem(&syscall_totals, &key, &zero, BPF_NOEXIST);
  return bpf_map_lookup_elem(&syscall_totals, &key);
}

static __always_inline void syscall_add(__u32 process, __u32 nr, __s64 result, __u64 ns) {
  struct syscall_total *total = syscall_total((__u64)process << 16 | nr);

  if (!total) {
    __sync_fetch_and_add(&syscall_lost, 1);
    return;
  }
  __sync_fetch_and_add(&total->calls, 1);
  if (result < 0 && result >= -4095) __sync_fetch_and_add(&total->errors, 1);
  __sync_fetch_and_add(&total->total_ns, ns);
  histogram_add(&total->durations, ns, syscall_tick);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(syscall_enter, struct pt_regs *regs, long nr) {
  struct thread *thread;
  __u64 now;

  if (!syscall_is_wanted(nr)) return 0;
  thread = current_thread_quick(true);
  if (!thread) return 0;
  now = bpf_ktime_get_ns();
  thread->call_nr = nr;
  thread->call_ns = now;
  if (!syscall_summary)
    syscall_emit(thread, nr, SYSCALL_ENTRY, PT_REGS_PARM1_SYSCALL(regs), now, 0);
  return 0;
}

/* A return is reported only after its entry: a child's return from fork, and the call a thread was
 * in when it was found, have none. */
SEC("tp_btf/sys_exit")
int BPF_PROG(syscall_return, struct pt_regs *regs, long result) {
  struct thread *thread = current_thread_quick(false);
  __u64 now, took;

  if (!thread || !thread->call_ns) return 0;
  now = bpf_ktime_get_ns();
  took = now - thread->call_ns;
  thread->call_ns = 0;
  if (syscall_summary)
    syscall_add(thread->process, thread->call_nr, result, took);
  else
    syscall_emit(thread, thread->call_nr, SYSCALL_RETURN, result, now, took);
  return 0;
}
