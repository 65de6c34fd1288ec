// SPDX-License-Identifier: MIT
// The thread that writes: drains the rings in order of time, formats, and writes every file. Knows
// nothing of JavaScript, so that it can run under ThreadSanitizer by itself. Whoever wants
// something of it posts a command.
#pragma once

#include <pthread.h>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>
#include "csv_file.h"
#include "event_dispatch.h"
#include "failure.h"
#include "fd.h"
#include "ring_merge.h"

namespace libbpf_ts {

class CsvWriter {
 public:
  using Command = std::function<void(CsvWriter&)>;

  CsvWriter() = default;
  CsvWriter(const CsvWriter&) = delete;
  CsvWriter& operator=(const CsvWriter&) = delete;
  ~CsvWriter() { Stop(); }

  Failure Start();
  void Stop();  // runs what was posted, then joins the thread; idempotent

  // Any thread: runs on the writer's, in the order posted, between two passes over the rings.
  void Post(Command command);

  // For commands only.
  EventDispatch& dispatch() { return dispatch_; }
  void AddRing(RingMemory&& ring);
  void SetLayout(const EventLayout& layout, Fd sources);
  void AddFile(std::shared_ptr<CsvFile> file) { files_.push_back(std::move(file)); }
  void CloseFile(const std::shared_ptr<CsvFile>& file, int timeout_ms);
  // Takes everything stamped before this call, waiting for what is still being written.
  void Drain();
  void Flush();

  static uint64_t Now();  // CLOCK_MONOTONIC ns

 private:
  void Run();
  bool RunCommands();
  void Wait();
  bool Pass(uint64_t horizon_ns);

  RingMerge rings_;
  EventDispatch dispatch_;
  std::vector<std::shared_ptr<CsvFile>> files_;
  uint64_t flushed_ns_ = 0;

  pthread_t thread_{};
  bool running_ = false;
  std::mutex mutex_;  // of what follows
  std::vector<Command> commands_;
  bool stopping_ = false;

  Fd epoll_;
  Fd wake_;
};

}  // namespace libbpf_ts
