// flags: -static
/* `FOLDER/even FOLDER N`: a program that executes itself N times, in turn by the names FOLDER/odd
 * and FOLDER/even. The K-th in the row calls getpriority(1000 + K) first. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  long count = atol(argv[2]), number = argc > 3 ? atol(argv[3]) : 0;
  char file[4096], text[24];
  syscall(SYS_getpriority, 1000 + number, 0);
  if (number == count) return 0;
  number++;
  snprintf(file, sizeof file, "%s/%s", argv[1], number % 2 ? "odd" : "even");
  snprintf(text, sizeof text, "%ld", number);
  execl(file, file, argv[1], argv[2], text, NULL);
  return 1;
}
