/* A target that survives SIGINT and SIGTERM. Prints `ready PID`, then `got N` for each signal as it
 * arrives (a second instance of a pending signal would be merged by the kernel, so each is printed
 * from the handler at once). Ends after 30 s at the latest, so a failing test leaves nothing
 * behind. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void note(int number) {
  char text[] = "got 00\n";
  text[4] = (char)('0' + number / 10);
  text[5] = (char)('0' + number % 10);
  if (write(STDOUT_FILENO, text, sizeof text - 1) < 0) _exit(1);
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  printf("ready %d\n", getpid());
  fflush(stdout);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    usleep(10000);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < 30);
  return 0;
}
