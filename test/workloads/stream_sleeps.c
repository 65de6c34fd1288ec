/* Sleeps of known length: 95 of 1 ms, with 5 of 20 ms among them. Prints `slept REQUESTED TOOK` in
 * ns for each, TOOK measured around the call: a call took at least the first, at most the second.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000L + time.tv_nsec;
}

int main(void) {
  for (int i = 0; i < 100; i++) {
    struct timespec length = {.tv_nsec = i % 20 == 19 ? 20000000 : 1000000};
    long before = now();
    if (syscall(SYS_nanosleep, &length, NULL) != 0) return 1;
    printf("slept %ld %ld\n", length.tv_nsec, now() - before);
  }
  return 0;
}
