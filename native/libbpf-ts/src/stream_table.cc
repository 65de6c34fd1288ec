// SPDX-License-Identifier: MIT
#include "stream_table.h"

#include <algorithm>

namespace libbpf_ts {

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
  for (const Portion& portion : file_->TakeLost()) {
    if (!portion.source) continue;
    Charge(portion.source, portion.events);
    Owe(portion.source, portion.events + portion.lost, portion.ended);
  }
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

void StreamTable::RemoveTap(const EventTap* tap) {
  taps_.erase(std::remove_if(taps_.begin(), taps_.end(),
                             [tap](const auto& other) { return other.get() == tap; }),
              taps_.end());
}

void StreamTable::Charge(const SourcePointer& source, uint64_t count) {
  if (count == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  Loss& loss = losses_[source->id];
  loss.pid = source->pid;
  loss.name = source->name;
  loss.count += count;
}

void StreamTable::Owe(const SourcePointer& source, uint64_t lost, bool ended) {
  if (lost == 0 && !ended) return;
  Owed& owed = untold_[source->id];
  owed.source = source;
  owed.lost += lost;
  owed.ended |= ended;
}

std::vector<StreamTable::Loss> StreamTable::losses() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Loss> all;
  for (const auto& [id, loss] : losses_) all.push_back(loss);
  return all;
}

}  // namespace libbpf_ts
