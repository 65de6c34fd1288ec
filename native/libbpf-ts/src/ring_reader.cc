// SPDX-License-Identifier: MIT
#include "ring_reader.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <cstring>
#include <utility>
#include "quiet_thread.h"

namespace libbpf_ts {
namespace {

constexpr size_t kHeader = 8;  // of a record as handed over: u32 length, u32 ring index

}  // namespace

RingReader::~RingReader() { Stop(); }

Failure RingReader::AddRing(int map_fd, uint32_t size, const std::string& name) {
  RingMemory ring;
  Failure failure = ring.Map(map_fd, size, size, name);
  if (!failure) rings_.push_back(std::move(ring));
  return failure;
}

size_t RingReader::Pending() const {
  size_t bytes = 0;
  for (const RingMemory& ring : rings_) bytes += ring.produced() - ring.consumed();
  return bytes;
}

bool RingReader::Ready() const {
  for (const RingMemory& ring : rings_) {
    unsigned long position = ring.consumed();
    if (position != ring.produced() && !ring.At(position).busy) return true;
  }
  return false;
}

// Returns false when `out` or the record limit is full.
bool RingReader::ReadRing(uint32_t index, uint8_t* out, size_t capacity, size_t max_records,
                          Result* result) {
  RingMemory& ring = rings_[index];
  unsigned long position = ring.consumed();
  bool room = true;
  for (;;) {
    unsigned long produced = ring.produced();
    unsigned long start = position;
    while (position < produced) {
      RingMemory::Record record = ring.At(position);
      if (record.busy) break;
      if (!record.discarded) {
        if (result->records >= max_records || record.padded > capacity - result->bytes) {
          if (result->records == 0 && max_records > 0) result->needed = record.padded;
          room = false;
          break;
        }
        uint8_t* to = out + result->bytes;
        memcpy(to, &record.length, 4);
        memcpy(to + 4, &index, 4);
        memcpy(to + kHeader, record.data, record.length);
        memset(to + kHeader + record.length, 0, record.padded - kHeader - record.length);
        result->bytes += record.padded;
        result->records++;
      }
      position += record.padded;
    }
    if (position == start) return room;
    ring.Release(position);  // then look again: see there
    if (!room) return false;
  }
}

RingReader::Result RingReader::Read(uint8_t* out, size_t capacity, size_t max_records) {
  Result result;
  size_t first = next_ring_;
  for (size_t step = 0; step < rings_.size(); step++) {
    size_t index = (first + step) % rings_.size();
    if (ReadRing(static_cast<uint32_t>(index), out, capacity, max_records, &result)) continue;
    // When nothing fitted the caller comes back with more room for this very record.
    next_ring_ = result.records == 0 ? index : (index + 1) % rings_.size();
    break;
  }
  return result;
}

Failure RingReader::StartNotifier(std::function<void()> notify) {
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.valid() || !wake_.valid()) return Fail(errno, "watch ring buffer", "");
  std::vector<int> watched = {wake_.get()};
  for (const RingMemory& ring : rings_) watched.push_back(ring.fd());
  for (int fd : watched) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return Fail(errno, "watch ring buffer", "");
    }
  }
  notify_ = std::move(notify);
  int error = StartQuietThread<RingReader, &RingReader::Watch>(&thread_, this);
  if (error != 0) return Fail(error, "watch ring buffer", "", "no thread to watch it with");
  running_ = true;
  return {};
}

void RingReader::Watch() {
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      rearmed_.wait(lock, [this] { return armed_ || stopping_; });
      if (stopping_) return;
    }
    // Records may be left over, or have been written without a wake-up.
    if (!Ready()) {
      epoll_event events[8];
      int count = epoll_wait(epoll_.get(), events, 8, -1);
      if (count < 0 && errno != EINTR) return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    if (!Ready()) continue;  // read by then, or a record still being written
    armed_ = false;
    // Under the lock: Stop() must not return while this runs. `notify` may not call back.
    notify_();
  }
}

void RingReader::Rearm() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    armed_ = true;
  }
  rearmed_.notify_one();
}

void RingReader::Stop() {
  if (!running_) return;
  running_ = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  rearmed_.notify_one();
  uint64_t one = 1;
  ssize_t wrote = write(wake_.get(), &one, sizeof one);
  (void)wrote;
  pthread_join(thread_, nullptr);
}

}  // namespace libbpf_ts
