// flags: -pthread
/* A tree that stands before anyone looks at it: the process, CHILDREN children, and in each of them
 * THREADS more threads, all working a little every 5 ms. `tree_standing CHILDREN THREADS` prints
 * `process PID`, `child PID` and `thread PID TID`, then `ready`; for every line it reads it forks
 * one more child (`late PID`, which makes its own thread); at end of input everything ends.
 * `tree_standing CHILDREN THREADS SECONDS` reads nothing and ends after SECONDS. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *work(void *unused) {
  for (;;) {
    struct timespec now, start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000LL + now.tv_nsec - start.tv_nsec < 500000);
    syscall(SYS_getpriority, 1000, 0);
    usleep(5000);
  }
  return unused;
}

static void *named_work(void *unused) {
  dprintf(STDOUT_FILENO, "thread %d %ld\n", getpid(), syscall(SYS_gettid));
  return work(unused);
}

static pid_t grow(const char *role, int threads) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dprintf(STDOUT_FILENO, "%s %d\n", role, getpid());
  for (int i = 0; i < threads; i++) {
    pthread_t unused;
    if (pthread_create(&unused, NULL, named_work, NULL) != 0) _exit(1);
  }
  work(NULL);
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int children = atoi(argv[1]), threads = atoi(argv[2]);
  pid_t pids[64];
  dprintf(STDOUT_FILENO, "process %d\n", getpid());
  for (int i = 0; i < children; i++) pids[i] = grow("child", threads);
  usleep(100000);
  dprintf(STDOUT_FILENO, "ready\n");
  if (argc > 3) {
    sleep((unsigned)atoi(argv[3]));
    return 0;
  }
  char line[64];
  while (children < 64 && fgets(line, sizeof line, stdin) != NULL)
    pids[children++] = grow("late", 1);
  for (int i = 0; i < children; i++) {
    kill(pids[i], SIGTERM);
    waitpid(pids[i], NULL, 0);
  }
  return 0;
}
