// flags: -pthread
/* `tree_exec_thread cmd args...`: a thread that is not the leader execs, while two others live. The
 * kernel kills the others and gives the thread the leader's id, so the process keeps its pid.
 * Prints `process PID` and `execs TID` first. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *sit(void *unused) {
  for (;;) pause();
  return unused;
}

static void *replace(void *arguments) {
  char **command = arguments;
  printf("execs %ld\n", syscall(SYS_gettid));
  fflush(stdout);
  usleep(150000);
  execv(command[0], command);
  perror(command[0]);
  _exit(127);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  pthread_t sitter, replacer;
  printf("process %d\n", getpid());
  fflush(stdout);
  if (pthread_create(&sitter, NULL, sit, NULL) != 0 ||
      pthread_create(&replacer, NULL, replace, argv + 1) != 0)
    return 1;
  for (;;) pause();
}
