// flags: -pthread
/* `syscalls_many PROCESSES THREADS CALLS`: that many processes at once with so many threads each,
 * and every thread makes so many calls getppid() and as many close(-1), which fail. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 64

static long calls;

static void *work(void *unused) {
  for (long i = 0; i < calls; i++) {
    syscall(SYS_getppid);
    syscall(SYS_close, -1);
  }
  return unused;
}

static void run(int threads) {
  pthread_t thread[THREADS_MAX];

  for (int i = 0; i < threads; i++)
    if (pthread_create(&thread[i], NULL, work, NULL) != 0) _exit(1);
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int processes = atoi(argv[1]), threads = atoi(argv[2]), failed = 0, status;
  calls = atol(argv[3]);
  if (threads > THREADS_MAX) return 2;
  for (int i = 0; i < processes; i++) {
    pid_t child = fork();
    if (child == 0) run(threads);
    failed |= child < 0;
  }
  while (wait(&status) > 0) failed |= status != 0;
  return failed;
}
