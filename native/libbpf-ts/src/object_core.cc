// SPDX-License-Identifier: MIT
#include "object_core.h"

#include <sys/mman.h>
#include <cerrno>
#include "netfilter.h"

namespace libbpf_ts {

Failure ObjectCore::OpenFile(const std::string& path, const std::string& name,
                             std::shared_ptr<ObjectCore>* out) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.empty() ? nullptr : name.c_str());
  bpf_object* object = bpf_object__open_file(path.c_str(), &options);
  if (object == nullptr) return Fail(errno, "open", path);
  TypeNetfilterPrograms(object);
  *out = std::make_shared<ObjectCore>(object);
  return {};
}

Failure ObjectCore::OpenMemory(const void* bytes, size_t size, const std::string& name,
                               std::shared_ptr<ObjectCore>* out) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.empty() ? "object" : name.c_str());
  if (size == 0) return Fail(EINVAL, "open", name, "no bytes");
  bpf_object* object = bpf_object__open_mem(bytes, size, &options);
  if (object == nullptr) return Fail(errno, "open", name.empty() ? "object in memory" : name);
  TypeNetfilterPrograms(object);
  *out = std::make_shared<ObjectCore>(object);
  return {};
}

Failure ObjectCore::Load() {
  int error = bpf_object__load(object_);
  if (error != 0) {
    std::string name = name_;
    Close();
    return Fail(error, "load", name);
  }
  loaded_ = true;
  return {};
}

Failure ObjectCore::Section(const bpf_map* map, uint8_t** memory, size_t* size) {
  const char* operation = "map section";
  *size = bpf_map__value_size(map);
  auto found = sections_.find(map);
  if (found == sections_.end()) {
    if (!bpf_map__is_internal(map)) {
      return Fail(EINVAL, operation, bpf_map__name(map), "not a data section");
    }
    int protection = PROT_READ;
    if ((bpf_map__map_flags(map) & BPF_F_RDONLY_PROG) == 0) protection |= PROT_WRITE;
    void* mapped = mmap(nullptr, *size, protection, MAP_SHARED, bpf_map__fd(map), 0);
    if (mapped == MAP_FAILED) return Fail(errno, operation, bpf_map__name(map));
    found = sections_.emplace(map, Mapping{mapped, *size}).first;
  }
  *memory = static_cast<uint8_t*>(found->second.memory);
  return {};
}

void ObjectCore::DoClose() {
  for (auto& [map, mapping] : sections_) munmap(mapping.memory, mapping.size);
  sections_.clear();
  bpf_object__close(object_);
  object_ = nullptr;
}

}  // namespace libbpf_ts
