// SPDX-License-Identifier: MIT
// A writer with one table, whose records the test makes itself: no rings.
#pragma once

#include <memory>
#include <utility>
#include "csv_rows.h"
#include "stream_object.h"

struct Sample {
  uint32_t stream = StreamObject::kStream;
  uint32_t source = 0;
  uint64_t ns = 0;
  uint64_t sequence = 0;
  uint32_t cpu = 0;
  uint32_t unused = 0;
};

inline libbpf_ts::StreamTable::SourcePointer SourceOf(uint32_t id) {
  return std::make_shared<const libbpf_ts::Source>(
      libbpf_ts::Source{id, id, "name", libbpf_ts::SourceCells(id, "name")});
}

// Of one source, on the writer's thread.
struct Producer {
  std::shared_ptr<libbpf_ts::StreamTable> table;
  libbpf_ts::StreamTable::SourcePointer source = SourceOf(7);
  uint64_t emitted = 0;

  void Write(uint64_t records) {
    for (uint64_t i = 0; i < records; i++) {
      Sample sample;
      sample.ns = libbpf_ts::CsvWriter::Now();
      sample.sequence = emitted++;
      sample.cpu = static_cast<uint32_t>(sample.sequence % 4);
      table->Write(reinterpret_cast<const uint8_t*>(&sample), sizeof sample, sample.ns, source);
    }
  }
};

// A writer with one table in this file.
struct Writing {
  explicit Writing(std::shared_ptr<libbpf_ts::CsvFile> its_file) : file(std::move(its_file)) {
    producer.table = std::make_shared<libbpf_ts::StreamTable>(StreamObject::Table(), file);
    CHECK(!writer.Start());
    Call(&writer, [this](libbpf_ts::CsvWriter& of) {
      of.AddFile(file);
      of.dispatch().Bind(StreamObject::kStream, producer.table);
    });
  }
  uint64_t lost() const {
    uint64_t sum = 0;
    for (const libbpf_ts::StreamTable::Loss& loss : producer.table->losses()) sum += loss.count;
    return sum;
  }

  std::shared_ptr<libbpf_ts::CsvFile> file;
  Producer producer;
  libbpf_ts::CsvWriter writer;
};
