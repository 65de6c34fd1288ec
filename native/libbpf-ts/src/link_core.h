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
  LinkCore(std::string name, Fd link, Fd perf_event)
      : name_(std::move(name)), link_fd_(std::move(link)), perf_event_(std::move(perf_event)) {}
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
  Fd perf_event_;
};

}  // namespace libbpf_ts
