// SPDX-License-Identifier: MIT
#include "netfilter.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <cstring>
#include "quiet_thread.h"

namespace libbpf_ts {
namespace {

// union bpf_attr of BPF_LINK_CREATE, as far as it is about netfilter.
struct LinkCreate {
  uint32_t program;
  uint32_t target;  // not used: the link hangs on the namespace of the thread that makes it
  uint32_t attach_type;
  uint32_t flags;
  uint32_t family;
  uint32_t hook;
  int32_t priority;
  uint32_t netfilter_flags;
};

// One link, made by a thread that may go elsewhere for it.
struct Attempt {
  LinkCreate request;
  int space = -1;
  int link = -1;
  int error = 0;
  bool entered = true;

  void Make() {
    link = static_cast<int>(syscall(__NR_bpf, BPF_LINK_CREATE, &request, sizeof request));
    if (link < 0) error = errno;
  }

  void Run() {
    entered = setns(space, CLONE_NEWNET) == 0;
    if (!entered) {
      error = errno;
    } else {
      Make();
    }
  }
};

}  // namespace

void TypeNetfilterPrograms(bpf_object* object) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (strcmp(bpf_program__section_name(program), kNetfilterName) != 0) continue;
    bpf_program__set_type(program, kNetfilterProgram);
    bpf_program__set_expected_attach_type(program, kNetfilterAttach);
  }
}

int ProbeNetfilter() {
  bpf_insn accept[2] = {};
  accept[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
  accept[0].imm = 1;  // NF_ACCEPT
  accept[1].code = BPF_JMP | BPF_EXIT;
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = kNetfilterAttach);
  Fd program(bpf_prog_load(kNetfilterProgram, nullptr, "GPL", accept, 2, &options));
  if (program.valid()) return 1;
  return errno == EINVAL ? 0 : -errno;
}

Failure AttachNetfilter(int program, const std::string& name, const NetfilterPlace& place,
                        NetfilterHold* out) {
  const char* operation = "attach to netfilter";
  // Opened before the link, so that a process that just dies lets go of it after the link.
  Fd space(place.space < 0 ? open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
                           : fcntl(place.space, F_DUPFD_CLOEXEC, 0));
  if (!space.valid()) return Fail(errno, operation, name, "no such network namespace");
  Attempt attempt;
  attempt.request = {static_cast<uint32_t>(program),
                     0,
                     kNetfilterAttach,
                     0,
                     place.family,
                     place.hook,
                     place.priority,
                     0};
  attempt.space = space.get();
  if (place.space < 0) {
    attempt.Make();
  } else {
    pthread_t thread;
    int error = StartQuietThread<Attempt, &Attempt::Run>(&thread, &attempt);
    if (error != 0) return Fail(error, operation, name, "no thread to enter the namespace");
    pthread_join(thread, nullptr);
  }
  if (!attempt.entered) {
    return Fail(attempt.error, operation, name, "the network namespace cannot be entered");
  }
  if (attempt.link < 0) return Fail(attempt.error, operation, name);
  *out = {std::move(space), Fd(attempt.link)};
  return {};
}

}  // namespace libbpf_ts
