// SPDX-License-Identifier: MIT
// Owns: a program that uses every allocation function, threads, fork and exec, and states after each phase exactly how
// many bytes and blocks it holds. Does not own: comparing that with anything, nor which C library it is built with: one
// heap_*.c for each includes this.
//
// Usage: heap_phases [no-pvalloc] ; named by its path, since it execs itself as "heap_phases after-exec".
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

#include "heap_count.h"

#define THREADS 8
#define BLOCKS_PER_THREAD 500
#define EXCHANGE_SLOTS 64
#define EXCHANGE_ROUNDS 4000

struct block {
  void *pointer;
  size_t size;
};

static struct block kept[64];
static int kept_blocks;

static void keep(void *pointer, size_t size) {
  if (pointer == NULL) die("allocation");
  counted(size);
  kept[kept_blocks++] = (struct block){opaque(pointer), size};
}

static void drop(struct block *block) {
  uncounted(block->size);
  free(block->pointer);
  block->pointer = NULL;
}

// --- one function after the other -------------------------------------------------------------------------------

static void every_function(int with_pvalloc) {
  keep(malloc(1000), 1000);
  hold("malloc");
  // A block of no bytes is a block all the same: it has an address and must be freed.
  keep(malloc(opaque_size(0)), 0);
  hold("malloc-zero");
  keep(calloc(7, 333), 7 * 333);
  hold("calloc");
  keep(realloc(NULL, 5000), 5000);
  hold("realloc-null");

  struct block *block = &kept[0];
  void *larger = realloc(block->pointer, 200000);
  if (larger == NULL) die("realloc");
  atomic_fetch_add(&live_bytes, 200000 - 1000);
  *block = (struct block){opaque(larger), 200000};
  hold("realloc-grow");
  void *smaller = realloc(block->pointer, 10);
  if (smaller == NULL) die("realloc");
  atomic_fetch_add(&live_bytes, 10 - 200000);
  *block = (struct block){opaque(smaller), 10};
  hold("realloc-shrink");

  // More than half the address space: refused by every allocator, and the old block must stay.
  if (opaque(realloc(block->pointer, opaque_size(PTRDIFF_MAX))) != NULL) die("realloc of half the world succeeded");
  hold("realloc-failed");
  if (opaque(malloc(opaque_size(PTRDIFF_MAX))) != NULL) die("malloc of half the world succeeded");
  if (opaque(calloc(opaque_size(SIZE_MAX / 2), 3)) != NULL) die("calloc overflow succeeded");
  hold("malloc-failed");

  keep(reallocarray(NULL, 11, 101), 11 * 101);
  hold("reallocarray-null");
  block = &kept[kept_blocks - 1];
  void *array = reallocarray(block->pointer, 22, 303);
  if (array == NULL) die("reallocarray");
  atomic_fetch_add(&live_bytes, 22 * 303 - 11 * 101);
  *block = (struct block){opaque(array), 22 * 303};
  hold("reallocarray-grow");
  if (opaque(reallocarray(block->pointer, opaque_size(SIZE_MAX / 2), 3)) != NULL) die("reallocarray overflow succeeded");
  hold("reallocarray-overflow");

  // What realloc(p, 0) means differs between allocators: glibc frees and answers NULL, others hand out a block of no
  // bytes. The answer says which it was.
  keep(malloc(777), 777);
  block = &kept[kept_blocks - 1];
  void *nothing = opaque(realloc(block->pointer, opaque_size(0)));
  uncounted(777);
  kept_blocks--;
  if (nothing != NULL) keep(nothing, 0);
  hold("realloc-zero");

  void *aligned = NULL;
  if (posix_memalign(&aligned, 4096, 12345) != 0) die("posix_memalign");
  keep(aligned, 12345);
  hold("posix_memalign");
  // Refused for its alignment. The pointer must be left alone and nothing counted.
  aligned = (void *)0x1234;
  if (posix_memalign(&aligned, opaque_size(3), 64) == 0) die("posix_memalign of alignment 3 succeeded");
  aligned = (void *)0x1234;
  if (posix_memalign(&aligned, 64, opaque_size(PTRDIFF_MAX)) == 0) die("posix_memalign of half the world succeeded");
  hold("posix_memalign-failed");
  keep(aligned_alloc(64, 6400), 6400);
  hold("aligned_alloc");
#ifdef __GLIBC__
  keep(memalign(256, 1001), 1001);
  hold("memalign");
  keep(valloc(3333), 3333);
  hold("valloc");
  if (with_pvalloc) {
    // Counted as asked for, not as rounded up to the page.
    keep(pvalloc(4444), 4444);
    hold("pvalloc");
  }
#else
  (void)with_pvalloc;
#endif
  free(NULL);
  hold("free-null");
  // Large enough for its own mapping in every allocator.
  keep(malloc(64 << 20), 64 << 20);
  hold("huge");
  drop(&kept[--kept_blocks]);
  hold("huge-freed");
  for (int i = 0; i < kept_blocks; i += 2) drop(&kept[i]);
  hold("half-freed");
  for (int i = 1; i < kept_blocks; i += 2) drop(&kept[i]);
  kept_blocks = 0;
  hold("all-freed");
}

