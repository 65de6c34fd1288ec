// flags: -pthread
/* `tree_threads N`: one process, N more threads. Each thread announces itself, makes one call no
 * other part of the program makes (`getpriority(PRIO_PROCESS, <its number>)`, so its syscall rows
 * can be found), and works a little. Prints `process PID` and one `thread TID NUMBER` each. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t all_there;

static void *work(void *number) {
  struct timespec nap = {0, 300000000};
  printf("thread %ld %ld\n", syscall(SYS_gettid), (long)number);
  syscall(SYS_getpriority, 1000 + (long)number, 0); /* EINVAL: only its first argument matters */
  pthread_barrier_wait(&all_there);
  nanosleep(&nap, NULL);
  return NULL;
}

int main(int argc, char **argv) {
  long threads = argc > 1 ? atol(argv[1]) : 1;
  pthread_t *handles = calloc((size_t)threads, sizeof *handles);
  printf("process %d\n", getpid());
  pthread_barrier_init(&all_there, NULL, (unsigned)threads + 1);
  for (long i = 0; i < threads; i++)
    if (pthread_create(&handles[i], NULL, work, (void *)i) != 0) return 1;
  pthread_barrier_wait(&all_there);
  for (long i = 0; i < threads; i++) pthread_join(handles[i], NULL);
  free(handles);
  return 0;
}
