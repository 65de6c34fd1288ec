// SPDX-License-Identifier: MIT
// A libbpf object from open to close. Programs, maps and links keep a reference and ask closed()
// before every use, because closing frees what their pointers point at.
#pragma once

#include <bpf/libbpf.h>
#include <map>
#include <memory>
#include <string>
#include "failure.h"
#include "resource.h"

namespace libbpf_ts {

class ObjectCore : public Resource {
 public:
  static Failure OpenFile(const std::string& path, const std::string& name,
                          std::shared_ptr<ObjectCore>* out);
  static Failure OpenMemory(const void* bytes, size_t size, const std::string& name,
                            std::shared_ptr<ObjectCore>* out);
  explicit ObjectCore(bpf_object* object) : object_(object), name_(bpf_object__name(object)) {}
  ~ObjectCore() override { Close(); }

  Failure Load();  // closes the object when it fails
  bpf_object* get() const { return object_; }
  bool loaded() const { return loaded_; }
  const std::string& name() const { return name_; }

  // A data section (.data, .bss, .rodata) in memory shared with the programs; mapped on first use,
  // unmapped when the object closes. Needs kernel >= 5.5.
  Failure Section(const bpf_map* map, uint8_t** memory, size_t* size);

 protected:
  void DoClose() override;

 private:
  bpf_object* object_;
  std::string name_;
  bool loaded_ = false;
  struct Mapping {
    void* memory;
    size_t size;
  };
  std::map<const bpf_map*, Mapping> sections_;
};

}  // namespace libbpf_ts
