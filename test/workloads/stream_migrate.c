// flags: -pthread
/* `stream_migrate CALLS`: threads that never stay on one CPU. Two move themselves to the other of
 * two CPUs before each call (the move itself is entered on one CPU and returns on the other), a
 * third is moved by the first thread of the program all the time. Thread K calls
 * getpriority(1000000 * (K + 1) + i), i = 0 … CALLS - 1. Prints `thread TID BASE CALLS` for each,
 * and `moves COUNT` as the kernel counted them, of all threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 3
#define PUSHED 2
static long calls, tids[THREADS], moves[THREADS];
static int cpus[2];
static volatile int done;

static void move(pid_t tid, long turn) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpus[turn & 1], &set);
  sched_setaffinity(tid, sizeof set, &set);
}

static void *work(void *number) {
  long me = (long)number, base = 1000000 * (me + 1);
  int before = -1;
  __atomic_store_n(&tids[me], syscall(SYS_gettid), __ATOMIC_RELEASE);
  for (long i = 0; i < calls; i++) {
    if (me != PUSHED) move(0, i + me);
    syscall(SYS_getpriority, base + i, 0);
    int now = sched_getcpu();
    moves[me] += now != before && before >= 0;
    before = now;
  }
  if (me == PUSHED) done = 1;
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t threads[THREADS];
  cpu_set_t allowed;
  calls = argc > 1 ? atol(argv[1]) : 0;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  for (int cpu = 0, found = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
    if (CPU_ISSET(cpu, &allowed)) cpus[1] = cpu, cpus[found++] = cpu;
  for (long i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) return 1;
  while (__atomic_load_n(&tids[PUSHED], __ATOMIC_ACQUIRE) == 0) sched_yield();
  for (long turn = 0; !done; turn++) move((pid_t)tids[PUSHED], turn);
  for (long i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (long i = 0; i < THREADS; i++)
    printf("thread %ld %ld %ld\n", tids[i], 1000000 * (i + 1), calls);
  printf("moves %ld\n", moves[0] + moves[1] + moves[2]);
  return 0;
}
