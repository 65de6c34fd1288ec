// SPDX-License-Identifier: MIT
// The program being probed. Reads commands from standard input, one letter each:
//   c  call probe_me(3) once        f  fork a child that calls it twice, wait for it
//   b  print the first byte of probe_me as it is in this process's memory
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int probe_me(int n) {
  __asm__ volatile("");
  return n + 4;
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  printf("ready\n");
  char command;
  while (read(0, &command, 1) == 1) {
    if (command == 'c') printf("%d\n", probe_me(3));
    if (command == 'f') {
      pid_t child = fork();
      if (child == 0) {
        int sum = probe_me(1);
        sum += probe_me(2);
        _exit(sum == 11 ? 0 : 1);
      }
      int status;
      waitpid(child, &status, 0);
      printf("%d\n", child);
    }
    if (command == 'b') printf("%02x\n", *(volatile unsigned char *)(void *)&probe_me);
  }
  return 0;
}
