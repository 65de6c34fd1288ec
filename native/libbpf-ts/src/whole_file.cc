// SPDX-License-Identifier: MIT
#include "whole_file.h"

#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include "quiet_write.h"

namespace libbpf_ts {

// From the end the file has now: somebody may have emptied it meanwhile.
int WholeFile::CutTorn() {
  if (torn_ == 0) return 0;
  struct stat now;
  if (fstat(fd_.get(), &now) != 0) return errno;
  uint64_t size = static_cast<uint64_t>(now.st_size);
  if (ftruncate(fd_.get(), static_cast<off_t>(size > torn_ ? size - torn_ : 0)) != 0) return errno;
  torn_ = 0;
  return 0;
}

int WholeFile::Append(std::string_view piece) {
  // What could not be cut off then must not be continued now.
  if (int error = CutTorn()) return error;
  QuietWrites quiet;
  while (torn_ < piece.size()) {
    ssize_t written = quiet.Write(fd_.get(), piece.data() + torn_, piece.size() - torn_);
    if (written < 0) {
      CutTorn();
      return static_cast<int>(-written);
    }
    torn_ += static_cast<uint64_t>(written);
  }
  torn_ = 0;
  size_ += piece.size();
  return 0;
}

}  // namespace libbpf_ts
