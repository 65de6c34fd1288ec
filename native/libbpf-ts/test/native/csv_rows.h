// SPDX-License-Identifier: MIT
// A table of samples on disk: made for a writer, and read back.
#pragma once

#include <fcntl.h>
#include <unistd.h>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>
#include "check.h"
#include "csv_writer.h"

inline std::string scratch;  // an empty folder

inline constexpr const char* kRowsHeader = "Ticks,PID,COMM,SEQUENCE,CPU\n";

struct Row {
  std::string ticks, name;
  uint64_t pid = 0;
  uint64_t lost = 0;  // of a LOST row
  uint64_t sequence = 0;
  uint64_t cpu = 0;
  bool end() const { return ticks == "END"; }
};

inline std::string NextPath() {
  static std::atomic<int> number{0};
  return scratch + "/" + std::to_string(number.fetch_add(1)) + ".csv";
}

inline std::shared_ptr<libbpf_ts::CsvFile> Create(const std::string& path,
                                                  const char* header = kRowsHeader) {
  libbpf_ts::Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
  auto file = std::make_shared<libbpf_ts::CsvFile>();
  libbpf_ts::CsvFileOptions options;
  options.name = path;
  options.header = header;
  CHECK(!file->Open(std::move(fd), libbpf_ts::Fd(), options));
  return file;
}

inline std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    CHECK(end != std::string::npos);  // whole lines only
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

inline std::string Text(const std::string& path) {
  FILE* file = fopen(path.c_str(), "re");
  CHECK(file != nullptr);
  std::string text;
  char buffer[65536];
  while (size_t count = fread(buffer, 1, sizeof buffer, file)) text.append(buffer, count);
  fclose(file);
  return text;
}

inline Row ParseRow(const std::string& line) {
  std::vector<std::string> cells;
  for (size_t at = 0; at <= line.size();) {
    size_t end = std::min(line.find(',', at), line.size());
    cells.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  CHECK(cells.size() == 5);
  Row row;
  row.ticks = cells[0];
  row.pid = strtoull(cells[1].c_str(), nullptr, 10);
  row.name = cells[2];
  if (row.end()) {
    CHECK(cells[3].empty() && cells[4].empty());
  } else if (cells[3] == "LOST") {
    row.lost = strtoull(cells[4].c_str(), nullptr, 10);
    CHECK(row.lost > 0);
  } else {
    row.sequence = strtoull(cells[3].c_str(), nullptr, 10);
    row.cpu = strtoull(cells[4].c_str(), nullptr, 10);
  }
  return row;
}

inline std::vector<Row> Rows(const std::string& path) {
  std::vector<std::string> lines = Lines(Text(path));
  CHECK(!lines.empty() && lines[0] + "\n" == kRowsHeader);
  std::vector<Row> rows;
  for (size_t index = 1; index < lines.size(); index++) rows.push_back(ParseRow(lines[index]));
  return rows;
}

// What the rows of one source tell: each sample once, in order, the missing ones told in their
// place, nothing after the last row. Answers how many samples these are, those lost included.
struct Telling {
  uint64_t next = 0;
  uint64_t lost = 0;
  bool ended = false;

  void Hear(const Row& row) {
    CHECK(!ended);
    ended = row.end();
    if (ended) return;
    if (row.lost == 0) CHECK(row.sequence == next);
    next += row.lost > 0 ? row.lost : 1;
    lost += row.lost;
  }
};

// Runs on the writer's thread, and is over when this returns.
inline void Call(libbpf_ts::CsvWriter* writer,
                 const std::function<void(libbpf_ts::CsvWriter&)>& command) {
  std::atomic<bool> done{false};
  writer->Post([&command, &done](libbpf_ts::CsvWriter& of) {
    command(of);
    done.store(true);
  });
  while (!done.load()) std::this_thread::yield();
}

inline void Sync(libbpf_ts::CsvWriter* writer) {
  Call(writer, [](libbpf_ts::CsvWriter& of) {
    of.Drain();
    of.Flush();
  });
}
