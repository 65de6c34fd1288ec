// flags: -pthread
/* A child process whose four threads are in the middle of calling getppid, and a fifth in a read
 * that never returns, when the first one calls exit_group. Each thread counts a call before it
 * makes it and after. Prints `process PID`, `blocked TID` and for each caller `caller TID BEGUN
 * RETURNED`, as the counters stood when the process was gone. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLERS 4
static struct {
  volatile long tid, begun, returned;
} * counts;

static void *call(void *number) {
  long me = (long)number;
  counts[me].tid = syscall(SYS_gettid);
  for (;;) {
    counts[me].begun++;
    syscall(SYS_getppid);
    counts[me].returned++;
  }
  return NULL;
}

static void *block(void *ends) {
  char byte;
  counts[CALLERS].tid = syscall(SYS_gettid);
  return read(*(int *)ends, &byte, 1) < 0 ? ends : NULL;
}

static int child(void) {
  pthread_t thread;
  int ends[2];
  if (pipe(ends) != 0) return 1;
  for (long i = 0; i < CALLERS; i++)
    if (pthread_create(&thread, NULL, call, (void *)i) != 0) return 1;
  if (pthread_create(&thread, NULL, block, ends) != 0) return 1;
  for (long i = 0; i < CALLERS; i++)
    while (counts[i].returned < 2000) usleep(1000);
  while (counts[CALLERS].tid == 0) usleep(1000);
  syscall(SYS_exit_group, 3);
  return 1;
}

int main(void) {
  int status;
  counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (counts == MAP_FAILED) return 1;
  pid_t pid = fork();
  if (pid == 0) _exit(child());
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 3) return 1;
  printf("process %d\nblocked %ld\n", pid, counts[CALLERS].tid);
  for (int i = 0; i < CALLERS; i++)
    printf("caller %ld %ld %ld\n", counts[i].tid, counts[i].begun, counts[i].returned);
  return 0;
}
