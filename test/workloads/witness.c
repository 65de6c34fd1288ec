/* Runs a command and writes what the kernel says it cost: `witness FILE cmd args...` appends one
 * line to FILE, `PID USER_US SYSTEM_US WALL_US VOLUNTARY INVOLUNTARY STATUS`, from wait4(). It is
 * the ground truth of the cpu tests: the rusage covers the command, every thread it had and every
 * child it waited for, to the end of its exit. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int file = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) return perror(argv[1]), 2;
  long long start = now_us();
  pid_t pid = fork();
  if (pid == 0) {
    execvp(argv[2], argv + 2);
    _exit(127);
  }
  int status;
  struct rusage used;
  if (pid < 0 || wait4(pid, &status, 0, &used) != pid) return perror("wait4"), 2;
  dprintf(file, "%d %lld %lld %lld %ld %ld %d\n", pid,
          used.ru_utime.tv_sec * 1000000LL + used.ru_utime.tv_usec,
          used.ru_stime.tv_sec * 1000000LL + used.ru_stime.tv_usec, now_us() - start, used.ru_nvcsw,
          used.ru_nivcsw, status);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
