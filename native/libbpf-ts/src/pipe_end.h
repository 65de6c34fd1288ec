// SPDX-License-Identifier: MIT
// The writing end of a pipe that is never waited for: one block of rows is on its way through it,
// in pieces that end where a row ends. A piece begun is always finished first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>
#include "fd.h"
#include "row_block.h"

namespace libbpf_ts {

class PipeEnd {
 public:
  explicit PipeEnd(Fd fd) : fd_(std::move(fd)) {}
  bool Allocate(size_t capacity) { return rows_.Allocate(capacity, true); }

  bool idle() const { return sent_ == bytes_.size(); }
  // Only when idle. Leaves `block` empty. `packed`, unless null, is sent instead of its text, and
  // is one piece; it is left with what was there before.
  void Load(RowBlock* block, std::vector<char>* packed);
  // 0: the block is gone. EAGAIN: the pipe is full. Else nobody reads, or worse.
  int Send();
  // False: the pipe takes nothing within that time.
  bool Wait(int timeout_ms) const;

  struct Outcome {
    std::vector<RowRun> written;
    std::vector<RowRun> lost;
  };
  // What became of the block that was loaded. Of one that is not gone, what has not begun is given
  // up; the piece that has begun stays to be sent, unless `all`.
  Outcome Settle(bool all);
  uint64_t bytes() const { return total_; }

 private:
  size_t PieceEnd() const;

  Fd fd_;
  RowBlock rows_;
  std::vector<char> packed_;
  bool is_packed_ = false;
  std::string_view bytes_;  // of rows_ or packed_
  size_t sent_ = 0;         // of these
  size_t settled_ = 0;      // rows of these, told by Settle already
  uint64_t total_ = 0;      // ever sent
};

}  // namespace libbpf_ts
