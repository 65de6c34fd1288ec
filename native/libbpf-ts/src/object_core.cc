// SPDX-License-Identifier: MIT
#include "object_core.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cerrno>
#include "fd.h"
#include "netfilter.h"

namespace libbpf_ts {
namespace {

Failure ReadFile(const std::string& path, std::string* out) {
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Fail(errno, "open", path);
  constexpr size_t kStep = 256 << 10;
  size_t used = 0;
  for (;;) {
    out->resize(used + kStep);
    ssize_t got = read(file.get(), &(*out)[used], kStep);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Fail(errno, "open", path);
    used += static_cast<size_t>(got);
    if (got == 0) break;
  }
  out->resize(used);
  out->shrink_to_fit();
  return {};
}

// As libbpf names what it opens by path: "dir/exec.bpf.o" is "exec".
std::string NameOf(const std::string& path) {
  std::string base = path.substr(path.find_last_of('/') + 1);
  return base.substr(0, base.find('.'));
}

}  // namespace

Failure ObjectCore::Open(Image image, const std::string& name, const std::string& place,
                         std::shared_ptr<ObjectCore>* out) {
  if (image->empty()) return Fail(EINVAL, "open", place, "no bytes");
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.empty() ? "object" : name.c_str());
  bpf_object* object = bpf_object__open_mem(image->data(), image->size(), &options);
  if (object == nullptr) return Fail(errno, "open", place);
  TypeNetfilterPrograms(object);
  out->reset(new ObjectCore(object, std::move(image)));
  return {};
}

Failure ObjectCore::OpenFile(const std::string& path, const std::string& name,
                             std::shared_ptr<ObjectCore>* out) {
  auto image = std::make_shared<std::string>();
  Failure failure = ReadFile(path, image.get());
  if (failure) return failure;
  return Open(std::move(image), name.empty() ? NameOf(path) : name, path, out);
}

Failure ObjectCore::OpenMemory(const void* bytes, size_t size, const std::string& name,
                               std::shared_ptr<ObjectCore>* out) {
  auto image = std::make_shared<std::string>(static_cast<const char*>(bytes), size);
  return Open(std::move(image), name, name.empty() ? "object in memory" : name, out);
}

Failure ObjectCore::Reopen(const ObjectCore& loaded, std::shared_ptr<ObjectCore>* out) {
  const char* operation = "reopen";
  if (!loaded.loaded_) return Fail(EINVAL, operation, loaded.name_, "it is not loaded");
  std::shared_ptr<ObjectCore> again;
  Failure failure = Open(loaded.image_, loaded.name_, loaded.name_, &again);
  if (failure) return failure;
  bpf_map* theirs = nullptr;
  bpf_map* ours = nullptr;
  bpf_object__for_each_map(theirs, loaded.object_) {
    ours = bpf_object__next_map(again->object_, ours);  // one file: the same maps in the same order
    if (!loaded.Created(theirs)) continue;
    bpf_map_type type = bpf_map__type(theirs);
    if (type == BPF_MAP_TYPE_PROG_ARRAY || type == BPF_MAP_TYPE_STRUCT_OPS) {
      // libbpf would put the new object's programs into it, also those that are not loaded.
      return Fail(EOPNOTSUPP, operation, bpf_map__name(theirs), "a map of programs is not shared");
    }
    // libbpf does not fill or freeze a map that has a descriptor before it is loaded.
    int error = bpf_map__reuse_fd(ours, bpf_map__fd(theirs));
    if (error != 0) return Fail(error, operation, bpf_map__name(theirs));
    again->shared_.insert(ours);
  }
  *out = std::move(again);
  return {};
}

bool ObjectCore::Created(const bpf_map* map) const {
  return loaded_ && bpf_map__autocreate(map) && bpf_map__fd(map) >= 0;
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
  image_.reset();
}

}  // namespace libbpf_ts
