// flags: -pthread
// SPDX-License-Identifier: MIT
// Owns: the time one malloc/free pair takes, as the program itself sees it. For bench/cost.ts.
//
// Usage: heap_pair PAIRS [THREADS] ; prints nanoseconds per pair (of one thread).
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long pairs;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void *loop(void *result) {
  double start = now();
  for (long i = 0; i < pairs; i++) {
    void *pointer = malloc(32);
    __asm__ volatile("" : "+r"(pointer) : : "memory");  // or gcc removes both
    free(pointer);
  }
  *(double *)result = (now() - start) / (double)pairs;
  return NULL;
}

int main(int count, char **arguments) {
  enum { MOST = 64 };
  static double results[MOST];
  pthread_t ids[MOST];
  pairs = count > 1 ? atol(arguments[1]) : 1000000;
  int threads = count > 2 ? atoi(arguments[2]) : 1;
  if (pairs < 1 || threads < 1 || threads > MOST) return 2;
  for (int i = 1; i < threads; i++)
    if (pthread_create(&ids[i], NULL, loop, &results[i]) != 0) return 1;
  loop(&results[0]);
  double sum = results[0];
  for (int i = 1; i < threads; i++) {
    pthread_join(ids[i], NULL);
    sum += results[i];
  }
  printf("%.1f\n", sum / threads);
  return 0;
}
