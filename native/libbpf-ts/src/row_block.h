// SPDX-License-Identifier: MIT
// Rows that wait to be written, as one piece of text, and whom they are about. Knows nothing of
// files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

namespace libbpf_ts {

struct Source;

enum class RowKind : uint8_t { kEvent, kLost, kEnd, kOther, kHeader };

// Rows of one kind and source that follow each other; of LOST rows always one.
struct RowRun {
  std::shared_ptr<const Source> source;
  uint64_t rows = 0;
  uint64_t lost = 0;
  RowKind kind = RowKind::kOther;
};

class RowBlock {
 public:
  // False: not enough memory. The pages are not touched before they are used. `mark_ends`: remember
  // where each row ends.
  bool Allocate(size_t capacity, bool mark_ends) {
    text_.reset(new (std::nothrow) char[capacity]);
    capacity_ = text_ ? capacity : 0;
    mark_ends_ = mark_ends;
    return text_ != nullptr;
  }

  bool empty() const { return used_ == 0; }
  size_t used() const { return used_; }
  size_t capacity() const { return capacity_; }
  char* end() { return text_.get() + used_; }
  std::string_view text() const { return {text_.get(), used_}; }

  // Takes what was written at end(), up to `end`.
  void Add(char* end, const std::shared_ptr<const Source>& source, RowKind kind, uint64_t rows,
           uint64_t lost) {
    used_ = static_cast<size_t>(end - text_.get());
    if (mark_ends_) ends_.push_back(static_cast<uint32_t>(used_));
    if (!runs_.empty() && kind != RowKind::kLost) {
      RowRun& last = runs_.back();
      if (last.source.get() == source.get() && last.kind == kind) {
        last.rows += rows;
        return;
      }
    }
    runs_.push_back({source, rows, lost, kind});
  }

  const std::vector<uint32_t>& ends() const { return ends_; }
  const std::vector<RowRun>& runs() const { return runs_; }

  // The first `rows` of the runs, or all there are, which are then no longer here; the text stays.
  std::vector<RowRun> TakeRuns(uint64_t rows = UINT64_MAX);
  void SetRuns(std::vector<RowRun> runs) { runs_ = std::move(runs); }

  void Clear() {
    used_ = 0;
    ends_.clear();
    runs_.clear();
  }

 private:
  std::unique_ptr<char[]> text_;
  size_t capacity_ = 0;
  size_t used_ = 0;
  bool mark_ends_ = false;
  std::vector<uint32_t> ends_;
  std::vector<RowRun> runs_;
};

inline std::vector<RowRun> RowBlock::TakeRuns(uint64_t rows) {
  std::vector<RowRun> taken;
  size_t whole = 0;
  while (whole < runs_.size() && runs_[whole].rows <= rows) {
    rows -= runs_[whole].rows;
    taken.push_back(std::move(runs_[whole]));
    whole++;
  }
  if (whole < runs_.size() && rows > 0) {
    taken.push_back(runs_[whole]);
    taken.back().rows = rows;
    runs_[whole].rows -= rows;
  }
  runs_.erase(runs_.begin(), runs_.begin() + static_cast<std::ptrdiff_t>(whole));
  return taken;
}

}  // namespace libbpf_ts
