/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what comes of an allocator call when it returns.
 * Owns not: its entry (modules/mem.bpf.c).
 */
#ifndef TREESNOOP_HEAP_CALL_H
#define TREESNOOP_HEAP_CALL_H

#include "heap_thread.h"

enum heap_call { HEAP_ALLOCATE = 1, HEAP_POSIX_MEMALIGN = 2, HEAP_REALLOCATE = 3 };

/*
 * Settles the call the thread returns from, if it is one. A probe of the user's on the same
 * function may run before ours and show the heap: it settles first, and nothing is left for us.
 */
static __always_inline void heap_settle(struct pt_regs *ctx) {
  struct heap_thread *own = heap_thread();
  __u64 value = PT_REGS_RC(ctx), address = value;

  /* The return address is popped by now: one word above where the entry saw the stack. */
  if (!own || !own->call || own->sp + sizeof(void *) != PT_REGS_SP(ctx)) return;
  if (own->call == HEAP_POSIX_MEMALIGN &&
      (value || bpf_probe_read_user(&address, sizeof(address), (void *)own->result)))
    address = 0;
  if (address)
    heap_allocated(own->space, address, own->size);
  else if (own->old && own->size) /* failed: the old block stays; realloc(p, 0) has freed it */
    heap_allocated(own->space, own->old, own->old_size);
  own->call = 0;
}

#endif
