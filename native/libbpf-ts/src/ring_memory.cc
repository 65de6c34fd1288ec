// SPDX-License-Identifier: MIT
#include "ring_memory.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <algorithm>
#include <utility>

namespace libbpf_ts {
namespace {

constexpr size_t kHeader = BPF_RINGBUF_HDR_SZ;  // 8 bytes: length and flags, page offset
constexpr uint32_t kFlags = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT;

size_t Page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

RingMemory::RingMemory(RingMemory&& other) noexcept
    : consumer_(other.consumer_),
      producer_(other.producer_),
      data_(other.data_),
      mask_(other.mask_),
      consumer_map_(std::exchange(other.consumer_map_, nullptr)),
      producer_map_(std::exchange(other.producer_map_, nullptr)),
      producer_map_size_(other.producer_map_size_),
      fd_(std::move(other.fd_)) {}

RingMemory::~RingMemory() {
  if (consumer_map_ != nullptr) munmap(consumer_map_, Page());
  if (producer_map_ != nullptr) munmap(producer_map_, producer_map_size_);
}

Failure RingMemory::Map(int map_fd, uint32_t size, uint32_t max_record, const std::string& name) {
  size_t page = Page();
  if (size == 0 || (size & (size - 1)) != 0 || size % page != 0) {
    return Fail(EINVAL, "map ring buffer", name, "its size is not a power of two of pages");
  }
  fd_ = Fd(fcntl(map_fd, F_DUPFD_CLOEXEC, 3));
  if (!fd_.valid()) return Fail(errno, "map ring buffer", name);
  void* consumer = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (consumer == MAP_FAILED) return Fail(errno, "map ring buffer", name);
  consumer_map_ = consumer;
  size_t again = std::min<size_t>(size, (kHeader + max_record + page - 1) / page * page);
  producer_map_size_ = page + size + again;
  void* producer =
      mmap(nullptr, producer_map_size_, PROT_READ, MAP_SHARED, fd_.get(), static_cast<off_t>(page));
  if (producer == MAP_FAILED) return Fail(errno, "map ring buffer", name);
  producer_map_ = producer;
  consumer_ = static_cast<unsigned long*>(consumer);
  producer_ = static_cast<const unsigned long*>(producer);
  data_ = static_cast<const uint8_t*>(producer) + page;
  mask_ = size - 1;
  return {};
}

RingMemory::Record RingMemory::At(unsigned long position) const {
  const uint8_t* record = data_ + (position & mask_);
  uint32_t header = __atomic_load_n(reinterpret_cast<const uint32_t*>(record), __ATOMIC_ACQUIRE);
  uint32_t length = header & ~kFlags;
  return {record + kHeader, length, (kHeader + length + 7) & ~size_t{7},
          (header & BPF_RINGBUF_BUSY_BIT) != 0, (header & BPF_RINGBUF_DISCARD_BIT) != 0};
}

}  // namespace libbpf_ts
