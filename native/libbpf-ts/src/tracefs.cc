// SPDX-License-Identifier: MIT
#include "tracefs.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include "perf_event.h"

#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 1
#endif
#ifndef FSMOUNT_CLOEXEC
#define FSMOUNT_CLOEXEC 1
#endif
#ifndef SYS_fsopen  // kernel headers before 5.2; the numbers are the same on every architecture
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif

namespace libbpf_ts {
namespace {

constexpr int kFsconfigCreate = 6;  // FSCONFIG_CMD_CREATE: an enumerator, so not testable by #ifdef

Fd MountDetached() {
  Fd context(static_cast<int>(syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC)));
  if (!context.valid()) return Fd();
  if (syscall(SYS_fsconfig, context.get(), kFsconfigCreate, nullptr, nullptr, 0) != 0) return Fd();
  return Fd(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
}

bool PlainName(const std::string& name) {
  if (name.empty() || name.size() > 63) return false;
  for (char c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
  }
  return !std::isdigit(static_cast<unsigned char>(name[0]));
}

perf_event_attr TracepointAttributes(uint64_t id) {
  perf_event_attr attributes = {};
  attributes.type = PERF_TYPE_TRACEPOINT;
  attributes.config = id;
  // Disabled: it would only count. The breakpoint and the programs do not depend on it.
  attributes.disabled = 1;
  return attributes;
}

}  // namespace

Failure Tracefs::Open(std::shared_ptr<Tracefs>* out) {
  Fd directory = MountDetached();
  int error = errno;
  for (const char* path : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}) {
    if (directory.valid()) break;
    Fd candidate(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (candidate.valid() && faccessat(candidate.get(), "uprobe_events", F_OK, 0) == 0) {
      directory = std::move(candidate);
    }
  }
  if (!directory.valid()) return Fail(error, "open tracefs", "tracefs");
  *out = std::make_shared<Tracefs>(std::move(directory));
  return {};
}

Failure Tracefs::ReadText(const std::string& path, std::string* out) const {
  Fd file(openat(directory_.get(), path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Fail(errno, "read tracefs", path);
  char chunk[16384];
  for (;;) {
    ssize_t got = read(file.get(), chunk, sizeof chunk);
    if (got == 0) return {};
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Fail(errno, "read tracefs", path);
    out->append(chunk, static_cast<size_t>(got));
  }
}

Failure Tracefs::AppendText(const std::string& path, const std::string& text) const {
  // Appending: opening uprobe_events for plain writing would remove everybody's probes.
  Fd file(openat(directory_.get(), path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file.valid()) return Fail(errno, "write tracefs", path);
  ssize_t wrote;
  do {
    wrote = write(file.get(), text.data(), text.size());
  } while (wrote < 0 && errno == EINTR);
  if (wrote != static_cast<ssize_t>(text.size())) {
    return Fail(wrote < 0 ? errno : EIO, "write tracefs", path);
  }
  return {};
}

Failure UprobeEvent::Define(const std::shared_ptr<Tracefs>& tracefs, const Definition& definition,
                            std::shared_ptr<UprobeEvent>* out) {
  const char* operation = "define uprobe";
  std::string label = definition.group + "/" + definition.name;
  if (!PlainName(definition.group) || !PlainName(definition.name)) {
    return Fail(EINVAL, operation, label, "group and name are 1 to 63 of [A-Za-z0-9_]");
  }
  Fd file(open(definition.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Fail(errno, operation, definition.path);
  // The kernel's parser sees only our descriptor: whatever the path contains, it cannot split it.
  char line[256];
  snprintf(line, sizeof line, "%c:%s /proc/self/fd/%d:0x%" PRIx64 "\n",
           definition.retprobe ? 'r' : 'p', label.c_str(), file.get(), definition.offset);
  Failure failure = tracefs->AppendText("uprobe_events", line);
  if (failure) {
    return Fail(failure.error, operation, definition.path,
                failure.error == EEXIST ? label + " is already defined" : "");
  }
  std::string text;
  failure = tracefs->ReadText("events/" + label + "/id", &text);
  uint64_t id = strtoull(text.c_str(), nullptr, 10);
  if (failure || id == 0) {
    tracefs->AppendText("uprobe_events", "-:" + label + "\n");
    return Fail(failure ? failure.error : EIO, operation, label, "the kernel gave it no id");
  }
  *out = std::make_shared<UprobeEvent>(tracefs, label, id);
  tracefs->AddChild(*out);
  return {};
}

Failure UprobeEvent::Include(int tid, bool* existed) {
  perf_event_attr attributes = TracepointAttributes(id_);
  attributes.inherit = 1;
  // A context switch between two tasks that inherited the same events swaps their contexts instead
  // of changing the events; the kernel's uprobe filter then takes one task's events for the other's
  // and forgets the survivor when the other exits. Contexts with such a sample type are never
  // swapped (perf_event_context_sched_out, since 6.13); older kernels answer EINVAL to it.
  attributes.sample_type = PERF_SAMPLE_READ | PERF_SAMPLE_TID;
  Fd event;
  int error = OpenPerfEvent(&attributes, tid, -1, &event);
  if (error == -EINVAL) {
    attributes.sample_type = 0;
    error = OpenPerfEvent(&attributes, tid, -1, &event);
  }
  *existed = error != -ESRCH;
  if (error == -ESRCH) return {};
  if (error != 0) return Fail(error, "include task", label_, "task " + std::to_string(tid));
  scope_.push_back(std::move(event));
  return {};
}

Failure UprobeEvent::IncludeEveryone() {
  perf_event_attr attributes = TracepointAttributes(id_);
  Fd event;
  int error = OpenPerfEvent(&attributes, -1, 0, &event);
  if (error != 0) return Fail(error, "include every process", label_);
  scope_.push_back(std::move(event));
  return {};
}

Failure UprobeEvent::OpenCarrier(int anchor_pid, Fd* out) const {
  perf_event_attr attributes = TracepointAttributes(id_);
  int error = OpenPerfEvent(&attributes, anchor_pid, anchor_pid < 0 ? 0 : -1, out);
  if (error != 0) {
    return Fail(error, "attach scoped uprobe", label_, "anchor " + std::to_string(anchor_pid));
  }
  return {};
}

void UprobeEvent::DoClose() {
  scope_.clear();
  // Removing while a breakpoint is being taken out elsewhere answers EBUSY for a moment.
  for (int attempt = 0; attempt < 5; attempt++) {
    Failure failure = tracefs_->AppendText("uprobe_events", "-:" + label_ + "\n");
    if (failure.error != EBUSY) break;
    usleep(1000);
  }
}

}  // namespace libbpf_ts
