/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: per thread, the probed functions it is inside of, told apart by stack pointer: that holds
 * through recursion and finds the frames which longjmp or an exception left without returning.
 */
#ifndef TREESNOOP_LEAK_FRAMES_H
#define TREESNOOP_LEAK_FRAMES_H

#include "heap_thread.h"

#define LEAK_FRAMES 64 /* the kernel follows no more returns per thread: MAX_URETPROBE_DEPTH */

struct leak_frame {
  __u64 sp, ns, size, times;
  __u32 probe;
};

struct leak_thread {
  struct leak_frame frames[LEAK_FRAMES];
  __u32 depth;
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct leak_thread);
} leak_threads SEC(".maps");

static __always_inline struct leak_thread *leak_thread(void) {
  return bpf_task_storage_get(&leak_threads, bpf_get_current_task_btf(), NULL,
                              BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/*
 * Frames below the stack pointer were left without returning. So was one at the same place and of
 * the same probe; of another probe it is a tail call, and both return.
 */
static __always_inline void leak_unwind(struct leak_thread *own, __u64 sp, __u32 probe) {
  struct leak_frame *frame;
  __u32 i, top;

  for (i = 0; i < LEAK_FRAMES; i++) {
    top = own->depth - 1;
    if (top >= LEAK_FRAMES) return;
    frame = &own->frames[top];
    if (frame->sp > sp || sp - frame->sp > HEAP_STACK_SPAN) return;
    if (frame->sp == sp && frame->probe != probe) return;
    own->depth = top;
  }
}

#endif
