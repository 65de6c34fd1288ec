// SPDX-License-Identifier: MIT
// Ownership: closing a parent closes what hangs on it, newest first. Knows nothing of JavaScript.
#pragma once

#include <memory>
#include <vector>

namespace libbpf_ts {

// A kernel resource (object, link, ring, probe). A parent holds its children strongly, so what was
// attached stays attached until somebody closes it or its parent; a child may have several parents.
class Resource : public std::enable_shared_from_this<Resource> {
 public:
  Resource() = default;
  Resource(const Resource&) = delete;
  Resource& operator=(const Resource&) = delete;
  virtual ~Resource() = default;

  void AddChild(const std::shared_ptr<Resource>& child);
  void Close();  // idempotent
  bool closed() const { return closed_; }

 protected:
  virtual void DoClose() {}  // derived destructors call Close() themselves

 private:
  std::vector<std::shared_ptr<Resource>> children_;
  std::vector<std::weak_ptr<Resource>> parents_;
  bool closed_ = false;
};

}  // namespace libbpf_ts
