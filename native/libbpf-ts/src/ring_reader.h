// SPDX-License-Identifier: MIT
// Reads BPF ring buffers (kernel >= 5.8) and tells when there is something to read. Knows nothing
// of JavaScript, so that it can run under ThreadSanitizer by itself.
//
// One thread reads. A second one, started by StartNotifier, only looks: it never moves a position.
#pragma once

#include <pthread.h>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#include "failure.h"
#include "fd.h"
#include "ring_memory.h"

namespace libbpf_ts {

class RingReader {
 public:
  RingReader() = default;
  RingReader(const RingReader&) = delete;
  RingReader& operator=(const RingReader&) = delete;
  ~RingReader();

  // Before StartNotifier only. `size` is the map's max_entries.
  Failure AddRing(int map_fd, uint32_t size, const std::string& name);

  struct Result {
    size_t bytes = 0;  // written to `out`
    size_t records = 0;
    size_t needed = 0;  // > 0: nothing fitted, the first record wants this much room
  };
  // Copies whole records to `out`: u32 length, u32 ring index, payload, padding to 8 bytes.
  Result Read(uint8_t* out, size_t capacity, size_t max_records);

  // An upper bound on what Read would write now, discarded and unfinished records included.
  size_t Pending() const;

  // Calls `notify` on another thread when a record is ready; then not again until Rearm.
  Failure StartNotifier(std::function<void()> notify);
  void Rearm();
  void Stop();  // joins the thread; idempotent

 private:
  bool ReadRing(uint32_t index, uint8_t* out, size_t capacity, size_t max_records, Result* result);
  bool Ready() const;
  void Watch();

  std::vector<RingMemory> rings_;
  size_t next_ring_ = 0;  // where the next Read starts, so that a full ring does not starve others

  std::function<void()> notify_;
  pthread_t thread_{};
  bool running_ = false;
  std::mutex mutex_;
  std::condition_variable rearmed_;
  bool armed_ = true;
  bool stopping_ = false;
  Fd epoll_;
  Fd wake_;
};

}  // namespace libbpf_ts
