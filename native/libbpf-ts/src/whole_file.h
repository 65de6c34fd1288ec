// SPDX-License-Identifier: MIT
// A regular file, opened with O_APPEND, that grows by whole pieces or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include "fd.h"

namespace libbpf_ts {

class WholeFile {
 public:
  WholeFile() = default;
  explicit WholeFile(Fd fd) : fd_(std::move(fd)) {}

  // 0, or the errno of why nothing of the piece is in the file.
  int Append(std::string_view piece);
  uint64_t size() const { return size_; }  // of all pieces
  void Close() { fd_.Reset(); }

 private:
  int CutTorn();

  Fd fd_;
  uint64_t size_ = 0;
  uint64_t torn_ = 0;  // bytes at the end that belong to no whole piece
};

}  // namespace libbpf_ts
