// SPDX-License-Identifier: MIT
#include "pipe_end.h"

#include <limits.h>
#include <poll.h>
#include <algorithm>
#include <cerrno>
#include "quiet_write.h"

namespace libbpf_ts {

void PipeEnd::Load(RowBlock* block, std::vector<char>* packed) {
  rows_.Clear();
  std::swap(rows_, *block);
  is_packed_ = packed != nullptr;
  if (packed) packed_.swap(*packed);
  bytes_ = is_packed_ ? std::string_view(packed_.data(), packed_.size()) : rows_.text();
  sent_ = 0;
  settled_ = 0;
}

// Up to PIPE_BUF bytes are taken whole or not at all, so a reader never sees half a row of them,
// even when it is the last one. Only a longer row, and what is packed, can be broken off.
size_t PipeEnd::PieceEnd() const {
  const std::vector<uint32_t>& ends = rows_.ends();
  auto end = std::upper_bound(ends.begin(), ends.end(), sent_ + PIPE_BUF);
  if (is_packed_ || end == ends.begin()) return is_packed_ ? bytes_.size() : *end;
  size_t whole = *(end - 1) > sent_ ? *(end - 1) : *end;
  return std::min(whole, bytes_.size());
}

int PipeEnd::Send() {
  QuietWrites quiet;
  while (!idle()) {
    ssize_t written = quiet.Write(fd_.get(), bytes_.data() + sent_, PieceEnd() - sent_);
    if (written < 0) return static_cast<int>(-written);
    sent_ += static_cast<size_t>(written);
    total_ += static_cast<uint64_t>(written);
  }
  return 0;
}

bool PipeEnd::Wait(int timeout_ms) const {
  pollfd wanted = {fd_.get(), POLLOUT, 0};
  return poll(&wanted, 1, timeout_ms) > 0;
}

PipeEnd::Outcome PipeEnd::Settle(bool all) {
  Outcome outcome;
  if (idle()) {
    outcome.written = rows_.TakeRuns();
    return outcome;
  }
  const std::vector<uint32_t>& ends = rows_.ends();
  size_t whole = 0;
  bool begun = sent_ > 0;
  if (!is_packed_) {
    whole = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), sent_) - ends.begin());
    begun = sent_ > (whole == 0 ? 0 : ends[whole - 1]);
  }
  outcome.written = rows_.TakeRuns(whole - settled_);
  settled_ = whole;
  std::vector<RowRun> kept;
  if (begun && !all) kept = rows_.TakeRuns(is_packed_ ? UINT64_MAX : 1);
  outcome.lost = rows_.TakeRuns();
  rows_.SetRuns(std::move(kept));
  if (!begun || all) {
    bytes_ = {};
    sent_ = 0;
  } else if (!is_packed_) {
    bytes_ = bytes_.substr(0, ends[whole]);
  }
  return outcome;
}

}  // namespace libbpf_ts
