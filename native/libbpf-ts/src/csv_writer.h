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
  // Runs what was posted, takes what is in the rings, then joins the thread; idempotent.
  void Stop();

  // Any thread: runs on the writer's, in the order posted, between two passes over the rings.
  // Records stamped later than this call are not taken before the command has run.
  void Post(Command command);

  // For commands only.
  EventDispatch& dispatch() { return dispatch_; }
  void AddRing(RingMemory&& ring);
  void SetLayout(const EventLayout& layout, Fd sources);
  void AddFile(std::shared_ptr<CsvFile> file) { files_.push_back({std::move(file)}); }
  // A pipe's reader may take the rest for so long; the rings do not wait for it.
  void CloseFile(const std::shared_ptr<CsvFile>& file, int timeout_ms);
  // Takes everything stamped before the command was posted, waiting for what is still being
  // written.
  void Drain();
  // What could not be written is then in the tables' losses.
  void Flush();
  // Calls back when everything up to now is in the files or counted as lost, what a pipe that is
  // being closed still holds included.
  void Sync(std::function<void()> done);

  static uint64_t Now();  // CLOCK_MONOTONIC ns

 private:
  static constexpr uint64_t kOpen = UINT64_MAX;
  struct OpenFile {
    std::shared_ptr<CsvFile> file;
    uint64_t close_ns = kOpen;  // when it is closed, whatever its reader has taken by then
  };

  struct Posted {
    Command command;
    uint64_t ns;
  };

  void Run();
  bool RunCommands();
  void Wait();
  bool Pass(uint64_t horizon_ns);
  void Hurry();
  void FlushFiles(bool compressed);
  void CloseFiles(bool all);
  bool closing() const;

  RingMerge rings_;
  EventDispatch dispatch_;
  std::vector<OpenFile> files_;
  std::vector<std::function<void()>> synced_;  // waiting for pipes to be closed
  uint64_t posted_ns_ = 0;                     // of the command that runs
  uint64_t flushed_ns_ = 0;
  uint64_t crowded_ns_ = 0;  // when a ring was last found filling
  bool hurried_ = false;
  int nice_ = 0;  // as long as it is not

  pthread_t thread_{};
  bool running_ = false;
  std::mutex mutex_;  // of what follows
  std::vector<Posted> commands_;
  bool stopping_ = false;

  Fd epoll_;
  Fd wake_;
};

}  // namespace libbpf_ts
