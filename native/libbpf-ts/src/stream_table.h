// SPDX-License-Identifier: MIT
// One stream's way to its file: rows, the rows that tell what is missing, and who looks on. Of the
// writer's thread but for what says otherwise.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>
#include "csv_file.h"
#include "event_table.h"
#include "event_tap.h"

namespace libbpf_ts {

class StreamTable {
 public:
  using SourcePointer = std::shared_ptr<const Source>;

  StreamTable(EventTable table, std::shared_ptr<CsvFile> file)
      : table_(std::move(table)), file_(std::move(file)) {}

  void Write(const uint8_t* record, uint32_t length, uint64_t ns, const SourcePointer& source);
  // So many records of this source never reached the ring.
  void Lost(uint64_t ns, const SourcePointer& source, uint64_t count);
  // The last row of a source.
  void End(uint64_t ns, const SourcePointer& source);
  // Tells what is lost and not yet told, where the file takes it.
  void Settle(uint64_t ns);
  void MoveTo(std::shared_ptr<CsvFile> file) { file_ = std::move(file); }

  void AddTap(std::shared_ptr<EventTap> tap) { taps_.push_back(std::move(tap)); }
  void RemoveTap(const EventTap* tap);

  struct Loss {
    uint32_t pid = 0;
    std::string name;
    uint64_t count = 0;
  };
  // Everything lost so far by source, in the order of their serial numbers. Any thread.
  std::vector<Loss> losses() const;

 private:
  void Charge(const SourcePointer& source, uint64_t count);
  struct Owed {
    SourcePointer source;
    uint64_t lost = 0;
    bool ended = false;
  };
  void Owe(const SourcePointer& source, uint64_t lost, bool ended);
  bool Tell(uint64_t ns, Owed* owed);

  EventTable table_;
  std::shared_ptr<CsvFile> file_;
  std::vector<std::shared_ptr<EventTap>> taps_;
  // Rows that found no room yet, by serial number: one tells what is missing of a source.
  std::map<uint32_t, Owed> untold_;
  mutable std::mutex mutex_;  // of the figures below
  std::map<uint32_t, Loss> losses_;
};

}  // namespace libbpf_ts
