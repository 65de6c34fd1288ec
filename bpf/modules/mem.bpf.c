/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the allocator's functions, observed: what was asked for at entry, what came of it at return.
 * Owns not: the ledger (heap.h), address spaces (heap_spaces.bpf.c), where the probes sit (monitor).
 */
#include "heap_thread.h"

enum heap_call { HEAP_ALLOCATE = 1, HEAP_POSIX_MEMALIGN = 2, HEAP_REALLOCATE = 3 };

/* The one call whose outcome counts: the outermost. realloc(NULL) runs through malloc, an interposed
 * malloc through libc's, operator new through malloc; each is one allocation. */
static __always_inline void heap_call(struct pt_regs *ctx, __u32 call, __u64 size, __u64 old,
                                      __u64 result) {
  struct heap_thread *own = heap_thread();
  __u64 sp = PT_REGS_SP(ctx), held = 0;

  if (!own || heap_is_nested(own, sp)) return;
  own->call = call;
  own->sp = sp;
  own->size = size;
  own->result = result;
  own->old = 0;
  /* The old block leaves the ledger now: once realloc has freed it inside, another thread may be given
   * its address before this one returns. */
  if (old && heap_freed(own->space, old, &held)) {
    own->old = old;
    own->old_size = held;
  }
}

SEC("uprobe")
int BPF_KPROBE(mem_malloc, __u64 size) {
  heap_call(ctx, HEAP_ALLOCATE, size, 0, 0);
  return 0;
}

SEC("uprobe")
int BPF_KPROBE(mem_calloc, __u64 count, __u64 size) {
  heap_call(ctx, HEAP_ALLOCATE, count * size, 0, 0);
  return 0;
}

SEC("uprobe")
int BPF_KPROBE(mem_memalign, __u64 alignment, __u64 size) {
  heap_call(ctx, HEAP_ALLOCATE, size, 0, 0);
  return 0;
}

SEC("uprobe")
int BPF_KPROBE(mem_posix_memalign, __u64 result, __u64 alignment, __u64 size) {
  heap_call(ctx, HEAP_POSIX_MEMALIGN, size, 0, result);
  return 0;
}

SEC("uprobe")
int BPF_KPROBE(mem_realloc, __u64 old, __u64 size) {
  heap_call(ctx, HEAP_REALLOCATE, size, old, 0);
  return 0;
}

SEC("uprobe")
int BPF_KPROBE(mem_reallocarray, __u64 old, __u64 count, __u64 size) {
  heap_call(ctx, HEAP_REALLOCATE, count * size, old, 0);
  return 0;
}

SEC("uprobe")
int BPF_KPROBE(mem_free, __u64 address) {
  struct heap_thread *own;
  __u64 size;

  if (!address) return 0;
  own = heap_thread();
  if (own) heap_freed(own->space, address, &size);
  return 0;
}

SEC("uretprobe")
int BPF_KRETPROBE(mem_return, __u64 value) {
  struct heap_thread *own = heap_thread();
  __u64 address = value;

  /* The return address is popped by now: one word above where the entry saw the stack. */
  if (!own || !own->call || own->sp + sizeof(void *) != PT_REGS_SP(ctx)) return 0;
  if (own->call == HEAP_POSIX_MEMALIGN &&
      (value || bpf_probe_read_user(&address, sizeof(address), (void *)own->result)))
    address = 0;
  if (address)
    heap_allocated(own->space, address, own->size);
  else if (own->old && own->size) /* failed: the old block stays; realloc(p, 0) has freed it */
    heap_allocated(own->space, own->old, own->old_size);
  own->call = 0;
  return 0;
}
