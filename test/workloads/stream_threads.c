// flags: -pthread
/* `stream_threads THREADS CALLS`: so many threads at the same time, each of which calls getppid so
 * many times and nothing else meanwhile. Prints `thread TID CALLS` for each. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static long calls;
static pthread_barrier_t together;

static void *work(void *tid) {
  *(long *)tid = syscall(SYS_gettid);
  pthread_barrier_wait(&together);
  for (long i = 0; i < calls; i++) syscall(SYS_getppid);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  long count = atol(argv[1]);
  calls = atol(argv[2]);
  pthread_t threads[count];
  long tids[count];
  pthread_barrier_init(&together, NULL, (unsigned)count);
  for (long i = 0; i < count; i++)
    if (pthread_create(&threads[i], NULL, work, &tids[i]) != 0) return 1;
  for (long i = 0; i < count; i++) pthread_join(threads[i], NULL);
  for (long i = 0; i < count; i++) printf("thread %ld %ld\n", tids[i], calls);
  return 0;
}
