/* Asks the kernel, through bpf(2) and nothing else, which of the given BPF objects still exist:
 * `bpfalive prog 12 13 link 4 map 7 ...` prints the ones that do, one per line. Exit 0 when none
 * does, 1 when some do. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int command = -1, alive = 0;
  const char *kind = "";
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] < '0' || argv[i][0] > '9') {
      kind = argv[i];
      command = strcmp(kind, "prog") == 0   ? BPF_PROG_GET_FD_BY_ID
                : strcmp(kind, "link") == 0 ? BPF_LINK_GET_FD_BY_ID
                : strcmp(kind, "map") == 0  ? BPF_MAP_GET_FD_BY_ID
                                            : -1;
      if (command < 0) return 2;
      continue;
    }
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_id =
        (unsigned)atoi(argv[i]); /* the id is the first member of the union for all three kinds */
    int fd = (int)syscall(SYS_bpf, command, &attr, sizeof attr);
    if (fd < 0 && errno == ENOENT) continue;
    if (fd < 0) return perror("bpf"), 2;
    close(fd);
    printf("%s %s\n", kind, argv[i]);
    alive = 1;
  }
  return alive;
}