// --- eight threads ----------------------------------------------------------------------------------------------

static pthread_barrier_t barrier;
static struct block owned[THREADS][BLOCKS_PER_THREAD];
// Every block carries its size in its first bytes, so whoever takes it out of a slot knows what to subtract.
static _Atomic(size_t *) exchange[EXCHANGE_SLOTS];

static void *sized_block(size_t size) {
  size_t *block = malloc(size);
  if (block == NULL) die("malloc");
  block[0] = size;
  counted(size);
  return opaque(block);
}

static void free_sized_block(size_t *block) {
  uncounted(block[0]);
  free(block);
}

static void *thread_main(void *argument) {
  int self = (int)(intptr_t)argument;
  uint32_t random = 0x9e3779b9u + (uint32_t)self;
  pthread_barrier_wait(&barrier);  // threads exist: everything their start allocates belongs to the base
  pthread_barrier_wait(&barrier);  // base seen
  for (int i = 0; i < BLOCKS_PER_THREAD; i++) {
    size_t size = 1 + next_random(&random) % 3000;
    void *pointer = (i % 3 == 0) ? calloc(1, size) : malloc(size);
    if (pointer == NULL) die("malloc");
    counted(size);
    owned[self][i] = (struct block){opaque(pointer), size};
  }
  pthread_barrier_wait(&barrier);  // allocated
  pthread_barrier_wait(&barrier);  // seen
  // Each frees what its neighbour allocated.
  struct block *theirs = owned[(self + 1) % THREADS];
  for (int i = 0; i < BLOCKS_PER_THREAD; i++) {
    uncounted(theirs[i].size);
    free(theirs[i].pointer);
  }
  pthread_barrier_wait(&barrier);  // freed
  pthread_barrier_wait(&barrier);  // seen
  // All at once, and blocks change hands: an address freed by one thread is malloc's next answer to another, and a
  // realloc that moves gives its old address away before it has returned.
  for (int i = 0; i < EXCHANGE_ROUNDS; i++) {
    size_t *mine = sized_block(sizeof(size_t) + next_random(&random) % 2000);
    if (i % 2 == 0) {
      size_t old = mine[0], size = sizeof(size_t) + next_random(&random) % 6000;
      mine = realloc(mine, size);
      if (mine == NULL) die("realloc");
      mine[0] = size;
      atomic_fetch_add(&live_bytes, (long)size - (long)old);
    }
    size_t *previous = atomic_exchange(&exchange[next_random(&random) % EXCHANGE_SLOTS], mine);
    if (previous != NULL) free_sized_block(previous);
  }
  pthread_barrier_wait(&barrier);  // exchanged
  pthread_barrier_wait(&barrier);  // seen
  return NULL;
}

