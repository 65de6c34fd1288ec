// SPDX-License-Identifier: MIT
// tracefs without mounting it where anybody sees it: a detached mount of our own (kernel >= 5.2),
// else a mount that is already there.
#pragma once

#include <memory>
#include <string>
#include <vector>
#include "failure.h"
#include "fd.h"
#include "resource.h"

namespace libbpf_ts {

class Tracefs : public Resource {
 public:
  static Failure Open(std::shared_ptr<Tracefs>* out);
  explicit Tracefs(Fd directory) : directory_(std::move(directory)) {}
  ~Tracefs() override { Close(); }

  // Paths are relative to the root of tracefs.
  Failure ReadText(const std::string& path, std::string* out) const;
  Failure AppendText(const std::string& path, const std::string& text) const;

 protected:
  void DoClose() override { directory_.Reset(); }

 private:
  Fd directory_;
};

// A uprobe defined in tracefs. Nothing traps until a task is included; then it traps in that task's
// memory and in what it forks, nowhere else.
class UprobeEvent : public Resource {
 public:
  struct Definition {
    std::string group;
    std::string name;
    std::string path;
    uint64_t offset = 0;
    bool retprobe = false;
  };
  static Failure Define(const std::shared_ptr<Tracefs>& tracefs, const Definition& definition,
                        std::shared_ptr<UprobeEvent>* out);
  UprobeEvent(std::shared_ptr<Tracefs> tracefs, std::string label, uint64_t id)
      : tracefs_(std::move(tracefs)), label_(std::move(label)), id_(id) {}
  ~UprobeEvent() override { Close(); }

  // Keeps the breakpoints in this task's memory and in everything it forks from now on. Sets
  // *existed to false when there is no such task any more.
  Failure Include(int tid, bool* existed);
  Failure IncludeEveryone();
  // A second event that carries a program; see program_wrap.cc for why it is not the inherited one.
  Failure OpenCarrier(int anchor_pid, Fd* out) const;

  uint64_t id() const { return id_; }
  const std::string& label() const { return label_; }

 protected:
  void DoClose() override;

 private:
  std::shared_ptr<Tracefs> tracefs_;
  std::string label_;  // GROUP/NAME
  uint64_t id_;
  std::vector<Fd> scope_;
};

}  // namespace libbpf_ts
