// SPDX-License-Identifier: MIT
// Several ring buffers read as one, in order of time. Copies nothing; knows of a record only where
// its time stands.
//
// Why the order of cause and effect is exact, also for a thread that changes its CPU: a record is
// stamped before its space is reserved, so whatever lies before it in its ring carries a stamp from
// before the reservation. When a later record is taken as the earliest of all heads, an earlier one
// of the same thread can therefore not still be waiting in another ring, provided that it was
// visible. It was: the horizon is read before the producers' positions, and nothing stamped after
// it is taken.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>
#include "ring_memory.h"

namespace libbpf_ts {

class RingMerge {
 public:
  // Longer ones cannot be read, and are passed over.
  static constexpr uint32_t kMaxRecord = 32 << 10;

  void Add(RingMemory&& ring) {
    Cursor cursor;
    cursor.position = cursor.released = ring.consumed();
    rings_.push_back(std::move(ring));
    cursors_.push_back(cursor);
  }

  // Offset of the u64 stamp in every record; shorter records are passed over.
  void set_time_offset(uint32_t offset) { time_offset_ = offset; }
  const std::vector<RingMemory>& rings() const { return rings_; }
  // Whether more waits in a ring than when all goes well.
  bool Crowded() const {
    for (size_t ring = 0; ring < rings_.size(); ring++) {
      size_t waiting = rings_[ring].produced() - cursors_[ring].position;
      if (waiting > rings_[ring].size() / kCrowded) return true;
    }
    return false;
  }

  // visit(data, length) for every record stamped up to `horizon_ns`, which the caller has read from
  // the records' clock before this call. False when a record still being written stands in the way:
  // what follows it in any ring might have to come after it.
  template <typename Visit>
  bool Pass(uint64_t horizon_ns, Visit&& visit) {
    heads_.clear();
    bool complete = true;
    for (size_t ring = 0; ring < rings_.size() && complete; ring++) {
      cursors_[ring].produced = rings_[ring].produced();
      complete = Seek(ring, horizon_ns);
    }
    while (complete && !heads_.empty()) {
      std::pop_heap(heads_.begin(), heads_.end(), Later);
      size_t ring = heads_.back().ring;
      heads_.pop_back();
      uint64_t limit = heads_.empty() ? horizon_ns : heads_.front().ns;
      complete = Run(ring, limit, horizon_ns, visit);
    }
    for (size_t ring = 0; ring < rings_.size(); ring++) Release(ring);
    return complete;
  }

 private:
  struct Cursor {
    unsigned long position = 0;
    unsigned long produced = 0;
    unsigned long released = 0;
    RingMemory::Record record;
  };
  struct Head {
    uint64_t ns;
    size_t ring;
  };

  // Space is given back in steps: the kernel's side reads the position with every record it
  // reserves.
  static constexpr unsigned long kReleaseBytes = 32 << 10;
  // A program takes well below a microsecond from reserving to submitting.
  static constexpr int kBusyLooks = 2000;

  static constexpr size_t kCrowded = 32;  // a ring's size to what may wait in it

  static bool Later(const Head& a, const Head& b) { return a.ns > b.ns; }

  bool Readable(const RingMemory::Record& record) const {
    return !record.discarded && record.length <= kMaxRecord &&
           record.length >= time_offset_ + sizeof(uint64_t);
  }

  uint64_t TimeOf(const RingMemory::Record& record) const {
    uint64_t ns;
    memcpy(&ns, record.data + time_offset_, sizeof ns);
    return ns;
  }

  void Release(size_t ring) {
    Cursor& cursor = cursors_[ring];
    if (cursor.released == cursor.position) return;
    rings_[ring].Release(cursor.position);
    cursor.released = cursor.position;
  }

  RingMemory::Record Look(size_t ring) const {
    unsigned long position = cursors_[ring].position;
    RingMemory::Record record = rings_[ring].At(position);
    for (int look = 0; record.busy && look < kBusyLooks; look++) record = rings_[ring].At(position);
    return record;
  }

  // Puts the ring's next record among the heads, if there is one up to the horizon; false: it is
  // busy.
  bool Seek(size_t ring, uint64_t horizon_ns) {
    Cursor& cursor = cursors_[ring];
    while (cursor.position != cursor.produced) {
      cursor.record = Look(ring);
      if (cursor.record.busy) return false;
      if (Readable(cursor.record)) {
        uint64_t ns = TimeOf(cursor.record);
        if (ns > horizon_ns) return true;
        heads_.push_back({ns, ring});
        std::push_heap(heads_.begin(), heads_.end(), Later);
        return true;
      }
      cursor.position += cursor.record.padded;
    }
    return true;
  }

  // As long as this ring has the earliest record, no other needs looking at.
  template <typename Visit>
  bool Run(size_t ring, uint64_t limit, uint64_t horizon_ns, Visit& visit) {
    Cursor& cursor = cursors_[ring];
    for (;;) {
      visit(cursor.record.data, cursor.record.length);
      cursor.position += cursor.record.padded;
      if (cursor.position - cursor.released >= kReleaseBytes) Release(ring);
      if (cursor.position == cursor.produced) return true;
      RingMemory::Record next = rings_[ring].At(cursor.position);
      if (next.busy || !Readable(next) || TimeOf(next) > limit) return Seek(ring, horizon_ns);
      cursor.record = next;
    }
  }

  std::vector<RingMemory> rings_;
  std::vector<Cursor> cursors_;
  std::vector<Head> heads_;
  uint32_t time_offset_ = 0;
};

}  // namespace libbpf_ts
