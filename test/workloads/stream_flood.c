/* `stream_flood STEP...`: one process that floods. A STEP is a number of calls (stream_flood.h), or
 * `-FILE`, which removes FILE. Before each but the first it prints `ready` and waits for a line
 * (the end of its input will do). At the end it prints `flooder PID 0 CALLS` and exits with 7. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include "stream_flood.h"

int main(int argc, char **argv) {
  long made = 0;
  char line[16];
  for (int i = 1; i < argc; i++) {
    if (i > 1) {
      printf("ready\n");
      fflush(stdout);
      if (fgets(line, sizeof line, stdin) == NULL && ferror(stdin)) return 1;
    }
    if (argv[i][0] == '-') {
      if (unlink(argv[i] + 1) != 0) return 1;
      continue;
    }
    flood(made, atol(argv[i]));
    made += atol(argv[i]);
  }
  printf("flooder %d 0 %ld\n", getpid(), made);
  return 7;
}
