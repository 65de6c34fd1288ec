// SPDX-License-Identifier: MIT
// Writes numbered rows of several sources to a CsvFile the way its user does, tells what was lost
// in LOST rows, and checks what others read back: every row is there once, in order, or told as
// lost at the place where it is missing. Counts by itself; the file's own figures are checked
// against that.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "check.h"
#include "csv_file.h"
#include "event_table.h"

constexpr const char* kHeader = "Ticks,PID,COMM,ACTION,TEXT\n";

using SourcePointer = std::shared_ptr<const libbpf_ts::Source>;

struct Told {
  uint64_t events = 0;
  uint64_t lost = 0;
  uint64_t other = 0;
};

// What is in a file, by pid. Checks that each row is whole and stands where it has to.
struct Reading {
  std::map<uint32_t, Told> sources;
  uint64_t rows = 0;
  uint64_t headers = 0;

  void Row(std::string_view row) {
    if (row == kHeader) {
      headers++;
      return;
    }
    rows++;
    std::string line(row);
    unsigned pid = 0;
    unsigned long long number = 0;
    int end = 0;
    if (sscanf(line.c_str(), "%u,LOST,%llu\n%n", &pid, &number, &end) == 2) {
      CHECK(static_cast<size_t>(end) == line.size() && number > 0);
      sources[pid].lost += number;
      return;
    }
    if (sscanf(line.c_str(), "END,%u\n%n", &pid, &end) == 1) {
      CHECK(static_cast<size_t>(end) == line.size());
      sources[pid].other++;
      return;
    }
    CHECK(sscanf(line.c_str(), "%u,%llu,\"%n", &pid, &number, &end) == 2);
    Told& told = sources[pid];
    CHECK(number == told.events + told.lost);
    CHECK(line == std::to_string(pid) + "," + std::to_string(number) + "," + Text(number));
    told.events++;
  }

  void All(std::string_view text) {
    bool quoted = false;
    size_t begin = 0;
    for (size_t i = 0; i < text.size(); i++) {
      if (text[i] == '"') quoted = !quoted;
      if (text[i] != '\n' || quoted) continue;
      Row(text.substr(begin, i + 1 - begin));
      begin = i + 1;
    }
    CHECK(begin == text.size());
  }

  // Cells of many lengths, with a line break in them; every 997th is longer than a pipe takes at
  // once.
  static std::string Text(uint64_t number) {
    size_t length = number % 997 == 996 ? 9000 : number * 7 % 61;
    return "\"" + std::string(length, static_cast<char>('a' + number % 26)) + "\n\"\n";
  }
};

class Producer {
 public:
  Producer(libbpf_ts::CsvFile* file, uint32_t sources) : file_(file) {
    for (uint32_t pid = 1; pid <= sources; pid++) {
      auto source = std::make_shared<libbpf_ts::Source>();
      source->pid = pid;
      sources_.push_back(source);
    }
  }

  // Events of changing sources.
  void Write(uint64_t rows) {
    for (uint64_t i = 0; i < rows; i++, step_++) {
      const SourcePointer& source = sources_[step_ / 3 % sources_.size()];
      uint64_t number = happened_[source->pid]++;
      std::string row =
          std::to_string(source->pid) + "," + std::to_string(number) + "," + Reading::Text(number);
      if (!Tell() || !Put(row, source, true, 0)) file_->Drop(source);
    }
  }

  // False when there was no room for all LOST rows.
  bool Tell() {
    Take();
    while (!untold_.empty()) {
      auto& [source, count] = *untold_.begin();
      std::string row = std::to_string(source->pid) + ",LOST," + std::to_string(count) + "\n";
      if (!Put(row, source, false, count)) {
        Take();
        return false;
      }
      untold_.erase(untold_.begin());
    }
    return true;
  }

  void End() {
    for (const SourcePointer& source : sources_) {
      Put("END," + std::to_string(source->pid) + "\n", source, false, 0);
    }
  }

  // After Close: what was read back, and what nobody could be told any more, is all there was.
  void Check(const Reading& read) {
    Take();
    std::map<uint32_t, uint64_t> untold;
    for (const auto& [source, count] : untold_) untold[source->pid] += count;
    uint64_t events = 0;
    uint64_t happened = 0;
    for (const auto& [pid, count] : happened_) {
      auto found = read.sources.find(pid);
      Told told = found == read.sources.end() ? Told() : found->second;
      CHECK(told.events + told.lost + untold[pid] == count);
      events += told.events;
      happened += count;
    }
    libbpf_ts::CsvFile::Figures figures = file_->figures();
    CHECK(figures.rows == read.rows);
    CHECK(figures.events == events);
    CHECK(figures.events + figures.events_lost == happened);
    CHECK(figures.rows + figures.rows_lost == happened + put_other_);
    CHECK(read.headers == figures.files);
  }

  uint64_t happened() const { return step_; }

 private:
  bool Put(const std::string& row, const SourcePointer& source, bool event, uint64_t lost) {
    // What a user asks for is a bound.
    char* room = file_->Room(row.size() + 40);
    if (!room) return false;
    memcpy(room, row.data(), row.size());
    using libbpf_ts::RowKind;
    RowKind kind = lost > 0 ? RowKind::kLost : event ? RowKind::kEvent : RowKind::kOther;
    file_->Commit(room + row.size(), source, kind, lost);
    if (!event) put_other_++;
    return true;
  }

  void Take() {
    if (!file_->has_lost()) return;
    for (const libbpf_ts::Portion& portion : file_->TakeLost()) {
      CHECK(portion.events + portion.lost > 0);
      CHECK(portion.rows >= portion.events);
      untold_[portion.source] += portion.events + portion.lost;
    }
    CHECK(!file_->has_lost());
  }

  libbpf_ts::CsvFile* file_;
  std::vector<SourcePointer> sources_;
  std::map<uint32_t, uint64_t> happened_;
  std::map<SourcePointer, uint64_t> untold_;
  uint64_t step_ = 0;
  uint64_t put_other_ = 0;
};
