// SPDX-License-Identifier: MIT
#include "file_series.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <string_view>
#include <utility>

namespace libbpf_ts {

namespace {

// Names in a row that may be taken; the next call goes on behind them.
constexpr int kTries = 1000;

// Where the extension begins, `.csv.gz` being one.
size_t ExtensionAt(std::string_view name) {
  for (std::string_view known : {".csv.gz", ".csv.zst"}) {
    if (name.size() > known.size() && name.substr(name.size() - known.size()) == known) {
      return name.size() - known.size();
    }
  }
  size_t dot = name.rfind('.');
  return dot == std::string_view::npos || dot == 0 ? name.size() : dot;
}

}  // namespace

FileSeries::FileSeries(Fd folder, const std::string& name, int first) : folder_(std::move(folder)) {
  size_t at = ExtensionAt(name);
  stem_ = name.substr(0, at);
  extension_ = name.substr(at);
  struct stat status;
  if (fstat(first, &status) != 0) return;
  mode_ = status.st_mode & 0777;
  uid_ = status.st_uid;
  gid_ = status.st_gid;
}

int FileSeries::Adopt(int fd) const {
  struct stat made;
  if (fstat(fd, &made) != 0) return errno;
  if ((made.st_uid != uid_ || made.st_gid != gid_) && fchown(fd, uid_, gid_) != 0) return errno;
  return fchmod(fd, mode_) == 0 ? 0 : errno;
}

int FileSeries::Create(Fd* out) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_APPEND | O_CLOEXEC;
  for (int tries = 0; tries < kTries; tries++) {
    std::string name = stem_ + "." + std::to_string(number_ + 1) + extension_;
    Fd fd(openat(folder_.get(), name.c_str(), kFlags, 0600));
    if (!fd.valid() && errno != EEXIST) return errno;
    number_++;
    if (!fd.valid()) continue;
    last_ = std::move(name);
    if (int error = Adopt(fd.get())) {
      Discard();
      return error;
    }
    *out = std::move(fd);
    return 0;
  }
  return EEXIST;
}

void FileSeries::Discard() {
  // Its number is free again.
  if (unlinkat(folder_.get(), last_.c_str(), 0) == 0) number_--;
}

}  // namespace libbpf_ts
