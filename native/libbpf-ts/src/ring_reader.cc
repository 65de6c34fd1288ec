// SPDX-License-Identifier: MIT
#include "ring_reader.h"

#include <linux/bpf.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <csignal>
#include <cstring>

namespace libbpf_ts {
namespace {

constexpr size_t kHeader = BPF_RINGBUF_HDR_SZ;  // 8 bytes: length and flags, page offset
constexpr uint32_t kFlags = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT;

size_t RoundUp8(size_t size) { return (size + 7) & ~size_t{7}; }

uint32_t LoadHeader(const uint8_t* record) {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(record), __ATOMIC_ACQUIRE);
}

}  // namespace

RingReader::~RingReader() {
  Stop();
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (Ring& ring : rings_) {
    munmap(ring.consumer_map, page);
    munmap(ring.producer_map, ring.producer_map_size);
    close(ring.fd);
  }
}

Failure RingReader::AddRing(int map_fd, uint32_t size, const std::string& name) {
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (size == 0 || (size & (size - 1)) != 0 || size % page != 0) {
    return Fail(EINVAL, "map ring buffer", name, "its size is not a power of two of pages");
  }
  // A descriptor of our own: the reader may outlive the map's.
  Fd fd(fcntl(map_fd, F_DUPFD_CLOEXEC, 3));
  if (!fd.valid()) return Fail(errno, "map ring buffer", name);
  Ring ring;
  ring.consumer_map = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (ring.consumer_map == MAP_FAILED) return Fail(errno, "map ring buffer", name);
  ring.producer_map_size = page + 2 * static_cast<size_t>(size);
  ring.producer_map = mmap(nullptr, ring.producer_map_size, PROT_READ, MAP_SHARED, fd.get(),
                           static_cast<off_t>(page));
  if (ring.producer_map == MAP_FAILED) {
    int error = errno;
    munmap(ring.consumer_map, page);
    return Fail(error, "map ring buffer", name);
  }
  ring.consumer = static_cast<unsigned long*>(ring.consumer_map);
  ring.producer = static_cast<const unsigned long*>(ring.producer_map);
  ring.data = static_cast<const uint8_t*>(ring.producer_map) + page;
  ring.mask = size - 1;
  ring.fd = fd.Release();
  rings_.push_back(ring);
  return {};
}

size_t RingReader::Pending() const {
  size_t bytes = 0;
  for (const Ring& ring : rings_) {
    bytes += __atomic_load_n(ring.producer, __ATOMIC_ACQUIRE) -
             __atomic_load_n(ring.consumer, __ATOMIC_RELAXED);
  }
  return bytes;
}

bool RingReader::Ready() const {
  for (const Ring& ring : rings_) {
    unsigned long position = __atomic_load_n(ring.consumer, __ATOMIC_ACQUIRE);
    if (position == __atomic_load_n(ring.producer, __ATOMIC_ACQUIRE)) continue;
    if ((LoadHeader(ring.data + (position & ring.mask)) & BPF_RINGBUF_BUSY_BIT) == 0) return true;
  }
  return false;
}

// Returns false when `out` or the record limit is full.
bool RingReader::ReadRing(uint32_t index, uint8_t* out, size_t capacity, size_t max_records,
                          Result* result) {
  Ring& ring = rings_[index];
  unsigned long position = __atomic_load_n(ring.consumer, __ATOMIC_RELAXED);
  bool room = true;
  for (;;) {
    unsigned long produced = __atomic_load_n(ring.producer, __ATOMIC_ACQUIRE);
    unsigned long start = position;
    while (position < produced) {
      const uint8_t* record = ring.data + (position & ring.mask);
      uint32_t header = LoadHeader(record);
      if (header & BPF_RINGBUF_BUSY_BIT) break;
      uint32_t length = header & ~kFlags;
      size_t padded = RoundUp8(kHeader + length);
      if ((header & BPF_RINGBUF_DISCARD_BIT) == 0) {
        if (result->records >= max_records || padded > capacity - result->bytes) {
          if (result->records == 0 && max_records > 0) result->needed = padded;
          room = false;
          break;
        }
        uint8_t* to = out + result->bytes;
        memcpy(to, &length, 4);
        memcpy(to + 4, &index, 4);
        memcpy(to + kHeader, record + kHeader, length);
        memset(to + kHeader + length, 0, padded - kHeader - length);
        result->bytes += padded;
        result->records++;
      }
      position += padded;
    }
    if (position == start) return room;
    // Sequentially consistent, then look again: the kernel wakes us only for a record written where
    // the consumer already stands, and decides that after publishing the record.
    __atomic_store_n(ring.consumer, position, __ATOMIC_SEQ_CST);
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
  for (const Ring& ring : rings_) watched.push_back(ring.fd);
  for (int fd : watched) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return Fail(errno, "watch ring buffer", "");
    }
  }
  notify_ = std::move(notify);
  // Signals belong to the host's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // Not std::thread: that throws when the process may have no more threads.
  int error = pthread_create(
      &thread_, nullptr,
      [](void* reader) -> void* {
        static_cast<RingReader*>(reader)->Watch();
        return nullptr;
      },
      this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
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
