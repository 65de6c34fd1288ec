/* Processes that lose their parent.
 * `tree_orphans follow`: the target forks a child, the child forks a grandchild and exits (double
 * fork); the grandchild makes itself a session leader, burns 30 ms of CPU as an orphan, forks a
 * great-grandchild that burns 20 ms, and ends. The target waits for them at a pipe, since they are
 * nobody's children any more. `tree_orphans outlive MS`: the orphan only sleeps for MS and the
 * target ends at once. Prints `<role> PID CPU_US` per process (CPU as getrusage says just before
 * its exit; 0 where it was not measured). */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long used_us(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec +
         used.ru_stime.tv_usec;
}

static void burn(long ms) {
  struct timespec now;
  do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < ms);
}

static void say(const char *role, long long used) {
  dprintf(STDOUT_FILENO, "%s %d %lld\n", role, getpid(), used);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  int ends[2];
  if (pipe(ends) != 0) return 1;
  say("target", 0);
  pid_t child = fork();
  if (child == 0) {
    pid_t middle = getpid();
    close(ends[0]);
    if (fork() == 0) {
      while (getppid() == middle) usleep(1000);
      pid_t self = getpid();
      if (strcmp(argv[1], "outlive") == 0) say("orphan", 0);
      if (write(ends[1], &self, sizeof self) < 0) _exit(1);
      setsid();
      if (strcmp(argv[1], "outlive") == 0) {
        close(STDOUT_FILENO); /* whoever reads the target's output must not wait for the orphan */
        close(STDERR_FILENO);
        usleep((useconds_t)atoi(argv[2]) * 1000);
        _exit(0);
      }
      burn(30);
      pid_t last = fork();
      if (last == 0) {
        burn(20);
        say("great-grandchild", used_us());
        _exit(0);
      }
      waitpid(last, NULL, 0);
      say("orphan", used_us());
      _exit(0);
    }
    say("middle", used_us());
    _exit(0);
  }
  close(ends[1]);
  waitpid(child, NULL, 0);
  pid_t orphan = 0;
  if (read(ends[0], &orphan, sizeof orphan) != sizeof orphan) return 1;
  if (strcmp(argv[1], "outlive") == 0) return 0;
  /* Nobody's child can be waited for; it is gone when its pid is, and off the CPU a moment later.
   */
  while (kill(orphan, 0) == 0) usleep(1000);
  usleep(20000);
  return 0;
}
