// SPDX-License-Identifier: MIT
#include "resource.h"

#include <algorithm>
#include <utility>

namespace libbpf_ts {

void Resource::AddChild(const std::shared_ptr<Resource>& child) {
  children_.push_back(child);
  child->parents_.push_back(weak_from_this());
}

void Resource::Close() {
  if (closed_) return;
  closed_ = true;
  std::shared_ptr<Resource> self = weak_from_this().lock();  // a parent may hold the last reference
  std::vector<std::shared_ptr<Resource>> children = std::move(children_);
  children_.clear();
  for (auto child = children.rbegin(); child != children.rend(); ++child) (*child)->Close();
  DoClose();
  for (auto& weak : parents_) {
    std::shared_ptr<Resource> parent = weak.lock();
    if (!parent) continue;
    auto& siblings = parent->children_;
    siblings.erase(std::remove_if(siblings.begin(), siblings.end(),
                                  [this](const auto& other) { return other.get() == this; }),
                   siblings.end());
  }
  parents_.clear();
}

}  // namespace libbpf_ts
