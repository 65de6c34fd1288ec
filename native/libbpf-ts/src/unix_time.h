// SPDX-License-Identifier: MIT
// CLOCK_MONOTONIC as Unix seconds in a CSV cell. Rows come in the order of time, so the digits of
// the second are kept from one to the next.
#pragma once

#include <cstddef>
#include <cstdint>

namespace libbpf_ts {

class UnixTime {
 public:
  static constexpr size_t kBound = 32;  // room that Write needs, and may use up to the end

  UnixTime() = default;
  // `offset_ns` is what makes Unix time of the monotonic clock.
  explicit UnixTime(int64_t offset_ns);

  // Seconds with 6 decimals, rounded half up. Returns the end; not const: remembers.
  char* Write(char* to, uint64_t monotonic_ns);

 private:
  int64_t offset_seconds_ = 0;  // rounded down, so that offset_ns_ is 0 or above
  uint32_t offset_ns_ = 0;
  int64_t second_ = -1;  // whose digits are kept
  char digits_[16] = {};
  size_t length_ = 0;
};

}  // namespace libbpf_ts
