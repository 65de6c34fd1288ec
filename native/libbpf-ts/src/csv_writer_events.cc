// SPDX-License-Identifier: MIT
// NativeCsvWriter.readEvents: makes the rings and has them read.
#include <bpf/bpf.h>
#include <fcntl.h>
#include "arguments.h"
#include "csv_writer_wrap.h"
#include "environment.h"
#include "map_wrap.h"

namespace libbpf_ts {
namespace {

constexpr uint32_t kLayoutNumbers = 11;

bool ReadLayout(const Napi::CallbackInfo& info, size_t index, EventLayout* out) {
  if (!info[index].IsTypedArray() ||
      info[index].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array ||
      info[index].As<Napi::TypedArray>().ElementLength() != kLayoutNumbers) {
    return WrongArgument(info, index, "the layout as a Uint32Array");
  }
  Napi::Uint32Array numbers = info[index].As<Napi::Uint32Array>();
  uint32_t* fields[kLayoutNumbers] = {
      &out->stream,       &out->source,        &out->time,
      &out->identity_pid, &out->identity_name, &out->identity_name_size,
      &out->loss_of,      &out->loss_count,    &out->value_size,
      &out->value_pid,    &out->value_name,
  };
  for (uint32_t field = 0; field < kLayoutNumbers; field++) *fields[field] = numbers[field];
  constexpr uint32_t kLimit = 1 << 20;
  for (uint32_t* field : fields) {
    if (*field > kLimit) return WrongArgument(info, index, "a layout within reason");
  }
  bool inside = uint64_t{out->value_pid} + 4 <= out->value_size &&
                out->value_name + out->identity_name_size <= out->value_size;
  return inside || WrongArgument(info, index, "a layout whose fields lie in the value");
}

// Puts the rings where the programs look for them, at once where the kernel can (5.14): for a map
// of maps it waits after each system call until no program uses what was there before.
Failure Install(const MapWrap& rings, const std::vector<uint32_t>& cpus,
                const std::vector<Fd>& fds) {
  std::vector<int> inner;
  for (const Fd& fd : fds) inner.push_back(fd.get());
  auto count = static_cast<uint32_t>(cpus.size());
  int map = rings.shape().fd;
  if (count == 0) return {};
  if (bpf_map_update_batch(map, cpus.data(), inner.data(), &count, nullptr) == 0) return {};
  for (size_t index = 0; index < cpus.size(); index++) {
    if (bpf_map_update_elem(map, &cpus[index], &inner[index], BPF_ANY) == 0) continue;
    int error = errno;
    // All or none: a ring that nobody reads must not be there for programs to fill.
    for (uint32_t cpu : cpus) bpf_map_delete_elem(map, &cpu);
    return Fail(error, "install ring buffer", rings.name());
  }
  return {};
}

Failure MakeRings(const MapWrap& rings, const std::vector<uint32_t>& cpus, uint32_t bytes,
                  std::vector<RingMemory>* made) {
  std::vector<Fd> fds;
  for (size_t index = 0; index < cpus.size(); index++) {
    Fd fd(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "event_ring", 0, 0, bytes, nullptr));
    if (!fd.valid()) return Fail(errno, "create ring buffer", rings.name());
    RingMemory ring;
    Failure failure = ring.Map(fd.get(), bytes, RingMerge::kMaxRecord, rings.name());
    if (failure) return failure;
    made->push_back(std::move(ring));
    fds.push_back(std::move(fd));
  }
  return Install(rings, cpus, fds);
}

bool ReadCpus(const Napi::CallbackInfo& info, size_t index, std::vector<uint32_t>* cpus) {
  if (!info[index].IsArray()) return WrongArgument(info, index, "an array of CPUs");
  Napi::Array array = info[index].As<Napi::Array>();
  for (uint32_t at = 0; at < array.Length(); at++) {
    uint32_t cpu = 0;
    if (Convert(array.Get(at), &cpu) != nullptr) {
      return WrongArgument(info, index, "an array of CPUs");
    }
    cpus->push_back(cpu);
  }
  return true;
}

}  // namespace

// readEvents(rings: NativeMap, cpus: number[], bytes, layout: Uint32Array, sources: NativeMap)
Napi::Value WriterWrap::ReadEvents(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapWrap *rings = nullptr, *sources = nullptr;
  uint32_t bytes = 0;
  EventLayout layout;
  std::vector<uint32_t> cpus;
  if (!Usable(info, "read events") || !ReadInstance(info, 0, &rings) ||
      !rings->Usable(env, "read events") || !ReadCpus(info, 1, &cpus)) {
    return env.Undefined();
  }
  if (!Read(info, 2, &bytes) || !ReadLayout(info, 3, &layout) || !ReadInstance(info, 4, &sources) ||
      !sources->Usable(env, "read events")) {
    return env.Undefined();
  }
  if (sources->shape().key_size != 4 || sources->shape().value_bytes != layout.value_size) {
    WrongArgument(info, 4, "a map of the sources, as the layout says");
    return env.Undefined();
  }
  auto made = std::make_shared<std::vector<RingMemory>>();
  auto map = std::make_shared<Fd>(fcntl(sources->shape().fd, F_DUPFD_CLOEXEC, 3));
  Failure failure;
  // Records of two objects would not begin alike.
  if (reading_) {
    failure = Fail(EBUSY, "read events", rings->name(), "this writer reads events already");
  } else if (!map->valid()) {
    failure = Fail(errno, "read events", sources->name());
  } else {
    failure = MakeRings(*rings, cpus, bytes, made.get());
  }
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  reading_ = true;
  core_->writer().Post([made, layout, map](CsvWriter& writer) {
    writer.SetLayout(layout, std::move(*map));
    for (RingMemory& ring : *made) writer.AddRing(std::move(ring));
  });
  return env.Undefined();
}

}  // namespace libbpf_ts
