// SPDX-License-Identifier: MIT
// Owns: how a heap workload counts itself and waits for its observer. Does not own: any allocation; nothing here may
// touch the heap, or the count would disturb what is counted.
//
// The count is of *requested* bytes: what the program asked for, not what the allocator rounded it to. Only the
// caller knows that number, which is why the workload and not malloc_usable_size is the witness.
#ifndef HEAP_COUNT_H
#define HEAP_COUNT_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_long live_bytes;
static atomic_long live_blocks;

static inline void counted(size_t size) {
  atomic_fetch_add(&live_bytes, (long)size);
  atomic_fetch_add(&live_blocks, 1);
}

static inline void uncounted(size_t size) {
  atomic_fetch_sub(&live_bytes, (long)size);
  atomic_fetch_sub(&live_blocks, 1);
}

// One line in one write: processes share the pipe, and lines below PIPE_BUF are never torn.
static inline void say(const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (length > 0 && write(1, line, (size_t)length) != length) _exit(90);
}

static inline void die(const char *what) {
  char line[256];
  int length = snprintf(line, sizeof line, "workload: %s: %s\n", what, strerror(errno));
  if (length > 0 && write(2, line, (size_t)length) != length) _exit(91);
  _exit(92);
}

// The observer releases one process with SIGUSR1. Blocked from the start, so one sent early stays pending.
static inline void prepare_holds(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) die("sigprocmask");
}

static inline void report(const char *event, const char *phase) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  say("%s %s %d %ld %ld %lld.%06ld\n", event, phase, (int)getpid(), atomic_load(&live_bytes),
      atomic_load(&live_blocks), (long long)now.tv_sec, now.tv_nsec / 1000);
}

// Says how much is live and stands still until the observer has seen it.
static inline void hold(const char *phase) {
  report("hold", phase);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  int signal_number;
  if (sigwait(&set, &signal_number) != 0) die("sigwait");
}

// The last word of a process: what its END row must carry.
static inline void leave(const char *phase, int status) {
  report("end", phase);
  _exit(status);
}

// The optimiser may delete an allocation it can prove unused (gcc does so from -O1); this makes every pointer used.
static inline void *opaque(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

static inline size_t opaque_size(size_t size) {
  __asm__ volatile("" : "+r"(size) : : "memory");
  return size;
}

static inline uint32_t next_random(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

#endif
