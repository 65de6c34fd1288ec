/* Children made in other ways than fork: vfork + _exit, vfork + exec, posix_spawn, and a raw clone.
 * Prints `<how> PID` for each. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(void) {
  char *nothing[] = {"true", NULL};
  pid_t pid;
  printf("target %d\n", getpid());
  fflush(stdout);
  if ((pid = vfork()) == 0) _exit(0);
  printf("vfork-exit %d\n", pid);
  waitpid(pid, NULL, 0);
  if ((pid = vfork()) == 0) {
    execv("/bin/true", nothing);
    _exit(127);
  }
  printf("vfork-exec %d\n", pid);
  waitpid(pid, NULL, 0);
  if (posix_spawn(&pid, "/bin/true", NULL, NULL, nothing, environ) != 0) return 1;
  printf("spawn %d\n", pid);
  waitpid(pid, NULL, 0);
  fflush(stdout);
  pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  printf("clone %d\n", pid);
  waitpid(pid, NULL, 0);
  return 0;
}
