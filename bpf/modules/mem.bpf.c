/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the allocator's functions, observed: what was asked for at entry, what came of it at
 * return. Owns not: the ledger (heap.h), address spaces (heap_spaces.bpf.c), where the probes sit
 * (monitor).
 */
#include "heap_call.h"
#include "sites.h"

/* The one call whose outcome counts: the outermost. realloc(NULL) runs through malloc, an
 * interposed malloc through libc's, operator new through malloc; each is one allocation. */
static __always_inline void heap_call(struct pt_regs *ctx, __u32 call, __u64 size, __u64 old,
                                      __u64 result) {
  struct heap_thread *own = heap_thread();
  __u64 sp = PT_REGS_SP(ctx), held = 0;

  if (!own || heap_is_nested(own, sp)) return;
  /* The call before never came back: longjmp, or a return too deep for the kernel to follow. */
  if (own->call) __sync_fetch_and_add(&heap_lost, 1);
  own->call = call;
  own->sp = sp;
  own->size = size;
  own->result = result;
  own->old = 0;
  /* The old block leaves the ledger now: once realloc has freed it inside, another thread may be
   * given its address before this one returns. */
  if (old && heap_freed(own->space, old, &held)) {
    own->old = old;
    own->old_size = held;
  }
}

/* Which function an entry probe stands in. As in services/heap/functions.ts. */
enum heap_function {
  HEAP_MALLOC = 1,
  HEAP_CALLOC,
  HEAP_MEMALIGN,
  HEAP_FUNCTION_POSIX_MEMALIGN,
  HEAP_REALLOC,
  HEAP_REALLOCARRAY,
  HEAP_FREE,
};

PROBE_SITES(heap_sites);

static __always_inline void heap_free(__u64 address) {
  struct heap_thread *own = address ? heap_thread() : NULL;
  __u64 size;

  if (own) heap_freed(own->space, address, &size);
}

SEC("uprobe")
int mem_entry(struct pt_regs *ctx) {
  __u64 a = PT_REGS_PARM1(ctx), b = PT_REGS_PARM2(ctx), c = PT_REGS_PARM3(ctx);

  switch (probe_site(&heap_sites, ctx)) {
    case HEAP_MALLOC:
      heap_call(ctx, HEAP_ALLOCATE, a, 0, 0);
      break;
    case HEAP_CALLOC:
      heap_call(ctx, HEAP_ALLOCATE, a * b, 0, 0);
      break;
    case HEAP_MEMALIGN:
      heap_call(ctx, HEAP_ALLOCATE, b, 0, 0);
      break;
    case HEAP_FUNCTION_POSIX_MEMALIGN:
      heap_call(ctx, HEAP_POSIX_MEMALIGN, c, 0, a);
      break;
    case HEAP_REALLOC:
      heap_call(ctx, HEAP_REALLOCATE, b, a, 0);
      break;
    case HEAP_REALLOCARRAY:
      heap_call(ctx, HEAP_REALLOCATE, b * c, a, 0);
      break;
    case HEAP_FREE:
      heap_free(a);
      break;
  }
  return 0;
}

SEC("uretprobe")
int mem_return(struct pt_regs *ctx) {
  heap_settle(ctx);
  return 0;
}
