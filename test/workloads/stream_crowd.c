/* `stream_crowd A B C`: three processes that flood (stream_flood.h), to be watched by a monitor
 * that is held up. Prints `ready`, waits for a line; then the first two, each on a CPU of its own,
 * make half of their A and B calls, and when both have, a third is born, makes its C and is gone.
 * Prints `half`, waits for a line; the first two make their other half. At the end `flooder PID
 * FIRST CALLS` for each, FIRST being the number of its first call, and exit code 7. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include "stream_flood.h"

static long first_of(int number) { return (number + 1) * 1048576L; }

/* On the allowed CPU of this number, where there are so many. */
static void settle(int number) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) _exit(1);
  number %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed) || number-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) _exit(1);
    return;
  }
}

static void ask(const char *word) {
  char line[16];
  printf("%s\n", word);
  fflush(stdout);
  if (fgets(line, sizeof line, stdin) == NULL) _exit(1);
}

int main(int argc, char **argv) {
  int halves[2], go[2];
  long counts[3];
  pid_t pids[3];
  char byte;
  if (argc < 4 || pipe(halves) != 0 || pipe(go) != 0) return 2;
  for (int i = 0; i < 3; i++) counts[i] = atol(argv[i + 1]);
  ask("ready");
  for (int i = 0; i < 2; i++) {
    if ((pids[i] = fork()) != 0) continue;
    close(go[1]);
    settle(i);
    flood(first_of(i), counts[i] / 2);
    if (write(halves[1], "x", 1) != 1 || read(go[0], &byte, 1) != 0) _exit(1);
    flood(first_of(i) + counts[i] / 2, counts[i] - counts[i] / 2);
    _exit(0);
  }
  for (int i = 0; i < 2; i++)
    if (read(halves[0], &byte, 1) != 1) return 1;
  if ((pids[2] = fork()) == 0) {
    settle(0); /* whose ring the first has filled */
    flood(first_of(2), counts[2]);
    _exit(0);
  }
  if (waitpid(pids[2], NULL, 0) < 0) return 1;
  ask("half");
  close(go[1]);
  for (int i = 0; i < 2; i++)
    if (waitpid(pids[i], NULL, 0) < 0) return 1;
  for (int i = 0; i < 3; i++) printf("flooder %d %ld %ld\n", pids[i], first_of(i), counts[i]);
  return 7;
}
