// SPDX-License-Identifier: MIT
#include "event_tap.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace libbpf_ts {
namespace {

constexpr size_t kMaxWaiting = 4 << 20;
constexpr uint64_t kSecond = 1000000000;

}  // namespace

EventTap::EventTap(std::vector<Condition> where, uint32_t per_second, std::function<void()> notify)
    : where_(std::move(where)),
      price_ns_(kSecond / std::max(per_second, 1u)),
      saved_ns_(kSecond),
      notify_(std::move(notify)) {}

// A second's worth may come at once.
bool EventTap::Afford(uint64_t ns) {
  if (ns > last_ns_) {
    if (last_ns_ != 0) saved_ns_ = std::min(kSecond, saved_ns_ + (ns - last_ns_));
    last_ns_ = ns;
  }
  if (saved_ns_ < price_ns_) return false;
  saved_ns_ -= price_ns_;
  return true;
}

void EventTap::Offer(const uint8_t* record, uint32_t length, uint64_t ns, const Source& source) {
  for (const Condition& condition : where_) {
    if (!condition.Holds(record, length)) return;
  }
  bool afford = Afford(ns);
  size_t padded = (length + size_t{7}) & ~size_t{7};
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<uint8_t>& bytes = waiting_.bytes;
  if (!afford || bytes.size() + kHeaderSize + padded > kMaxWaiting) {
    waiting_.skipped++;
    return;
  }
  size_t at = bytes.size();
  bytes.resize(at + kHeaderSize + padded);
  memcpy(&bytes[at], &length, sizeof length);
  memcpy(&bytes[at + 4], &source.pid, sizeof source.pid);
  memcpy(&bytes[at + 8], source.name.data(), std::min(source.name.size(), kNameSize));
  memcpy(&bytes[at + kHeaderSize], record, length);
  if (told_) return;
  told_ = true;
  notify_();
}

EventTap::Taken EventTap::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  told_ = false;
  return std::exchange(waiting_, {});
}

}  // namespace libbpf_ts
