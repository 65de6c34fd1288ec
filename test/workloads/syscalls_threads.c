// flags: -pthread
/* Threads with calls of their own, to check that rows of different threads are not mixed: thread K
 * makes 200 calls `getpriority(1000 * (K + 1) + i)`, i = 0 … 199; then a child process does the
 * same with K = 50; then one thread blocks in a read that never returns, another sleeps in a call
 * that a signal interrupts, and exit_group ends them all. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void many(long number) {
  for (long i = 0; i < 200; i++) syscall(SYS_getpriority, 1000 * (number + 1) + i, 0);
}

static void *work(void *number) {
  many((long)number);
  return NULL;
}

static int ends[2];

static void *block(void *unused) {
  char byte;
  while (read(ends[0], &byte, 1) < 0) continue;
  return unused;
}

static void nothing(int number) { (void)number; }

int main(void) {
  pthread_t threads[4], blocked;
  for (long i = 0; i < 4; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) return 1;
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  pid_t child = fork();
  if (child == 0) {
    many(50);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  if (pipe(ends) != 0 || pthread_create(&blocked, NULL, block, NULL) != 0) return 1;
  struct sigaction action = {.sa_handler = nothing};
  sigaction(SIGUSR1, &action, NULL);
  usleep(100000);
  pthread_kill(blocked, SIGUSR1); /* its read returns EINTR once */
  usleep(100000);
  printf("done\n");
  return 0;
}
