// SPDX-License-Identifier: MIT
// An attachment: either libbpf's link, or descriptors of our own. Detaches when closed.
#pragma once

#include <bpf/libbpf.h>
#include <cstdint>
#include <string>
#include <vector>
#include "failure.h"
#include "fd.h"
#include "resource.h"

namespace libbpf_ts {

class LinkCore : public Resource {
 public:
  LinkCore(std::string name, bpf_link* link) : name_(std::move(name)), link_(link) {}
  // `place` is what it is attached to, where that has to outlive it.
  LinkCore(std::string name, Fd link, Fd place)
      : name_(std::move(name)), link_fd_(std::move(link)), place_(std::move(place)) {}
  ~LinkCore() override { Close(); }

  // Runs an iterator program once and returns what it wrote.
  Failure ReadIterator(std::vector<uint8_t>* out);
  const std::string& name() const { return name_; }

 protected:
  void DoClose() override;

 private:
  std::string name_;
  bpf_link* link_ = nullptr;
  Fd link_fd_;
  Fd place_;
};

}  // namespace libbpf_ts
