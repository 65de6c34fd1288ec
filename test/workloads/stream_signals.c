/* Calls that a signal breaks off, in the four ways the kernel has. A helper process (a child) waits
 * until the program is blocked in the call it has announced, as /proc tells, and only then acts, so
 * the calls are the same each time:
 *   1  read, a handler with SA_RESTART: broken off, read again, gets a byte
 *   2  read, a handler without: broken off, EINTR
 *   3  ppoll without a timeout, stopped and continued: called again; then a handler: EINTR
 *   4  futex with a timeout, stopped and continued: restart_syscall; then woken
 * Prints `process PID`; exits with 1 when a call did not end as said here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
  volatile int step, handled;
  int word;
} * shared;
static pid_t program;

static void handle(int number) {
  (void)number;
  shared->handled++;
}

static void content(const char *name, char *text, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", program, name);
  int file = open(path, O_RDONLY);
  ssize_t length = read(file, text, size - 1);
  text[length > 0 ? length : 0] = 0;
  close(file);
}

/* One of these letters is the state of the program. */
static int state(const char *letters) {
  char text[256];
  content("stat", text, sizeof text);
  char *name_end = strrchr(text, ')');
  return name_end != NULL && strchr(letters, name_end[2]) != NULL;
}

static void blocked(long number) {
  char text[256];
  do {
    usleep(1000);
    content("syscall", text, sizeof text);
  } while (!state("S") || strtol(text, NULL, 10) != number || text[0] == 'r');
}

static void reached(int step, long number) {
  while (shared->step != step) usleep(1000);
  blocked(number);
}

static void stop_and_go(long again) {
  kill(program, SIGSTOP);
  while (!state("Tt")) usleep(1000);
  kill(program, SIGCONT);
  blocked(again);
}

static void help(int end) {
  reached(1, SYS_read);
  kill(program, SIGUSR1);
  while (shared->handled != 1) usleep(1000);
  if (write(end, "x", 1) != 1) _exit(1);
  reached(2, SYS_read);
  kill(program, SIGUSR2);
  reached(3, SYS_ppoll);
  stop_and_go(SYS_ppoll);
  kill(program, SIGUSR2);
  reached(4, SYS_futex);
  stop_and_go(SYS_restart_syscall);
  syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, NULL, NULL, 0);
  _exit(0);
}

int main(void) {
  int ends[2], status;
  char byte;
  program = getpid();
  shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED || pipe(ends) != 0) return 1;
  struct sigaction restart = {.sa_handler = handle, .sa_flags = SA_RESTART};
  struct sigaction give_up = {.sa_handler = handle};
  sigaction(SIGUSR1, &restart, NULL);
  sigaction(SIGUSR2, &give_up, NULL);
  if (fork() == 0) help(ends[1]);
  shared->step = 1;
  if (syscall(SYS_read, ends[0], &byte, 1) != 1) return 1;
  shared->step = 2;
  if (syscall(SYS_read, ends[0], &byte, 1) != -1 || errno != EINTR) return 1;
  shared->step = 3;
  if (syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0) != -1 || errno != EINTR) return 1;
  shared->step = 4;
  struct timespec minutes = {.tv_sec = 600};
  if (syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, &minutes, NULL, 0) != 0) return 1;
  if (wait(&status) < 0 || status != 0) return 1;
  printf("process %d\n", program);
  return 0;
}
