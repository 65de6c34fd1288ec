/* Many short processes. `forkstorm N` forks N children one after the other, each of which does
 * nothing but _exit(0) (no exec: they live for some tens of microseconds). `forkstorm N together`
 * lets all N wait at one pipe, then exit at the same moment. `forkstorm N vfork` uses vfork.
 * Prints, for each child, `PID CPU_US` as wait4() tells it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap(void) {
  struct rusage used;
  pid_t pid = wait4(-1, NULL, 0, &used);
  if (pid < 0) exit(1);
  printf("%d %lld\n", pid,
         (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec +
             used.ru_stime.tv_usec);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  int children = atoi(argv[1]), gate[2];
  const char *mode = argc > 2 ? argv[2] : "";
  if (strcmp(mode, "together") == 0) {
    if (pipe(gate) != 0) return 1;
    for (int i = 0; i < children; i++) {
      pid_t pid = fork();
      if (pid < 0) return 1;
      if (pid == 0) {
        char byte;
        close(gate[1]);
        _exit((int)read(gate[0], &byte, 1)); /* 0 when the parent closes its end */
      }
    }
    close(gate[1]);
    for (int i = 0; i < children; i++) reap();
    return 0;
  }
  for (int i = 0; i < children; i++) {
    pid_t pid = strcmp(mode, "vfork") == 0 ? vfork() : fork();
    if (pid < 0) return 1;
    if (pid == 0) _exit(0);
    reap();
  }
  return 0;
}
