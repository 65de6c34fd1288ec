// flags: -pthread
// SPDX-License-Identifier: MIT
// Owns: inheritance of a heap in its less ordinary shapes, each process stating what it holds. Does not own: the ordinary
// ones (heap_phases.h).
//
//   heap_forks chain      fourteen generations; each frees one block of every ancestor that still has one
//   heap_forks prefork    fifty children that live; then the parent frees everything, then each child does
//   heap_forks threads    children forked while eight threads allocate; each frees all it can reach
//   heap_forks million    more live blocks than any table was made for
//   heap_forks vfork      a vfork child that allocates in its parent's memory and leaves
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "heap_count.h"

#define GENERATIONS 14
#define CHILDREN 50
#define BLOCKS 200

static void *blocks[BLOCKS];
static size_t sizes[BLOCKS];

static void fill(int index, size_t size) {
  blocks[index] = opaque(malloc(size));
  if (blocks[index] == NULL) die("malloc");
  sizes[index] = size;
  counted(size);
}

static void drop(int index) {
  if (blocks[index] == NULL) return;
  uncounted(sizes[index]);
  free(blocks[index]);
  blocks[index] = NULL;
}

static void reap(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) die("a child failed");
}

// Every generation brings ten blocks and frees one of each generation before it. The deepest frees all.
static void chain(int generation) {
  char name[32];
  for (int i = 0; i < 10; i++) fill(generation * 10 + i, (size_t)(100 * (generation + 1) + i));
  for (int i = 0; i < generation; i++) drop(i * 10 + (generation % 10));
  snprintf(name, sizeof name, "generation-%d", generation);
  if (generation + 1 < GENERATIONS) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
      chain(generation + 1);
      _exit(0);
    }
    hold(name);
    reap(child);
    return;
  }
  hold(name);
  for (int i = 0; i < GENERATIONS * 10; i++) drop(i);
  hold("generation-cleared");
}

static void prefork(void) {
  pid_t children[CHILDREN];
  int gates[2];
  char name[32], byte = 0;
  if (pipe(gates) != 0) die("pipe");
  for (int i = 0; i < BLOCKS; i++) fill(i, (size_t)(50 + i));
  for (int i = 0; i < CHILDREN; i++) {
    // The parent's heap changes between forks, so that no two children inherit the same.
    drop(i);
    fill(i, (size_t)(1000 + i));
    children[i] = fork();
    if (children[i] < 0) die("fork");
    if (children[i] == 0) {
      close(gates[1]);
      if (read(gates[0], &byte, 1) != 0) die("read");  // end of file: the parent has freed everything
      snprintf(name, sizeof name, "inherited-%d", i);
      hold(name);
      for (int k = 0; k < BLOCKS; k++) drop(k);
      snprintf(name, sizeof name, "emptied-%d", i);
      hold(name);
      _exit(0);
    }
  }
  for (int i = 0; i < BLOCKS; i++) drop(i);
  close(gates[1]);
  hold("parent-empty");
  for (int i = 0; i < CHILDREN; i++) reap(children[i]);
}

// What a slot points to carries its size; a child can reach exactly what is in the slots.
#define SLOTS 256
static _Atomic(size_t *) slots[SLOTS];
static atomic_int stop;

static void *churn(void *argument) {
  uint32_t random = 77u + (uint32_t)(intptr_t)argument;
  while (!atomic_load(&stop)) {
    size_t size = sizeof(size_t) + next_random(&random) % 500;
    size_t *mine = malloc(size);
    if (mine == NULL) die("malloc");
    mine[0] = size;
    counted(size);
    size_t *previous = atomic_exchange(&slots[next_random(&random) % SLOTS], mine);
    if (previous != NULL) {
      uncounted(previous[0]);
      free(previous);
    }
  }
  return NULL;
}

static void clear_slots(void) {
  for (int i = 0; i < SLOTS; i++) {
    size_t *left = atomic_exchange(&slots[i], NULL);
    if (left == NULL) continue;
    uncounted(left[0]);
    free(left);
  }
}

static void threads(void) {
  pthread_t ids[8];
  char name[32];
  hold("start");
  for (int i = 0; i < 8; i++)
    if (pthread_create(&ids[i], NULL, churn, (void *)(intptr_t)i) != 0) die("pthread_create");
  for (int i = 0; i < 20; i++) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
      clear_slots();
      // At most two blocks per thread were in flight: in a variable, not in a slot.
      atomic_store(&live_bytes, 0);
      atomic_store(&live_blocks, 0);
      snprintf(name, sizeof name, "inflight-%d", i);
      hold(name);
      _exit(0);
    }
    reap(child);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < 8; i++) pthread_join(ids[i], NULL);
  clear_slots();
  hold("joined");
}

static void million(void) {
  enum { MANY = 1300000 };
  static void *many[MANY];
  for (int i = 0; i < MANY; i++) {
    many[i] = opaque(malloc(17));
    if (many[i] == NULL) die("malloc");
    counted(17);
  }
  hold("many");
  for (int i = 0; i < MANY; i++) {
    uncounted(17);
    free(many[i]);
  }
  hold("none");
}

static void vforked(void) {
  fill(0, 100);
  hold("alone");
  pid_t child = vfork();
  if (child < 0) die("vfork");
  if (child == 0) {
    // Its memory is its parent's: what it allocates stays behind, and what it frees is gone.
    fill(1, 2000);
    drop(0);
    _exit(0);
  }
  reap(child);
  hold("after-vfork");
  drop(1);
  hold("cleared");
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  prepare_holds();
  if (strcmp(what, "chain") == 0) chain(0);
  else if (strcmp(what, "prefork") == 0) prefork();
  else if (strcmp(what, "threads") == 0) threads();
  else if (strcmp(what, "million") == 0) million();
  else if (strcmp(what, "vfork") == 0) vforked();
  else return 2;
  return 0;
}
