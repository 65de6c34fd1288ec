// SPDX-License-Identifier: MIT
// Owns: the time one round between two processes takes, as they see it: over pipes (two scheduler switches and no packet) or
// over UDP on loopback (the same, and two packets). For bench/cost.ts.
//
// Usage: net_pingpong pipe|udp ROUNDS ; prints nanoseconds per round.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int ends[2][2];  // [side][0 to read from, 1 to write to]

static void open_pipes(void) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) exit(1);
  ends[0][0] = back[0], ends[0][1] = there[1];
  ends[1][0] = there[0], ends[1][1] = back[1];
}

static void open_sockets(void) {
  int fds[2];
  struct sockaddr_in places[2];
  socklen_t length = sizeof places[0];
  for (int i = 0; i < 2; i++) {
    fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&places[i], 0, sizeof places[i]);
    places[i].sin_family = AF_INET;
    places[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&places[i], length) != 0) exit(1);
    if (getsockname(fds[i], (struct sockaddr *)&places[i], &length) != 0) exit(1);
  }
  for (int i = 0; i < 2; i++) {
    if (connect(fds[i], (struct sockaddr *)&places[1 - i], length) != 0) exit(1);
    ends[i][0] = ends[i][1] = fds[i];
  }
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  long rounds = atol(arguments[2]);
  char byte = 0;
  if (strcmp(arguments[1], "udp") == 0) open_sockets();
  else open_pipes();
  // One CPU: every message is a switch, never a wake-up of an idle one.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  sched_setaffinity(0, sizeof one, &one);
  pid_t child = fork();
  if (child == 0) {
    for (long i = 0; i < rounds; i++)
      if (read(ends[1][0], &byte, 1) != 1 || write(ends[1][1], &byte, 1) != 1) _exit(1);
    _exit(0);
  }
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (long i = 0; i < rounds; i++)
    if (write(ends[0][1], &byte, 1) != 1 || read(ends[0][0], &byte, 1) != 1) return 1;
  clock_gettime(CLOCK_MONOTONIC, &end);
  waitpid(child, NULL, 0);
  printf("%.1f\n", ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (double)rounds);
  return 0;
}
