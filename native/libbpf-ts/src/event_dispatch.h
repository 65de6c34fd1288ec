// SPDX-License-Identifier: MIT
// From a record to the table of its stream, and the names of those the records are about. Of the
// writer's thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>
#include "fd.h"
#include "stream_table.h"

namespace libbpf_ts {

// Where things stand in the records, in bytes; from the object's BTF.
struct EventLayout {
  // Of every record: which stream (u32), whom it is about (u32), CLOCK_MONOTONIC ns (u64).
  uint32_t stream = 0, source = 0, time = 0;
  // Of an identity record (stream 0): pid (u32) and name (char array) of the source from now on.
  uint32_t identity_pid = 0, identity_name = 0, identity_name_size = 0;
  // Of a loss record (stream 1): so many (u64) of this stream (u32) found no room.
  uint32_t loss_of = 0, loss_count = 0;
  // A hash map from u32 source to a value with the same: for sources whose identity record was
  // lost.
  uint32_t value_size = 0, value_pid = 0, value_name = 0;
};

class EventDispatch {
 public:
  static constexpr uint32_t kStreams = 16;
  static constexpr uint32_t kIdentity = 0;
  static constexpr uint32_t kLoss = 1;
  static constexpr uint32_t kFirst = 2;  // of those that are tables

  void SetLayout(const EventLayout& layout, Fd sources);
  void Bind(uint32_t stream, std::shared_ptr<StreamTable> table);
  void Unbind(uint32_t stream);

  void Record(const uint8_t* record, uint32_t length);
  // A name from elsewhere: what a record or the map has said of the source is newer.
  void Suggest(uint32_t id, uint32_t pid, std::string_view name);
  // Lost records that no record in the ring tells of.
  void Lost(uint32_t stream, uint32_t id, uint64_t count, uint64_t ns);
  // Nothing more will come of this source.
  void End(uint32_t id, uint64_t ns);
  void Settle(uint64_t ns);
  void Collect();
  void Closed(const std::shared_ptr<CsvFile>& file);

 private:
  const std::shared_ptr<const Source>& Find(uint32_t id);
  void Introduce(uint32_t id, uint32_t pid, std::string_view name);
  bool LookUp(uint32_t id);
  void Identity(const uint8_t* record, uint32_t length, uint32_t id);
  void Loss(const uint8_t* record, uint32_t length, uint32_t id, uint64_t ns);

  EventLayout layout_;
  Fd sources_map_;
  uint32_t header_size_ = 0;
  std::vector<uint8_t> value_;
  std::array<std::shared_ptr<StreamTable>, kStreams> tables_;
  std::unordered_map<uint32_t, std::shared_ptr<const Source>> sources_;
  uint32_t last_id_ = 0;  // most records are about the same source as the one before
  const std::shared_ptr<const Source>* last_ = nullptr;
};

}  // namespace libbpf_ts
