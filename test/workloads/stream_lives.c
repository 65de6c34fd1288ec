// flags: -static
/* `stream_lives N`: N processes that live for some tens of microseconds, made in turn by fork, by
 * vfork with exec, by clone(CLONE_VM) and by clone(CLONE_VM|CLONE_VFORK). Number K calls
 * getpriority(1000 * (K + 1) + j), j = 0 … 4, and exits. Prints `HOW K PID` in the order they were
 * made. Static, so that an exec is not mostly the dynamic linker. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 1000
static char stacks[MOST][16384] __attribute__((aligned(16)));

static int live(void *number) {
  for (long j = 0; j < 5; j++) syscall(SYS_getpriority, 1000 * ((long)number + 1) + j, 0);
  syscall(SYS_exit_group, 0); /* not exit(): the memory may be the parent's */
  return 0;
}

static pid_t make(long number, char *self, const char **how) {
  char text[24];
  pid_t pid;
  switch (number % 4) {
    case 0:
      *how = "fork";
      pid = fork();
      if (pid == 0) live((void *)number);
      return pid;
    case 1:
      *how = "exec";
      snprintf(text, sizeof text, "%ld", number);
      pid = vfork();
      if (pid == 0) {
        execl(self, self, "live", text, NULL);
        _exit(127);
      }
      return pid;
    case 2:
      *how = "clone";
      return clone(live, stacks[number + 1], CLONE_VM | SIGCHLD, (void *)number);
    default:
      *how = "clone-vfork";
      return clone(live, stacks[number + 1], CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)number);
  }
}

int main(int argc, char **argv) {
  if (argc > 2) return live((void *)atol(argv[2]));
  long count = argc > 1 ? atol(argv[1]) : 0;
  if (count >= MOST) return 2;
  for (long number = 0; number < count; number++) {
    const char *how = "";
    pid_t pid = make(number, argv[0], &how);
    if (pid < 0) return 1;
    printf("%s %ld %d\n", how, number, pid);
  }
  while (wait(NULL) > 0) continue;
  return 0;
}
