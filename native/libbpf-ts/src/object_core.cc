// SPDX-License-Identifier: MIT
#include "object_core.h"

namespace libbpf_ts {

Failure ObjectCore::OpenFile(const std::string& path, const std::string& name,
                             std::shared_ptr<ObjectCore>* out) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.empty() ? nullptr : name.c_str());
  bpf_object* object = bpf_object__open_file(path.c_str(), &options);
  if (object == nullptr) return Fail(errno, "open", path);
  *out = std::make_shared<ObjectCore>(object);
  return {};
}

Failure ObjectCore::OpenMemory(const void* bytes, size_t size, const std::string& name,
                               std::shared_ptr<ObjectCore>* out) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.empty() ? "object" : name.c_str());
  if (size == 0) return Fail(EINVAL, "open", name, "no bytes");
  bpf_object* object = bpf_object__open_mem(bytes, size, &options);
  if (object == nullptr) return Fail(errno, "open", name.empty() ? "object in memory" : name);
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

void ObjectCore::DoClose() {
  bpf_object__close(object_);
  object_ = nullptr;
}

}  // namespace libbpf_ts
