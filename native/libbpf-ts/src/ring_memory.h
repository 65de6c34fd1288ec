// SPDX-License-Identifier: MIT
// The memory of one BPF ring buffer (kernel >= 5.8): positions and records, without copying. One
// thread moves the consumer's position; others may look.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include "failure.h"
#include "fd.h"

namespace libbpf_ts {

class RingMemory {
 public:
  RingMemory() = default;
  RingMemory(RingMemory&& other) noexcept;
  RingMemory& operator=(RingMemory&&) = delete;
  ~RingMemory();

  // A descriptor of our own is kept: the reader may outlive the map's. `size` is the map's
  // max_entries, `max_record` the longest record that can be read; the less, the fewer pages are
  // mapped twice.
  Failure Map(int map_fd, uint32_t size, uint32_t max_record, const std::string& name);

  struct Record {
    const uint8_t* data = nullptr;
    uint32_t length = 0;
    size_t padded = 0;  // to the next record's position
    bool busy = false;  // reserved and not yet submitted; nothing else of it is known
    bool discarded = false;
  };
  // `position` must lie before produced().
  Record At(unsigned long position) const;

  unsigned long produced() const { return __atomic_load_n(producer_, __ATOMIC_ACQUIRE); }
  unsigned long consumed() const { return __atomic_load_n(consumer_, __ATOMIC_ACQUIRE); }
  // Gives the space before `position` back to the kernel. Sequentially consistent: the kernel wakes
  // us only for a record written where the consumer already stands, and decides that after
  // publishing it.
  void Release(unsigned long position) { __atomic_store_n(consumer_, position, __ATOMIC_SEQ_CST); }

  int fd() const { return fd_.get(); }
  size_t size() const { return mask_ + 1; }

 private:
  unsigned long* consumer_ = nullptr;        // ours to write
  const unsigned long* producer_ = nullptr;  // the kernel's
  const uint8_t* data_ = nullptr;            // its start follows its end again: records never wrap
  size_t mask_ = 0;
  void* consumer_map_ = nullptr;
  void* producer_map_ = nullptr;
  size_t producer_map_size_ = 0;
  Fd fd_;
};

}  // namespace libbpf_ts
