// SPDX-License-Identifier: MIT
// The programs of stream.bpf.c: records for any source from any CPU, and how many there were.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>
#include <cstring>
#include <string>
#include <vector>
#include "check.h"
#include "csv_writer.h"

struct Tally {
  uint64_t emitted = 0;
  uint64_t lost = 0;
  uint64_t untold = 0;
  uint64_t held = 0;
};

class StreamObject {
 public:
  static constexpr uint32_t kStream = 3;

  StreamObject() : object_(bpf_object__open_file("stream.bpf.o", nullptr)) {
    CHECK(object_ != nullptr);
    CHECK(bpf_map__set_max_entries(Map("rings"), static_cast<uint32_t>(CpuCount())) == 0);
    bpf_program__set_autoload(Program("hold"), true);
    CHECK(bpf_object__load(object_) == 0);
  }
  ~StreamObject() { bpf_object__close(object_); }

  static int CpuCount() { return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); }

  // A new ring for every CPU, read by this writer.
  void ReadBy(libbpf_ts::CsvWriter* writer, uint32_t bytes) const {
    using libbpf_ts::Fd;
    auto rings = std::make_shared<std::vector<libbpf_ts::RingMemory>>();
    for (int cpu = 0; cpu < CpuCount(); cpu++) {
      Fd fd(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, bytes, nullptr));
      libbpf_ts::RingMemory ring;
      CHECK(!ring.Map(fd.get(), bytes, libbpf_ts::RingMerge::kMaxRecord, "ring"));
      int inner = fd.get();
      CHECK(bpf_map_update_elem(bpf_map__fd(Map("rings")), &cpu, &inner, BPF_ANY) == 0);
      rings->push_back(std::move(ring));
    }
    auto sources = std::make_shared<Fd>(dup(bpf_map__fd(Map("sources"))));
    writer->Post([rings, sources](libbpf_ts::CsvWriter& of) {
      of.SetLayout(Layout(), std::move(*sources));
      for (auto& ring : *rings) of.AddRing(std::move(ring));
    });
  }

  static libbpf_ts::EventTable Table() {
    auto column = [](uint32_t offset, uint32_t width) {
      libbpf_ts::CellFormat format;
      format.offset = offset;
      format.width = width;
      return libbpf_ts::EventTable::Column{format};
    };
    libbpf_ts::EventTable table;
    CHECK(!table.Bind({column(16, 8), column(24, 4)}, 8, 0));
    return table;
  }

  void Emit(int cpu, uint32_t source, uint64_t records, uint64_t wake = BPF_RB_NO_WAKEUP,
            uint32_t stream = kStream) const {
    uint64_t request[] = {stream, source, records, wake};
    CHECK(Run("emit", cpu, request, sizeof request) == 0);
  }
  bool Identify(int cpu, uint32_t source, uint64_t pid, const char* name) const {
    uint64_t request[4] = {source, pid};
    memcpy(&request[2], name, strnlen(name, 16));
    return Run("identify", cpu, request, sizeof request) == 0;
  }
  bool Lose(int cpu, uint32_t source, uint64_t count, uint32_t of = kStream) const {
    uint64_t request[] = {of, source, count};
    return Run("lose", cpu, request, sizeof request) == 0;
  }
  bool Odd(int cpu, uint32_t source) const {
    uint64_t request[] = {kStream, source};
    return Run("odd", cpu, request, sizeof request) == 0;
  }
  // Here, on this CPU: a record that stays reserved until then.
  bool Hold(uint32_t source, uint64_t until_ns, bool discard) const {
    struct {
      uint32_t stream, source;
      uint64_t until_ns, discard;
    } request = {kStream, source, until_ns, discard};
    return Run("hold", -1, &request, sizeof request) == 0;
  }

  void Describe(uint32_t source, uint32_t pid, const char* name) const {
    struct {
      uint32_t pid;
      char name[16];
    } value = {pid, {}};
    memcpy(value.name, name, strnlen(name, sizeof value.name));
    CHECK(bpf_map_update_elem(bpf_map__fd(Map("sources")), &source, &value, BPF_ANY) == 0);
  }
  void Forget(uint32_t source) const { bpf_map_delete_elem(bpf_map__fd(Map("sources")), &source); }
  Tally TallyOf(uint32_t source) const {
    Tally tally;
    CHECK(bpf_map_lookup_elem(bpf_map__fd(Map("tallies")), &source, &tally) == 0);
    return tally;
  }
  void Reset(uint32_t source) const {
    Tally tally;
    CHECK(bpf_map_update_elem(bpf_map__fd(Map("tallies")), &source, &tally, BPF_ANY) == 0);
  }

 private:
  static libbpf_ts::EventLayout Layout() {
    libbpf_ts::EventLayout layout;
    layout.stream = 0;
    layout.source = 4;
    layout.time = 8;
    layout.identity_pid = 16;
    layout.identity_name = 20;
    layout.identity_name_size = 16;
    layout.loss_count = 16;
    layout.loss_of = 24;
    layout.value_size = 20;
    layout.value_pid = 0;
    layout.value_name = 4;
    return layout;
  }
  bpf_map* Map(const char* name) const { return bpf_object__find_map_by_name(object_, name); }
  bpf_program* Program(const char* name) const {
    return bpf_object__find_program_by_name(object_, name);
  }
  int Run(const char* program, int cpu, void* context, size_t size) const {
    LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = context,
                .ctx_size_in = static_cast<uint32_t>(size));
    if (cpu >= 0) {
      options.flags = BPF_F_TEST_RUN_ON_CPU;
      options.cpu = static_cast<uint32_t>(cpu % CpuCount());
    }
    CHECK(bpf_prog_test_run_opts(bpf_program__fd(Program(program)), &options) == 0);
    return static_cast<int>(options.retval);
  }

  bpf_object* object_;
};
