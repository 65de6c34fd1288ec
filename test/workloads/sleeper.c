/* Sleeps: `sleeper MS` in one piece, `sleeper MS PERIOD_US` in many short ones (thousands of slices
 * of a few µs, the case where an accounting that rounds each slice drifts). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>

static long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  long long total = atoll(argv[1]) * 1000, period = argc > 2 ? atoll(argv[2]) : total,
            end = now_us() + total;
  while (now_us() < end) {
    struct timespec nap = {period / 1000000, (long)(period % 1000000) * 1000};
    nanosleep(&nap, NULL);
  }
  return 0;
}
