// flags: -shared -fPIC -pthread
// SPDX-License-Identifier: MIT
// Owns: an allocator put in front of libc's (LD_PRELOAD) that keeps its own exact account of a program that cannot count
// itself, such as an interpreter. It is two things in one test: the witness, and a nested allocator, for every
// block passes through two functions called malloc and must be counted once.
// Does not own: any heap of its own; the account lives in static memory.
#define _GNU_SOURCE
#include <pthread.h>

#include "heap_count.h"

// glibc's own entry points: asking dlsym for the next malloc would itself allocate.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define SLOTS (1u << 21)
static struct {
  uintptr_t pointer;  // 0: never used, 1: given back
  size_t size;
} account[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t slot_of(uintptr_t pointer) { return (uint32_t)((pointer >> 4) * 2654435761u) % SLOTS; }

static void *enter(void *pointer, size_t size) {
  if (pointer == NULL) return NULL;
  pthread_mutex_lock(&lock);
  uint32_t slot = slot_of((uintptr_t)pointer);
  uint32_t tried = 0;
  while (account[slot].pointer > 1) {
    if (++tried == SLOTS) die("account full");
    slot = (slot + 1) % SLOTS;
  }
  account[slot].pointer = (uintptr_t)pointer;
  account[slot].size = size;
  pthread_mutex_unlock(&lock);
  counted(size);
  return pointer;
}

// Answers whether the block was known: ld.so's first blocks come from its own allocator, before this library.
static int strike(void *pointer, size_t *size) {
  pthread_mutex_lock(&lock);
  uint32_t slot = slot_of((uintptr_t)pointer);
  while (account[slot].pointer != 0 && account[slot].pointer != (uintptr_t)pointer) slot = (slot + 1) % SLOTS;
  int found = account[slot].pointer == (uintptr_t)pointer;
  if (found) {
    *size = account[slot].size;
    account[slot].pointer = 1;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

void *malloc(size_t size) { return enter(__libc_malloc(size), size); }
void *calloc(size_t count, size_t size) { return enter(__libc_calloc(count, size), count * size); }
void *memalign(size_t alignment, size_t size) { return enter(__libc_memalign(alignment, size), size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *pointer = memalign(alignment, size);
  if (pointer == NULL) return ENOMEM;
  *result = pointer;
  return 0;
}

void free(void *pointer) {
  size_t size;
  if (pointer != NULL && strike(pointer, &size)) uncounted(size);
  __libc_free(pointer);
}

void *realloc(void *pointer, size_t size) {
  size_t old;
  int known = pointer != NULL && strike(pointer, &old);
  void *result = __libc_realloc(pointer, size);
  if (result == NULL && pointer != NULL && size != 0) {  // refused: the old block is still there
    if (known) {
      enter(pointer, old);
      uncounted(old);
    }
    return NULL;
  }
  if (known) uncounted(old);
  return enter(result, size);
}

// Called by the program under test: states the account and stands still, allocating nothing in between.
int heap_shim_hold(const char *phase) {
  prepare_holds();
  hold(phase);
  return 0;
}
