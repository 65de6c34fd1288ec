/* Watches another process from outside, without treesnoop: `cpusample PID PERIOD_US FILE` writes,
 * until PID is gone, one line per period: BEFORE_NS AFTER_NS CLOCK_NS RUN_NS WAIT_NS STAT_TICKS
 * THREADS BEFORE and AFTER are CLOCK_REALTIME around the reading; CLOCK is the process's CPU clock
 * (exact, also while it runs); RUN and WAIT are the sums of the first and second field of
 * /proc/PID/task/<tid>/schedstat (the kernel brings RUN up to date at its timer interrupt, so a
 * running thread lags by up to 1/HZ); STAT_TICKS is utime + stime of /proc/PID/stat. Scheduled
 * SCHED_FIFO where allowed, or it could not see a machine full of spinning threads in time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long read_clock(clockid_t id) {
  struct timespec now;
  if (clock_gettime(id, &now) != 0) return -1;
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int read_file(const char *path, char *text, size_t size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t length = read(file, text, size - 1);
  close(file);
  if (length <= 0) return 0;
  text[length] = 0;
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  pid_t pid = atoi(argv[1]);
  useconds_t period = (useconds_t)atoi(argv[2]);
  FILE *out = fopen(argv[3], "w");
  if (out == NULL) return perror(argv[3]), 2;
  setvbuf(out, NULL, _IOLBF, 0);
  struct sched_param priority = {.sched_priority = 10};
  sched_setscheduler(0, SCHED_FIFO, &priority);
  clockid_t clock;
  if (clock_getcpuclockid(pid, &clock) != 0) return 1;
  char folder[64], stat_path[64], path[400], text[1024];
  snprintf(folder, sizeof folder, "/proc/%d/task", pid);
  snprintf(stat_path, sizeof stat_path, "/proc/%d/stat", pid);
  for (;;) {
    long long before = read_clock(CLOCK_REALTIME), used = read_clock(clock), run = 0, wait = 0,
              one_run, one_wait;
    if (used < 0) return 0;
    DIR *tasks = opendir(folder);
    if (tasks == NULL) return 0;
    int threads = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
      snprintf(path, sizeof path, "%s/%s/schedstat", folder, entry->d_name);
      if (entry->d_name[0] == '.' || !read_file(path, text, sizeof text)) continue;
      if (sscanf(text, "%lld %lld", &one_run, &one_wait) != 2) continue;
      run += one_run;
      wait += one_wait;
      threads++;
    }
    closedir(tasks);
    unsigned long user = 0, system = 0;
    if (!read_file(stat_path, text, sizeof text)) return 0;
    char *after_name = strrchr(text, ')');
    if (after_name == NULL || after_name[2] == 'Z') return 0;
    sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    fprintf(out, "%lld %lld %lld %lld %lld %lu %d\n", before, read_clock(CLOCK_REALTIME), used, run,
            wait, user + system, threads);
    usleep(period);
  }
}
