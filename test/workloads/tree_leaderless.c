// flags: -pthread
/* `tree_leaderless CPU_MS`: the first thread ends at once (it stays as a zombie, since the process
 * lives on in the others), two more burn CPU_MS each; the last one to finish ends the process.
 * Prints `process PID`, `thread TID` and waits for a line on stdin between the leader's end and the
 * work. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long budget_ns;
static pthread_barrier_t start;

static void *burn(void *reads) {
  struct timespec now;
  printf("thread %ld\n", syscall(SYS_gettid));
  fflush(stdout);
  if (reads != NULL) getchar();
  pthread_barrier_wait(&start);
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while (now.tv_sec * 1000000000LL + now.tv_nsec < budget_ns);
  syscall(SYS_getpriority, 1000, 0);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t one, two;
  budget_ns = (argc > 1 ? atoll(argv[1]) : 100) * 1000000;
  printf("process %d\n", getpid());
  fflush(stdout);
  pthread_barrier_init(&start, NULL, 2);
  if (pthread_create(&one, NULL, burn, &start) != 0 || pthread_create(&two, NULL, burn, NULL) != 0)
    return 1;
  pthread_exit(NULL);
}
