// SPDX-License-Identifier: MIT
// The files that continue a first one: syscall.csv, then syscall.1.csv, syscall.2.csv …, made like
// it.
#pragma once

#include <sys/types.h>
#include <cstdint>
#include <string>
#include "fd.h"

namespace libbpf_ts {

class FileSeries {
 public:
  FileSeries() = default;
  // Mode and owner are those of `first`.
  FileSeries(Fd folder, const std::string& name, int first);

  // 0, or the errno of why there is no next one. Never follows a link, never opens what is there.
  int Create(Fd* out);
  // Removes the one made last, which shall not be.
  void Discard();

 private:
  int Adopt(int fd) const;

  Fd folder_;
  std::string stem_;
  std::string extension_;
  std::string last_;
  uint64_t number_ = 0;
  mode_t mode_ = 0;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
};

}  // namespace libbpf_ts
