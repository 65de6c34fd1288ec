// SPDX-License-Identifier: MIT
#include "csv_writer.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <algorithm>
#include <csignal>
#include <utility>

namespace libbpf_ts {
namespace {

// Records below the rings' wake-up threshold, and rows below a block, wait no longer than this.
constexpr int kIdleMs = 100;
constexpr uint64_t kMs = 1000000;
constexpr int kNice = -20;
// bpf_ktime_get_ns() may lag behind the clock read here by the length of its update.
constexpr uint64_t kClockSlackNs = 1000;

}  // namespace

uint64_t CsvWriter::Now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

Failure CsvWriter::Start() {
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.valid() || !wake_.valid()) return Fail(errno, "start writer", "");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = wake_.get();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) {
    return Fail(errno, "start writer", "");
  }
  // Signals belong to the host's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // Not std::thread: that throws when the process may have no more threads.
  int error = pthread_create(
      &thread_, nullptr,
      [](void* writer) -> void* {
        static_cast<CsvWriter*>(writer)->Run();
        return nullptr;
      },
      this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return Fail(error, "start writer", "", "no thread to write with");
  pthread_setname_np(thread_, "csv writer");
  running_ = true;
  return {};
}

void CsvWriter::Post(Command command) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    commands_.push_back(std::move(command));
  }
  uint64_t one = 1;
  ssize_t wrote = write(wake_.get(), &one, sizeof one);
  (void)wrote;
}

void CsvWriter::Stop() {
  if (!running_) return;
  running_ = false;
  Post([](CsvWriter& writer) {
    std::lock_guard<std::mutex> lock(writer.mutex_);
    writer.stopping_ = true;
  });
  pthread_join(thread_, nullptr);
}

void CsvWriter::Run() {
  // It needs little, and at once: a ring that runs full loses events. Without the right to, as it
  // is.
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
  while (RunCommands()) {
    Pass(Now() - kClockSlackNs);
    if (Now() - flushed_ns_ >= kIdleMs * kMs) {
      for (const auto& file : files_) {
        if (!file->compressed()) file->Flush();
      }
      flushed_ns_ = Now();
    }
    Wait();
  }
  while (!files_.empty()) CloseFile(files_.back(), 0);
}

bool CsvWriter::RunCommands() {
  std::vector<Command> commands;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) command(*this);
  std::lock_guard<std::mutex> lock(mutex_);
  return !stopping_;
}

// Until the rings' threshold, a command or the time.
void CsvWriter::Wait() {
  bool idle = rings_.rings().empty() && std::all_of(files_.begin(), files_.end(),
                                                    [](const auto& file) { return file->empty(); });
  epoll_event events[8];
  epoll_wait(epoll_.get(), events, 8, idle ? -1 : kIdleMs);
  uint64_t woken = 0;
  ssize_t got = read(wake_.get(), &woken, sizeof woken);
  (void)got;
}

bool CsvWriter::Pass(uint64_t horizon_ns) {
  return rings_.Pass(horizon_ns, [this](const uint8_t* record, uint32_t length) {
    dispatch_.Record(record, length);
  });
}

void CsvWriter::Drain() {
  uint64_t horizon = Now();
  // A program that is being preempted holds a record open; it goes on as soon as it is let.
  while (!Pass(horizon)) sched_yield();
}

void CsvWriter::Flush() {
  dispatch_.Settle(Now());
  for (const auto& file : files_) file->Flush();
  flushed_ns_ = Now();
}

void CsvWriter::AddRing(RingMemory&& ring) {
  epoll_event event = {};
  // Edge-triggered: by level a single record would wake us, and again at once.
  event.events = EPOLLIN | EPOLLET;
  event.data.fd = ring.fd();
  // Failing, for want of memory, leaves it to be read each time the wait is over.
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, ring.fd(), &event);
  rings_.Add(std::move(ring));
}

void CsvWriter::SetLayout(const EventLayout& layout, Fd sources) {
  rings_.set_time_offset(layout.time);
  dispatch_.SetLayout(layout, std::move(sources));
}

void CsvWriter::CloseFile(const std::shared_ptr<CsvFile>& file, int timeout_ms) {
  std::shared_ptr<CsvFile> kept = file;  // the argument may be an element of the vector
  files_.erase(std::remove(files_.begin(), files_.end(), kept), files_.end());
  kept->Close(timeout_ms);
}

}  // namespace libbpf_ts
