// SPDX-License-Identifier: MIT
// perf_event_open(2), for programs that run on perf events.
#pragma once

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <cstdint>
#include "fd.h"

namespace libbpf_ts {

// Returns 0 or a negative errno.
inline int OpenPerfEvent(perf_event_attr* attributes, int pid, int cpu, Fd* out) {
  attributes->size = sizeof *attributes;
  long fd = syscall(SYS_perf_event_open, attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) return -errno;
  *out = Fd(static_cast<int>(fd));
  return 0;
}

}  // namespace libbpf_ts
