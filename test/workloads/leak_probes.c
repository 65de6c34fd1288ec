// flags: -pthread
// SPDX-License-Identifier: MIT
// Owns: functions to put probes on, and a statement of every call to them: who entered, what was live then, and what
// came back. Does not own: the probes.
//
// A call is stated *around* the function, by its caller: "call NAME TID BYTES BLOCKS" before it and
// "back NAME TID BYTES BLOCKS RETURN" after it. A call left by longjmp has no "back".
//
// Usage: leak_probes WHAT [hold] ; with hold it waits for SIGUSR1 first.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "heap_count.h"

#define NOINLINE __attribute__((noinline, noclone))

static void *grab(size_t size) {
  void *pointer = malloc(size);
  if (pointer == NULL) die("malloc");
  counted(size);
  return opaque(pointer);
}

static void release(void *pointer, size_t size) {
  uncounted(size);
  free(pointer);
}

static void call(const char *name) {
  say("call %s %d %ld %ld\n", name, (int)gettid(), atomic_load(&live_bytes), atomic_load(&live_blocks));
}

static void back(const char *name, long value) {
  say("back %s %d %ld %ld %ld\n", name, (int)gettid(), atomic_load(&live_bytes), atomic_load(&live_blocks), value);
}

// --- recursion: 60 deep, every level leaves 10 bytes more than the one below, and every third cleans up -------------

NOINLINE int recurse(int depth) {
  size_t size = (size_t)(depth + 1) * 10;
  void *block = grab(size);
  int sum = depth;
  if (depth > 0) {
    call("recurse");
    int below = recurse(depth - 1);
    back("recurse", below);
    sum += below;
  }
  if (depth % 3 == 0) release(block, size);
  return sum;
}

// --- a function no other file can see -----------------------------------------------------------------------------

static NOINLINE long static_leaf(long value) {
  grab(321);
  grab(123);
  __asm__ volatile("" : : : "memory");
  return value * -3;
}

// --- longjmp over three probed calls ------------------------------------------------------------------------------

static jmp_buf escape;

NOINLINE int jumper(int depth) {
  grab(50);
  if (depth < 0) longjmp(escape, 1);
  if (depth == 0) return 4;
  call("jumper");
  int below = jumper(depth == 1 ? -1 : depth - 1);
  back("jumper", below);
  return below + 1;
}

NOINLINE int survivor(int round) {
  grab((size_t)round);
  call("jumper");
  if (setjmp(escape) == 0) {
    int never = jumper(3);
    back("jumper", never);
  }
  call("jumper");
  int value = jumper(0);
  back("jumper", value);
  return round;
}

// --- threads ------------------------------------------------------------------------------------------------------

#define WORKERS 4
#define ROUNDS 50
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

// Allocates under a lock its caller holds as well, so that the process's heap at entry and return has one value. Every
// second call frees what the one before left.
NOINLINE long worker(int id, int round) {
  static __thread void *left;
  size_t size = 100 + (size_t)id;
  if (round % 2 == 0)
    left = grab(size);
  else
    release(left, size);
  return id * 1000L + round;
}

// Holds no lock and overlaps with itself in every thread; only pairs can be checked, not sizes.
NOINLINE int overlapping(int id) {
  struct timespec pause = {0, 1000000};
  nanosleep(&pause, NULL);
  return -id;
}

static void *worker_main(void *argument) {
  int id = (int)(intptr_t)argument;
  for (int round = 0; round < ROUNDS; round++) {
    pthread_mutex_lock(&turn);
    call("worker");
    long value = worker(id, round);
    back("worker", value);
    pthread_mutex_unlock(&turn);
    call("overlapping");
    int answer = overlapping(id);
    back("overlapping", answer);
  }
  return NULL;
}

// --- parameters ---------------------------------------------------------------------------------------------------

// Seven: on x86-64 the last one travels on the stack, on arm64 in a register.
NOINLINE int parameters(int n, char s[10], unsigned char c, long l, void *p, char *t, bool b) {
  __asm__ volatile("" : : "r"(s), "r"(p), "r"(t) : "memory");
  return n + c + (int)l + b;
}

NOINLINE unsigned widths(short a, unsigned short b, signed char c, unsigned int d, unsigned long e, long long f) {
  __asm__ volatile("" : : : "memory");  // or a call whose answer nobody reads is left out
  return (unsigned)(a + b + c) + d + (unsigned)e + (unsigned)f;
}

NOINLINE double real(float value) {
  __asm__ volatile("" : : : "memory");
  return (double)value * 2;
}

