// SPDX-License-Identifier: MIT
#include "unix_time.h"

#include <cstring>
#include "csv_text.h"

namespace libbpf_ts {
namespace {

constexpr int64_t kSecond = 1000000000;
constexpr int64_t kMicrosecond = 1000;
constexpr int64_t kMicroseconds = 1000000;  // in a second

}  // namespace

UnixTime::UnixTime(int64_t offset_ns) : offset_seconds_(offset_ns / kSecond) {
  int64_t rest = offset_ns % kSecond;
  if (rest < 0) {
    offset_seconds_--;
    rest += kSecond;
  }
  offset_ns_ = static_cast<uint32_t>(rest);
}

char* UnixTime::Write(char* to, uint64_t monotonic_ns) {
  // Apart, because the sum need not fit into 64 bits.
  int64_t second = static_cast<int64_t>(monotonic_ns / kSecond) + offset_seconds_;
  int64_t ns = static_cast<int64_t>(monotonic_ns % kSecond) + offset_ns_ + kMicrosecond / 2;
  second += ns / kSecond;
  int64_t micros = ns % kSecond / kMicrosecond;
  if (second < 0) return csv::Fixed(to, second * kMicroseconds + micros, kMicroseconds, 6);
  if (second != second_) {
    second_ = second;
    char* end = csv::Unsigned(digits_, static_cast<uint64_t>(second));
    *end++ = '.';
    length_ = static_cast<size_t>(end - digits_);
  }
  memcpy(to, digits_, sizeof digits_);  // more than length_: a fixed size is one instruction
  return csv::SixDigits(to + length_, static_cast<uint32_t>(micros));
}

}  // namespace libbpf_ts
