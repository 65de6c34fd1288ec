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
#include <utility>
#include "quiet_thread.h"

namespace libbpf_ts {
namespace {

// Records below the rings' wake-up threshold, and rows below a block, wait no longer than this.
constexpr int kIdleMs = 100;
// How often the reader of a pipe that is being closed is asked.
constexpr int kClosingMs = 5;
constexpr uint64_t kMs = 1000000;
// Of the time in which the rings were last found filling.
constexpr uint64_t kCalmMs = 1000;
constexpr int32_t kNice = -20;
// Of one turn on the CPU; who asks for short ones gets them sooner (6.12; before, it has no
// effect).
constexpr uint64_t kSliceNs = 100000;
// bpf_ktime_get_ns() may lag behind the clock read here by the length of its update.
constexpr uint64_t kClockSlackNs = 1000;

// Of the calling thread; failing, for want of the right to, leaves it as it is. The C library has
// no name for it on every system: struct sched_attr, linux/sched/types.h.
void AskForCpu(int32_t nice) {
  struct {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes = {};
  attributes.size = sizeof attributes;
  attributes.policy = SCHED_OTHER;
  attributes.nice = nice;
  attributes.runtime = kSliceNs;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

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
  int error = StartQuietThread<CsvWriter, &CsvWriter::Run>(&thread_, this);
  if (error != 0) return Fail(error, "start writer", "", "no thread to write with");
  pthread_setname_np(thread_, "csv writer");
  running_ = true;
  return {};
}

void CsvWriter::Post(Command command) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    commands_.push_back({std::move(command), Now()});
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
  nice_ = getpriority(PRIO_PROCESS, 0);  // of this thread
  AskForCpu(nice_);
  for (;;) {
    // Before the commands: what is stamped after one is posted may have to wait for it.
    uint64_t horizon = Now() - kClockSlackNs;
    if (!RunCommands()) break;
    Pass(horizon);
    if (Now() - flushed_ns_ >= kIdleMs * kMs) FlushFiles(false);
    CloseFiles(false);
    Wait();
  }
  posted_ns_ = Now();
  Drain();
  Flush();
  CloseFiles(true);
}

bool CsvWriter::RunCommands() {
  std::vector<Posted> commands;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    commands.swap(commands_);
  }
  for (Posted& posted : commands) {
    posted_ns_ = posted.ns;
    posted.command(*this);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  return !stopping_;
}

// Until the rings' threshold, a command or the time.
void CsvWriter::Wait() {
  int timeout_ms = rings_.rings().empty() ? -1 : kIdleMs;
  for (const OpenFile& each : files_) {
    if (each.close_ns != kOpen) {
      timeout_ms = kClosingMs;
      break;
    }
    if (!each.file->empty()) timeout_ms = kIdleMs;
  }
  epoll_event events[8];
  epoll_wait(epoll_.get(), events, 8, timeout_ms);
  uint64_t woken = 0;
  ssize_t got = read(wake_.get(), &woken, sizeof woken);
  (void)got;
}

bool CsvWriter::Pass(uint64_t horizon_ns) {
  Hurry();
  return rings_.Pass(horizon_ns, [this](const uint8_t* record, uint32_t length) {
    dispatch_.Record(record, length);
  });
}

// Who falls behind loses events, so then we ask for more of the CPU. Not always: the priorities of
// its process group are for a watched program to see, and we may be in it. Without the right to, as
// it is.
void CsvWriter::Hurry() {
  uint64_t now = Now();
  if (rings_.Crowded()) crowded_ns_ = now;
  bool behind = crowded_ns_ != 0 && now - crowded_ns_ < kCalmMs * kMs;
  if (behind == hurried_) return;
  hurried_ = behind;
  AskForCpu(behind ? kNice : nice_);
}

void CsvWriter::Drain() {
  while (Now() < posted_ns_ + kClockSlackNs) {
  }
  // A program that is being preempted holds a record open; it goes on as soon as it is let.
  while (!Pass(posted_ns_)) usleep(50);
}

void CsvWriter::Flush() {
  dispatch_.Settle(Now());
  FlushFiles(true);
  dispatch_.Collect();
}

void CsvWriter::FlushFiles(bool compressed) {
  for (const OpenFile& each : files_) {
    if (compressed || !each.file->compressed()) each.file->Flush();
  }
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
  for (OpenFile& each : files_) {
    if (each.file != file) continue;
    each.close_ns = Now() + static_cast<uint64_t>(std::max(timeout_ms, 0)) * kMs;
    file->Flush();
  }
  CloseFiles(false);
}

// Those whose time has come, or that have nothing left to write.
void CsvWriter::CloseFiles(bool all) {
  auto closed = [this, all](const OpenFile& each) {
    bool closing = each.close_ns != kOpen;
    if (!closing && !all) return false;
    uint64_t now = Now();
    int left_ms =
        closing && each.close_ns > now ? static_cast<int>((each.close_ns - now) / kMs) : 0;
    if (!all && left_ms > 0) {
      each.file->Flush();
      dispatch_.Settle(now);  // there is room again for what is owed
      each.file->Flush();
      if (!each.file->empty()) return false;
    }
    each.file->Close(left_ms);
    dispatch_.Closed(each.file);
    return true;
  };
  files_.erase(std::remove_if(files_.begin(), files_.end(), closed), files_.end());
  if (closing()) return;
  for (const auto& done : std::exchange(synced_, {})) done();
}

bool CsvWriter::closing() const {
  return std::any_of(files_.begin(), files_.end(),
                     [](const OpenFile& each) { return each.close_ns != kOpen; });
}

void CsvWriter::Sync(std::function<void()> done) {
  Drain();
  Flush();
  if (closing()) {
    synced_.push_back(std::move(done));
  } else {
    done();
  }
}

}  // namespace libbpf_ts
