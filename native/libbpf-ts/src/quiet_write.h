// SPDX-License-Identifier: MIT
// write(2) that fails by its errno alone: while a QuietWrites lives, the signals that come with
// EPIPE and EFBIG do not end the process.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>

namespace libbpf_ts {

class QuietWrites {
 public:
  QuietWrites() {
    sigemptyset(&ours_);
    sigaddset(&ours_, SIGPIPE);
    sigaddset(&ours_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &ours_, &before_);
  }
  QuietWrites(const QuietWrites&) = delete;
  QuietWrites& operator=(const QuietWrites&) = delete;
  ~QuietWrites() {
    // One that was blocked before stays pending: it harms nobody, and may be somebody else's.
    for (int signal : {SIGPIPE, SIGXFSZ}) {
      if (sigismember(&before_, signal)) sigdelset(&ours_, signal);
    }
    constexpr timespec kNow = {0, 0};
    if (failed_ && !sigisemptyset(&ours_)) {
      while (sigtimedwait(&ours_, nullptr, &kNow) > 0 || errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  // Bytes written, at least one, or a negative errno.
  ssize_t Write(int fd, const char* data, size_t size) {
    for (;;) {
      ssize_t written = write(fd, data, size);
      if (written > 0) return written;
      if (written < 0 && errno == EINTR) continue;
      failed_ = true;
      return written < 0 ? -errno : -EIO;
    }
  }

 private:
  sigset_t ours_;
  sigset_t before_;
  bool failed_ = false;
};

}  // namespace libbpf_ts
