/* `tree_chain DEPTH`: a process that forks one that forks one … DEPTH generations deep; each waits
 * for its child. Prints `generation N PID`. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int depth = argc > 1 ? atoi(argv[1]) : 1;
  for (int generation = 0;; generation++) {
    dprintf(STDOUT_FILENO, "generation %d %d\n", generation, getpid());
    if (generation == depth) return 0;
    pid_t child = fork();
    if (child < 0) return 1;
    if (child > 0) {
      int status;
      waitpid(child, &status, 0);
      return WEXITSTATUS(status);
    }
  }
}
