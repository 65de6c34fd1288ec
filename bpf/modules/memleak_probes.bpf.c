/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: entry and return of the functions the user named, with the heap of the process at that
 * moment and the arguments the user declared.
 *
 * Entry and return are matched by stack pointer: that holds through recursion and finds the frames
 * which longjmp or an exception left without returning.
 */
#include "drift.h"
#include "events.h"
#include "heap_call.h"
#include "leak_frames.h"
#include "sites.h"

#define LEAK_FRAMES 64   /* the kernel follows no more returns per thread: MAX_URETPROBE_DEPTH */
#define LEAK_ARGUMENTS 8 /* six in registers, two on the stack */
#define LEAK_TEXT 128

enum leak_action { LEAK_ENTRY = 0, LEAK_RETURN = 1 };

struct leak_event {
  struct event event;
  __u32 tid;
  __u16 probe; /* index + 1 */
  __u8 action;
  __u64 size, times;
  __s64 size_change, times_change;
  __u64 duration_ns;
  __u64 result;
  __u64 arguments[LEAK_ARGUMENTS];
};

struct leak_text_event {
  struct leak_event leak;
  char text[LEAK_ARGUMENTS][LEAK_TEXT];
};

EVENT_RECORD(leak_event);
EVENT_RECORD(leak_text_event);

PROBE_SITES(leak_sites); /* value: index of the probe + 1 */

const volatile __u32 leak_stream = 0;
__u32 leak_text_bytes[LEAK_ARGUMENTS] =
    {}; /* how much text an argument points to; 0: a plain value */
__u8 leak_has_text = 0;
__u8 leak_stack_arguments = 0; /* 1: more parameters are declared than registers hold */
__u64 leak_unmatched = 0; /* entries deeper than LEAK_FRAMES, returns whose entry was not seen */

static __always_inline void leak_header(struct leak_event *event, struct thread *thread,
                                        __u32 probe, __u8 action, struct leak_frame *now) {
  event->tid = thread->tid;
  event->probe = probe;
  event->action = action;
  event->size = now->size;
  event->times = now->times;
  event->size_change = 0;
  event->times_change = 0;
  event->duration_ns = 0;
  event->result = 0;
}

static __always_inline bool leak_now(struct leak_frame *now) {
  struct heap_thread *heap = heap_thread();
  struct heap_space *space = heap ? heap_space_by_id(heap->space) : NULL;

  if (!space) return false;
  now->ns = bpf_ktime_get_ns();
  now->size = space->size;
  now->times = space->times;
  return true;
}

static __always_inline void leak_arguments(struct leak_event *event, struct pt_regs *ctx) {
  event->arguments[0] = PT_REGS_PARM1(ctx);
  event->arguments[1] = PT_REGS_PARM2(ctx);
  event->arguments[2] = PT_REGS_PARM3(ctx);
  event->arguments[3] = PT_REGS_PARM4(ctx);
  event->arguments[4] = PT_REGS_PARM5(ctx);
  event->arguments[5] = PT_REGS_PARM6(ctx);
  event->arguments[6] = 0;
  event->arguments[7] = 0;
#if defined(__TARGET_ARCH_x86) /* the next ones lie behind the return address (System V ABI) */
  if (leak_stack_arguments)
    bpf_probe_read_user(&event->arguments[6], 2 * sizeof(__u64), (void *)(PT_REGS_SP(ctx) + 8));
#endif
}

/* The helper fails for text that ends where the mapping does, without a NUL. */
static __always_inline void leak_text(char *to, __u32 bytes, __u64 from) {
  to[0] = 0;
  if (!bytes || bytes >= LEAK_TEXT) return;
  /* +1: the helper's length counts the NUL, the user's does not */
  if (bpf_probe_read_user_str(to, bytes + 1, (void *)from) >= 0) return;
  to[0] = 0;
  if (!bpf_probe_read_user(to, bytes, (void *)from)) to[bytes] = 0;
}

SEC("uprobe")
int leak_entry(struct pt_regs *ctx) {
  struct leak_frame now = {.sp = PT_REGS_SP(ctx)};
  struct thread *thread = current_thread();
  struct leak_text_event *text;
  struct leak_event *event;
  struct leak_thread *own;
  __u32 i, depth, probe = probe_site(&leak_sites, ctx);

  if (!thread || !probe || !leak_now(&now)) return 0;
  now.probe = probe;
  own = leak_thread();
  if (own) {
    leak_unwind(own, now.sp, probe);
    depth = own->depth;
    barrier_var(depth); /* or clang checks one register and indexes with another */
    if (depth < LEAK_FRAMES) {
      own->frames[depth] = now;
      own->depth = depth + 1;
    } else {
      __sync_fetch_and_add(&leak_unmatched, 1);
    }
  }
  if (!leak_has_text) {
    event = event_reserve(leak_stream, thread->process, now.ns, sizeof(*event));
    if (!event) return 0;
    leak_header(event, thread, probe, LEAK_ENTRY, &now);
    leak_arguments(event, ctx);
    event_submit(event, sizeof(*event));
    return 0;
  }
  text = event_reserve(leak_stream, thread->process, now.ns, sizeof(*text));
  if (!text) return 0;
  leak_header(&text->leak, thread, probe, LEAK_ENTRY, &now);
  leak_arguments(&text->leak, ctx);
  for (i = 0; i < LEAK_ARGUMENTS; i++)
    leak_text(text->text[i], leak_text_bytes[i], text->leak.arguments[i]);
  event_submit(text, sizeof(*text));
  return 0;
}

SEC("uretprobe")
int leak_return(struct pt_regs *ctx) {
  struct leak_frame now = {.sp = PT_REGS_SP(ctx) - sizeof(void *)}, *entry;
  struct thread *thread = current_thread();
  struct leak_event *event;
  struct leak_thread *own;
  __u32 top;

  if (!thread) return 0;
  heap_settle(ctx);
  if (!leak_now(&now)) return 0;
  own = leak_thread();
  if (!own) return 0;
  leak_unwind(own, now.sp, 0);
  top = own->depth - 1;
  barrier_var(top);
  if (top >= LEAK_FRAMES || own->frames[top].sp != now.sp) {
    __sync_fetch_and_add(&leak_unmatched, 1);
    return 0;
  }
  entry = &own->frames[top];
  own->depth = top;
  event = event_reserve(leak_stream, thread->process, now.ns, sizeof(*event));
  if (!event) return 0;
  leak_header(event, thread, entry->probe, LEAK_RETURN, &now);
  event->result = PT_REGS_RC(ctx);
  event->size_change = now.size - entry->size;
  event->times_change = now.times - entry->times;
  event->duration_ns = now.ns - entry->ns;
  event_submit(event, sizeof(*event));
  return 0;
}

/* A child forked inside a probed function returns from it as well. */
SEC("tp_btf/task_newtask")
int BPF_PROG(leak_newtask, struct task_struct *task, __u64 clone_flags) {
  struct leak_thread *parent;

  if ((clone_flags & CLONE_THREAD) || !thread_of(task)) return 0;
  parent = bpf_task_storage_get(&leak_threads, bpf_get_current_task_btf(), NULL, 0);
  if (parent) bpf_task_storage_get(&leak_threads, task, parent, BPF_LOCAL_STORAGE_GET_F_CREATE);
  return 0;
}