static void threads(void) {
  pthread_t ids[THREADS];
  if (pthread_barrier_init(&barrier, NULL, THREADS + 1) != 0) die("pthread_barrier_init");
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&ids[i], NULL, thread_main, (void *)(intptr_t)i) != 0) die("pthread_create");
  pthread_barrier_wait(&barrier);
  hold("base-threads");
  static const char *const phases[] = {"threads-allocated", "threads-crossfreed", "threads-exchanged"};
  for (int i = 0; i < 3; i++) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    hold(phases[i]);
  }
  for (int i = 0; i < EXCHANGE_SLOTS; i++) {
    size_t *left = atomic_exchange(&exchange[i], NULL);
    if (left != NULL) free_sized_block(left);
  }
  hold("threads-cleared");
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
  hold("base-joined");
}

// --- fork -------------------------------------------------------------------------------------------------------

#define FORK_BLOCKS 300
static struct block shared_blocks[FORK_BLOCKS];

static void fork_free(int from, int step) {
  for (int i = from; i < FORK_BLOCKS; i += step)
    if (shared_blocks[i].pointer != NULL) drop(&shared_blocks[i]);
}

static void fork_fill(int from, int step, size_t size) {
  for (int i = from; i < FORK_BLOCKS; i += step) {
    if (shared_blocks[i].pointer != NULL) continue;
    void *pointer = malloc(size + (size_t)i);
    if (pointer == NULL) die("malloc");
    counted(size + (size_t)i);
    shared_blocks[i] = (struct block){opaque(pointer), size + (size_t)i};
  }
}

static void forks(void) {
  fork_fill(0, 1, 100);
  hold("before-fork");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    hold("child-inherited");
    // Parent and child run the same allocator from the same state: they are handed the same addresses for
    // different sizes.
    fork_free(0, 2);
    fork_fill(0, 4, 1000);
    hold("child-mixed");
    pid_t grandchild = fork();
    if (grandchild < 0) die("fork");
    if (grandchild == 0) {
      hold("grandchild-inherited");
      fork_free(1, 3);
      hold("grandchild-mixed");
      fork_fill(0, 1, 7000);
      hold("grandchild-orphan");
      fork_free(0, 2);
      leave("grandchild", 0);
    }
    fork_free(0, 1);
    hold("child-empty");
    leave("child", 0);  // its parent has not waited, and its own child lives on
  }
  // Meanwhile the parent frees other blocks than its child, and some of the same.
  hold("parent-after-fork");
  fork_free(0, 3);
  hold("parent-freed");
  fork_fill(0, 3, 2000);
  hold("parent-refilled");
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) die("child failed");
  hold("parent-alone");
  // A child that shares our memory until it executes something else: its new start must not be taken for ours.
  for (int i = 0; i < 3; i++) {
    char *command[] = {"true", NULL}, *environment[] = {NULL};
    pid_t spawned;
    if (posix_spawn(&spawned, "/bin/true", NULL, NULL, command, environment) != 0) die("posix_spawn");
    if (waitpid(spawned, &status, 0) != spawned || status != 0) die("/bin/true failed");
  }
  hold("parent-spawned");
  fork_free(0, 1);
  hold("parent-cleared");
}

int main(int count, char **arguments) {
  prepare_holds();
  if (count > 1 && strcmp(arguments[1], "after-exec") == 0) {
    hold("start-after-exec");
    keep(malloc(12321), 12321);
    hold("after-exec");
    leave("main", 7);  // one block is left: the END row must say so
  }
  hold("start");
  every_function(!(count > 1 && strcmp(arguments[1], "no-pvalloc") == 0));
  threads();
  forks();
  keep(malloc(99999), 99999);
  hold("before-exec");
  char *next[] = {arguments[0], "after-exec", NULL};
  execv(arguments[0], next);
  die("execv");
}
