// flags: -pthread
/* Burns a known amount of CPU: `spin THREADS CPU_MS`. Every thread (the first one is the process's
 * own) runs until its own thread clock says CPU_MS, so the work is the same however busy the
 * machine is. Prints nothing: the witness is the parent's wait4(). A second form, `spin THREADS
 * CPU_MS wait`, prints `process PID` and waits for a line on stdin before it starts. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t target_ns;

static void *burn(void *unused) {
  struct timespec now;
  volatile uint64_t sink = 0;
  do {
    for (int i = 0; i < 20000; i++) sink += (uint64_t)i;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  } while (now.tv_sec * 1000000000LL + now.tv_nsec < target_ns);
  return unused;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int threads = atoi(argv[1]);
  target_ns = atoll(argv[2]) * 1000000LL;
  if (argc > 3 && strcmp(argv[3], "wait") == 0) {
    printf("process %d\n", getpid());
    fflush(stdout);
    if (getchar() == EOF) return 3;
  }
  pthread_t *others = calloc((size_t)threads, sizeof *others);
  for (int i = 1; i < threads; i++)
    if (pthread_create(&others[i], NULL, burn, NULL) != 0) return 1;
  burn(NULL);
  for (int i = 1; i < threads; i++) pthread_join(others[i], NULL);
  free(others);
  return 0;
}