// The upper halves of a register are not the argument's: filled with rubbish here, as any caller may.
static void call_parameters(void) {
  static char text[] = "say \"hi\", then\nleave";
  static char formula[] = "=HYPERLINK(1)";
  static char unterminated[10] = {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9'};
  static char utf8[] = "gr\xc3\xbc\xc3\x9f" "e";
  volatile long rubbish = (long)0xdeadbeef00000000ul;
  int (*loose)(long, char *, long, long, void *, char *, long) =
      (int (*)(long, char *, long, long, void *, char *, long))(void (*)(void))parameters;
  loose(rubbish | 5, text, rubbish | 200, -1, (void *)0x1000, text, rubbish | 1);
  loose(rubbish | 0xfffffffb, unterminated, rubbish | 0xffff00, (long)0x8000000000000000ul, NULL, NULL, rubbish);
  loose(0x7fffffff, formula, 0, 0x7fffffffffffffffl, (void *)-1, formula, 1);
  loose((long)0xffffffff80000000ul, NULL, 255, 0, (void *)0xffff800000000000ul, (char *)0x10, 0);
  loose(0, "", 1, 1, (void *)1, utf8, 1);
  unsigned (*wide)(long, long, long, long, unsigned long, long long) =
      (unsigned (*)(long, long, long, long, unsigned long, long long))(void (*)(void))widths;
  wide(rubbish | 0x8000, rubbish | 0xffff, rubbish | 0x80, (long)0xfffffffffffffffful, (unsigned long)-1, (long long)0x8000000000000000ull);
  wide(rubbish | 0x7fff, rubbish | 1, rubbish | 0x7f, rubbish | 0, 0, -1);
  real(1.5f);
}

// Text at the very end of what is mapped, without a NUL: ten bytes are there to be read, the eleventh is not. And text
// whose tenth byte is half of a letter.
static void call_awkward_text(void) {
  long page = sysconf(_SC_PAGESIZE);
  char *pages = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + page, (size_t)page, PROT_NONE) != 0) die("mmap");
  memcpy(pages + page - 10, "abcdefghij", 10);
  parameters(1, pages + page - 10, 0, 0, NULL, NULL, false);
  parameters(2, "123456789\xc3\xbc", 0, 0, NULL, NULL, false);
  static char control[10] = "\xff\xfe\x01\t\r";
  parameters(3, control, 0, 0, NULL, NULL, false);
}

static char long_text[301];

static void call_long_text(void) {
  memset(long_text, 'L', 300);
  parameters(1, long_text, 0, 0, NULL, NULL, false);
}

// --- calls that end in a jump -------------------------------------------------------------------------------------

// gcc makes the last call of each a jump: two functions then share one frame and one return.
NOINLINE void *wrapped_malloc(size_t size) { return malloc(size); }
NOINLINE void wrapped_free(void *pointer) { free(pointer); }
NOINLINE long tail_inner(long value) {
  grab((size_t)value);
  return value + 1;
}
NOINLINE long tail_outer(long value) { return tail_inner(value + 1); }

// --- a function that one process enters and two leave -------------------------------------------------------------

NOINLINE pid_t forking(size_t before, size_t after) {
  grab(before);
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) grab(after);
  return child;
}

// --- a library's function -----------------------------------------------------------------------------------------

static void call_library(void) {
  static const char *const texts[] = {"", "a", "a longer text of forty-one characters...."};
  for (int i = 0; i < 3; i++) {
    call("strdup");
    char *copy = strdup(texts[i]);
    counted(strlen(texts[i]) + 1);
    back("strdup", (long)(intptr_t)opaque(copy));
  }
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "recursion";
  prepare_holds();
  if (count > 2) hold("ready");
  if (strcmp(what, "recursion") == 0) {
    call("recurse");
    int sum = recurse(59);
    back("recurse", sum);
    call("static_leaf");
    long leaf = static_leaf(14);
    back("static_leaf", leaf);
  } else if (strcmp(what, "longjmp") == 0) {
    for (int round = 1; round <= 3; round++) {
      call("survivor");
      int value = survivor(round);
      back("survivor", value);
    }
  } else if (strcmp(what, "threads") == 0) {
    pthread_t ids[WORKERS];
    pthread_mutex_lock(&turn);  // starting a thread allocates; nobody works until all are there
    for (int i = 0; i < WORKERS; i++)
      if (pthread_create(&ids[i], NULL, worker_main, (void *)(intptr_t)(i + 1)) != 0) die("pthread_create");
    pthread_mutex_unlock(&turn);
    for (int i = 0; i < WORKERS; i++) pthread_join(ids[i], NULL);
  } else if (strcmp(what, "parameters") == 0) {
    call_parameters();
  } else if (strcmp(what, "awkward") == 0) {
    call_awkward_text();
  } else if (strcmp(what, "long") == 0) {
    call_long_text();
  } else if (strcmp(what, "tail") == 0) {
    call("tail_outer");
    call("tail_inner");
    long value = tail_outer(40);
    back("tail_inner", value);
    back("tail_outer", value);
    call("wrapped_malloc");
    void *block = opaque(wrapped_malloc(555));
    counted(555);
    back("wrapped_malloc", (long)(intptr_t)block);
    call("wrapped_free");
    wrapped_free(block);
    uncounted(555);
    back("wrapped_free", 0);
  } else if (strcmp(what, "fork") == 0) {
    call("forking");
    pid_t child = forking(70, 7);
    back("forking", child);
    call("static_leaf");
    long leaf = static_leaf(child != 0);
    back("static_leaf", leaf);
    if (child == 0) leave("child", 0);
    if (waitpid(child, NULL, 0) != child) die("waitpid");
  } else if (strcmp(what, "deep") == 0) {
    call("recurse");
    int sum = recurse(149);
    back("recurse", sum);
    call("static_leaf");
    long leaf = static_leaf(14);
    back("static_leaf", leaf);
  } else if (strcmp(what, "library") == 0) {
    call_library();
  } else if (strcmp(what, "child") == 0) {
    grab(1000);
    call("static_leaf");
    long leaf = static_leaf(1);
    back("static_leaf", leaf);
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
      // Entered with what the parent left, and in a process of its own.
      call("static_leaf");
      leaf = static_leaf(2);
      back("static_leaf", leaf);
      leave("child", 0);
    }
    int status;
    if (waitpid(child, &status, 0) != child) die("waitpid");
    call("static_leaf");
    leaf = static_leaf(3);
    back("static_leaf", leaf);
  } else {
    return 2;
  }
  leave("main", 0);
}
