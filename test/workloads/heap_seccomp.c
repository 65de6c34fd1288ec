// SPDX-License-Identifier: MIT
// Owns: a heap in a process that a seccomp filter kills for anything but what stating its count takes: since Linux 6.11 a return probe is a
// system call, and must not be the one that kills it. Does not own: how the kernel lets it pass.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "heap_count.h"

int main(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof code / sizeof code[0], code};
  void *blocks[20];
  // One first, so that the allocator has its memory: brk and mmap will be forbidden.
  blocks[0] = opaque(malloc(1000));
  counted(1000);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) die("seccomp");
  for (size_t i = 1; i < 20; i++) {
    blocks[i] = opaque(malloc(100 + i));
    counted(100 + i);
  }
  for (size_t i = 1; i < 20; i += 2) {
    free(blocks[i]);
    uncounted(100 + i);
  }
  leave("main", 0);
}
