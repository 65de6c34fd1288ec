// SPDX-License-Identifier: MIT
// One thread writes records through BPF, one reads them, the reader's own one notifies; then they
// stop in every order that can happen. Run under ThreadSanitizer.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>
#include "check.h"
#include "ring_reader.h"

using libbpf_ts::Failure;
using libbpf_ts::RingReader;

namespace {

constexpr uint32_t kRecords = 64;  // of these a quarter is discarded
constexpr int kRounds = 300;

struct Ring {
  int fd;
  uint32_t size;
};

class Object {
 public:
  explicit Object(const char* path) : object_(bpf_object__open_file(path, nullptr)) {
    CHECK(object_ != nullptr);
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object_) {
      bpf_program__set_autoload(program, strcmp(bpf_program__name(program), "emit") == 0);
    }
    CHECK(bpf_object__load(object_) == 0);
  }
  ~Object() { bpf_object__close(object_); }

  Ring ring(const char* name) const {
    bpf_map* map = bpf_object__find_map_by_name(object_, name);
    return {bpf_map__fd(map), bpf_map__max_entries(map)};
  }

  // Answers whether the ring had room.
  bool Emit(uint32_t records) const {
    uint32_t request[2] = {records, 0};
    LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = request, .ctx_size_in = sizeof request);
    bpf_program* program = bpf_object__find_program_by_name(object_, "emit");
    CHECK(bpf_prog_test_run_opts(bpf_program__fd(program), &options) == 0);
    return static_cast<int>(options.retval) == 0;
  }

 private:
  bpf_object* object_;
};

// Counts the records of ring 0 in a batch and checks their numbers grow.
size_t Check(const std::vector<uint8_t>& bytes, size_t used) {
  size_t count = 0;
  uint32_t previous = 0;
  for (size_t at = 0; at < used;) {
    uint32_t header[2];
    memcpy(header, &bytes[at], sizeof header);
    if (header[1] == 0) {
      CHECK(header[0] == 8);
      uint32_t sequence;
      memcpy(&sequence, &bytes[at + 8], 4);
      CHECK(sequence % 4 != 3);
      CHECK(sequence == 0 || sequence > previous);
      previous = sequence;
      count++;
    } else {
      CHECK(header[0] == 9);
    }
    at += 8 + (header[0] + 7) / 8 * 8;
  }
  return count;
}

void AddBoth(const Object& object, RingReader* reader) {
  for (const char* name : {"ring", "other_ring"}) {
    Ring ring = object.ring(name);
    CHECK(!reader->AddRing(ring.fd, ring.size, name));
  }
}

// Everything written arrives, though the reader sleeps until it is told.
void ReadWhileWriting(const Object& object, size_t capacity) {
  std::atomic<int> told{0};
  RingReader reader;
  AddBoth(object, &reader);
  CHECK(!reader.StartNotifier([&told] { told.fetch_add(1); }));
  std::atomic<size_t> taken{0};
  std::thread writer([&object, &taken] {
    for (int round = 0; round < kRounds; round++) {
      // A ring has room for a few rounds; a reader that is not scheduled must not make it lose any.
      while (static_cast<size_t>(round) * kRecords * 3 / 4 > taken.load() + 2 * kRecords) {
        std::this_thread::yield();
      }
      CHECK(object.Emit(kRecords));
      if (round % 16 == 0) std::this_thread::yield();
      if (round % 32 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::vector<uint8_t> bytes(capacity);
  size_t count = 0;
  int seen = 0;
  while (count < static_cast<size_t>(kRounds) * kRecords * 3 / 4) {
    while (told.load() == seen) std::this_thread::yield();
    seen = told.load();
    for (;;) {
      RingReader::Result result = reader.Read(bytes.data(), bytes.size(), SIZE_MAX);
      CHECK(result.needed == 0);
      if (result.records == 0) break;
      count += Check(bytes, result.bytes);
      taken.store(count);
    }
    reader.Rearm();
  }
  writer.join();
  reader.Read(bytes.data(), bytes.size(), SIZE_MAX);  // the other ring's last ones
  CHECK(count == static_cast<size_t>(kRounds) * kRecords * 3 / 4);
  printf("capacity %zu: %zu records, told %d times\n", capacity, count, told.load());
}

// Stopping while idle, while told, while being told, and twice.
void StopInEveryState(const Object& object) {
  for (int round = 0; round < 200; round++) {
    RingReader reader;
    AddBoth(object, &reader);
    std::atomic<int> told{0};
    CHECK(!reader.StartNotifier([&told] { told.fetch_add(1); }));
    std::thread writer([&object] { object.Emit(4); });
    if (round % 4 == 1) std::this_thread::sleep_for(std::chrono::microseconds(round * 5));
    if (round % 4 == 2) reader.Rearm();
    reader.Stop();
    reader.Stop();
    int after = told.load();
    writer.join();
    CHECK(told.load() == after);
    std::vector<uint8_t> bytes(1 << 16);
    reader.Read(bytes.data(), bytes.size(), SIZE_MAX);
  }
}

void Limits(const Object& object) {
  RingReader reader;
  AddBoth(object, &reader);
  CHECK(object.Emit(8));
  std::vector<uint8_t> bytes(1 << 16);
  CHECK(reader.Read(bytes.data(), 0, SIZE_MAX).needed == 16);
  CHECK(reader.Read(bytes.data(), 15, SIZE_MAX).needed == 16);
  RingReader::Result result = reader.Read(bytes.data(), bytes.size(), 0);
  CHECK(result.records == 0 && result.needed == 0);
  CHECK(reader.Read(bytes.data(), bytes.size(), 2).records == 2);
  CHECK(reader.Read(bytes.data(), bytes.size(), SIZE_MAX).records == 5);
  CHECK(reader.Pending() == 0);
  Failure failure = reader.AddRing(object.ring("ring").fd, 5000, "odd");
  CHECK(failure.error == EINVAL);
  CHECK(RingReader().AddRing(-1, 4096, "closed").error == EBADF);
}

}  // namespace

int main() {
  Object object("main.bpf.o");
  Limits(object);
  ReadWhileWriting(object, 1 << 20);
  ReadWhileWriting(object, 64);
  StopInEveryState(object);
  printf("ok\n");
  return 0;
}
