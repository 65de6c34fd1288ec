// SPDX-License-Identifier: MIT
// What a tap sees of a table's records, and what it is told it has not seen. Run under
// ThreadSanitizer.
#include <cstdio>
#include <thread>
#include "table_writing.h"

using libbpf_ts::Condition;
using libbpf_ts::CsvWriter;
using libbpf_ts::EventTap;

namespace {

struct Seen {
  uint64_t given = 0;
  uint64_t skipped = 0;
  uint64_t last = 0;
};

void Take(EventTap* tap, Seen* seen) {
  EventTap::Taken taken = tap->Take();
  seen->skipped += taken.skipped;
  for (size_t at = 0; at < taken.bytes.size(); at += EventTap::kHeaderSize + sizeof(Sample)) {
    uint32_t header[2];
    Sample sample;
    memcpy(header, &taken.bytes[at], sizeof header);
    CHECK(header[0] == sizeof sample && header[1] == 7);
    CHECK(strcmp(reinterpret_cast<const char*>(&taken.bytes[at + 8]), "name") == 0);
    memcpy(&sample, &taken.bytes[at + EventTap::kHeaderSize], sizeof sample);
    CHECK(sample.cpu == 1 && (seen->given == 0 || sample.sequence > seen->last));
    seen->last = sample.sequence;
    seen->given++;
  }
}

// Given and passed over are together all that match, though taken while they come.
void Tapped(uint32_t per_second, bool taking) {
  std::string path = NextPath();
  Writing writing(Create(path));
  std::atomic<int> told{0};
  Condition condition;
  condition.offset = 24;
  condition.width = 4;
  condition.value = 1;
  auto tap = std::make_shared<EventTap>(std::vector<Condition>{condition}, per_second,
                                        [&told] { told.fetch_add(1); });
  Call(&writing.writer, [&](CsvWriter&) { writing.producer.table->AddTap(tap); });
  Seen seen;
  std::atomic<int> rounds{0};
  for (int round = 0; round < 100; round++) {
    writing.writer.Post([&](CsvWriter&) {
      writing.producer.Write(4000);
      rounds.fetch_add(1);
    });
  }
  int takes = 0;
  while (rounds.load() < 100) {
    if (taking && told.load() > takes) {
      takes++;
      Take(tap.get(), &seen);
    }
    std::this_thread::yield();
  }
  Call(&writing.writer, [&](CsvWriter&) {
    writing.producer.table->RemoveTap(tap.get());
    writing.producer.Write(1000);
  });
  Take(tap.get(), &seen);
  CHECK(seen.given + seen.skipped == 100000 && told.load() <= takes + 1);
  CHECK(per_second > 100 || (seen.given >= per_second && seen.given < 100 * per_second));
  if (!taking && per_second > 100) {
    CHECK(seen.given == (4 << 20) / (EventTap::kHeaderSize + sizeof(Sample)));
  }
  Sync(&writing.writer);
  CHECK(writing.file->figures().rows == 401000);
  printf("tap of %u a second: %lu given, %lu passed over\n", per_second,
         static_cast<unsigned long>(seen.given), static_cast<unsigned long>(seen.skipped));
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  scratch = argv[1];
  Tapped(50, true);
  Tapped(1000000000, true);
  Tapped(1000000000, false);
  printf("ok\n");
  return 0;
}
