// SPDX-License-Identifier: MIT
// A consumer that looks at some of a stream's records. What it does not take in time is passed over
// and counted; the file never waits for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>
#include "event_table.h"

namespace libbpf_ts {

class EventTap {
 public:
  // At most `per_second` records by their own clock; `notify` is called when there is something to
  // take, then not again until Take.
  EventTap(std::vector<Condition> where, uint32_t per_second, std::function<void()> notify);

  // Of the writer's thread.
  void Offer(const uint8_t* record, uint32_t length, uint64_t ns, const Source& source);

  struct Taken {
    // Back to back: u32 length, u32 pid, name (16 bytes, padded with NUL), the record padded to 8.
    std::vector<uint8_t> bytes;
    uint64_t skipped = 0;  // matching records passed over since the last call
  };
  Taken Take();

  static constexpr size_t kNameSize = 16;
  static constexpr size_t kHeaderSize = 8 + kNameSize;

 private:
  bool Afford(uint64_t ns);

  const std::vector<Condition> where_;
  const uint64_t price_ns_;  // of one record
  uint64_t saved_ns_;
  uint64_t last_ns_ = 0;
  std::function<void()> notify_;

  std::mutex mutex_;
  Taken waiting_;
  bool told_ = false;
};

}  // namespace libbpf_ts
