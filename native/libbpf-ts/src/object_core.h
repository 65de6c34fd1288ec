// SPDX-License-Identifier: MIT
// A libbpf object from open to close. Programs, maps and links keep a reference and ask closed()
// before every use, because closing frees what their pointers point at.
#pragma once

#include <bpf/libbpf.h>
#include <map>
#include <memory>
#include <set>
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
  // The same file once more, whatever has become of it on disk. What maps `loaded` has, the new
  // object has too: its programs see the same entries, variables and constants. Each object holds
  // the maps by itself, so either may be closed first.
  static Failure Reopen(const ObjectCore& loaded, std::shared_ptr<ObjectCore>* out);
  ~ObjectCore() override { Close(); }

  Failure Load();  // closes the object when it fails
  bpf_object* get() const { return object_; }
  bool loaded() const { return loaded_; }
  bool Created(const bpf_map* map) const;
  bool Shared(const bpf_map* map) const { return shared_.count(map) != 0; }
  const std::string& name() const { return name_; }

  // A data section (.data, .bss, .rodata) in memory shared with the programs; mapped on first use,
  // unmapped when the object closes. Needs kernel >= 5.5.
  Failure Section(const bpf_map* map, uint8_t** memory, size_t* size);

 protected:
  void DoClose() override;

 private:
  using Image = std::shared_ptr<const std::string>;

  ObjectCore(bpf_object* object, Image image)
      : object_(object), image_(std::move(image)), name_(bpf_object__name(object)) {}
  static Failure Open(Image image, const std::string& name, const std::string& place,
                      std::shared_ptr<ObjectCore>* out);

  bpf_object* object_;
  Image image_;  // the file's bytes
  std::string name_;
  bool loaded_ = false;
  std::set<const bpf_map*> shared_;
  struct Mapping {
    void* memory;
    size_t size;
  };
  std::map<const bpf_map*, Mapping> sections_;
};

}  // namespace libbpf_ts
