/* `tree_rename NAME`: calls itself NAME (up to 15 bytes, any bytes: `\xNN` in the argument is a
 * byte), then waits long enough for a tick and ends. Prints `process PID`. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
  char name[16] = "";
  size_t length = 0;
  if (argc < 2) return 2;
  for (const char *at = argv[1]; *at && length < 15; length++) {
    if (at[0] == '\\' && at[1] == 'x') {
      char hex[3] = {at[2], at[3], 0};
      name[length] = (char)strtol(hex, NULL, 16);
      at += 4;
    } else {
      name[length] = *at++;
    }
  }
  if (prctl(PR_SET_NAME, name) != 0) return 1;
  printf("process %d\n", getpid());
  fflush(stdout);
  usleep(400000);
  return 0;
}
