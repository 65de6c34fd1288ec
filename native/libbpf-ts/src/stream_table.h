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
  // The last row of a source; later, where the file takes none now.
  void End(uint64_t ns, const SourcePointer& source);
  // Tells what is lost and not yet told, where the file takes it.
  void Settle(uint64_t ns);
  // Counts what the files could not take, without telling it yet.
  void Collect();
  // What the old file still loses is told in the new one.
  void MoveTo(std::shared_ptr<CsvFile> file);
  void Closed(const std::shared_ptr<CsvFile>& file);

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
  // Sources that are told apart when something is lost; of any more it is nobody's.
  static constexpr size_t kMaxNamed = 1 << 16;

  // Rows that found no room yet: what is missing, and the last one.
  struct Owed {
    SourcePointer source;
    uint64_t lost = 0;
    bool ended = false;
  };

  void Charge(const SourcePointer& source, uint64_t count);
  void Owe(const SourcePointer& source, uint64_t lost, bool ended);
  bool Tell(uint64_t ns, Owed* owed);
  void Collect(CsvFile* file);

  EventTable table_;
  std::shared_ptr<CsvFile> file_;
  std::vector<std::shared_ptr<CsvFile>> earlier_;  // not yet closed
  std::vector<std::shared_ptr<EventTap>> taps_;
  std::map<uint32_t, Owed> untold_;  // by serial number
  mutable std::mutex mutex_;         // of the figures below
  std::map<uint32_t, Loss> losses_;
};

}  // namespace libbpf_ts
