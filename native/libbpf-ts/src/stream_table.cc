// SPDX-License-Identifier: MIT
#include "stream_table.h"

#include <algorithm>

namespace libbpf_ts {
namespace {

// Never destroyed: process.exit() does not wait for the writer's thread.
const StreamTable::SourcePointer& Nobody() {
  static const auto& nobody = *new StreamTable::SourcePointer(
      std::make_shared<const Source>(Source{UINT32_MAX, 0, "", SourceCells(0, "")}));
  return nobody;
}

}  // namespace

void StreamTable::Write(const uint8_t* record, uint32_t length, uint64_t ns,
                        const SourcePointer& source) {
  for (const auto& tap : taps_) tap->Offer(record, length, ns, *source);
  if (!untold_.empty() || file_->has_lost()) Settle(ns);
  // What is missing is told before what comes after it.
  char* to = untold_.empty() ? file_->Room(table_.row_bound(*source)) : nullptr;
  if (to == nullptr) {
    file_->Drop(source);
    return;
  }
  file_->Commit(table_.Row(to, record, length, *source), source, RowKind::kEvent);
}

void StreamTable::Lost(uint64_t ns, const SourcePointer& source, uint64_t count) {
  if (count == 0) return;
  Charge(source, count);
  Owe(source, count, false);
  Settle(ns);
}

void StreamTable::End(uint64_t ns, const SourcePointer& source) {
  Owe(source, 0, true);
  Settle(ns);
}

void StreamTable::Settle(uint64_t ns) {
  Collect();
  while (!untold_.empty() && Tell(ns, &untold_.begin()->second)) untold_.erase(untold_.begin());
}

bool StreamTable::Tell(uint64_t ns, Owed* owed) {
  const SourcePointer& source = owed->source;
  if (owed->lost > 0) {
    char* to = file_->Room(table_.row_bound(*source));
    if (to == nullptr) return false;
    file_->Commit(table_.LostRow(to, ns, *source, owed->lost), source, RowKind::kLost, owed->lost);
    owed->lost = 0;
  }
  if (owed->ended) {
    char* to = file_->Room(table_.row_bound(*source));
    if (to == nullptr) return false;
    file_->Commit(table_.EndRow(to, *source), source, RowKind::kEnd);
  }
  return true;
}

void StreamTable::Collect() {
  for (const auto& file : earlier_) Collect(file.get());
  Collect(file_.get());
}

void StreamTable::Collect(CsvFile* file) {
  if (!file->has_lost()) return;
  for (const Portion& portion : file->TakeLost()) {
    if (!portion.source) continue;
    Charge(portion.source, portion.events);
    Owe(portion.source, portion.events + portion.lost, portion.ended);
  }
}

void StreamTable::MoveTo(std::shared_ptr<CsvFile> file) {
  if (file == file_) return;
  earlier_.erase(std::remove(earlier_.begin(), earlier_.end(), file), earlier_.end());
  earlier_.push_back(std::exchange(file_, std::move(file)));
}

void StreamTable::Closed(const std::shared_ptr<CsvFile>& file) {
  Collect();
  earlier_.erase(std::remove(earlier_.begin(), earlier_.end(), file), earlier_.end());
}

void StreamTable::RemoveTap(const EventTap* tap) {
  taps_.erase(std::remove_if(taps_.begin(), taps_.end(),
                             [tap](const auto& other) { return other.get() == tap; }),
              taps_.end());
}

void StreamTable::Charge(const SourcePointer& source, uint64_t count) {
  if (count == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  bool full = losses_.size() >= kMaxNamed && losses_.count(source->id) == 0;
  const SourcePointer& named = full ? Nobody() : source;
  Loss& loss = losses_[named->id];
  loss.pid = named->pid;
  loss.name = named->name;
  loss.count += count;
}

void StreamTable::Owe(const SourcePointer& source, uint64_t lost, bool ended) {
  if (lost == 0 && !ended) return;
  bool full = untold_.size() >= kMaxNamed && untold_.count(source->id) == 0;
  const SourcePointer& named = full ? Nobody() : source;
  Owed& owed = untold_[named->id];
  owed.source = named;
  owed.lost += lost;
  owed.ended |= ended && !full;
}

std::vector<StreamTable::Loss> StreamTable::losses() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Loss> all;
  for (const auto& [id, loss] : losses_) all.push_back(loss);
  return all;
}

}  // namespace libbpf_ts
