// SPDX-License-Identifier: MIT
// The ways to attach a program.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include "arguments.h"
#include "environment.h"
#include "link_wrap.h"
#include "netfilter.h"
#include "perf_event.h"
#include "program_wrap.h"
#include "tracefs_wrap.h"

namespace libbpf_ts {

Napi::Value ProgramWrap::Adopt(Napi::Env env, const char* operation, bpf_link* link,
                               const std::string& log) {
  if (link == nullptr) {
    Throw(env, Fail(errno, operation, name_), log);
    return env.Undefined();
  }
  return Adopt(env, std::make_shared<LinkCore>(name_, link));
}

Napi::Value ProgramWrap::Adopt(Napi::Env env, std::shared_ptr<LinkCore> link) {
  core_->AddChild(link);
  return LinkWrap::New(env, std::move(link));
}

Napi::Value ProgramWrap::Attach(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "attach")) return env.Undefined();
  LogScope log(env);
  bpf_link* link = bpf_program__attach(program_);
  return Adopt(env, "attach", link, log.Text());
}

// attachUprobe(path, offset, pid, retprobe, cookie)
Napi::Value ProgramWrap::AttachUprobe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path;
  uint64_t offset = 0, cookie = 0;
  int32_t pid = -1;
  bool retprobe = false;
  if (!Usable(env, "attach uprobe") || !Read(info, 0, &path) || !Read(info, 1, &offset) ||
      !Read(info, 2, &pid) || !Read(info, 3, &retprobe) || !Read(info, 4, &cookie)) {
    return env.Undefined();
  }
  LIBBPF_OPTS(bpf_uprobe_opts, options, .bpf_cookie = cookie, .retprobe = retprobe);
  LogScope log(env);
  bpf_link* link = bpf_program__attach_uprobe_opts(program_, pid, path.c_str(), offset, &options);
  return Adopt(env, "attach uprobe", link, log.Text());
}

Napi::Value ProgramWrap::AttachCgroup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path;
  if (!Usable(env, "attach to cgroup") || !Read(info, 0, &path)) return env.Undefined();
  Fd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) {
    Throw(env, Fail(errno, "attach to cgroup", name_, path));
    return env.Undefined();
  }
  LogScope log(env);
  bpf_link* link = bpf_program__attach_cgroup(program_, directory.get());
  return Adopt(env, "attach to cgroup", link, log.Text());
}

// attachPerfEvent(type, config, samplePeriod, sampleFrequency, pid, cpu)
Napi::Value ProgramWrap::AttachPerfEvent(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t type = 0;
  uint64_t config = 0, period = 0, frequency = 0;
  int32_t pid = -1, cpu = -1;
  if (!Usable(env, "attach perf event") || !Read(info, 0, &type) || !Read(info, 1, &config) ||
      !Read(info, 2, &period) || !Read(info, 3, &frequency) || !Read(info, 4, &pid) ||
      !Read(info, 5, &cpu)) {
    return env.Undefined();
  }
  perf_event_attr attributes = {};
  attributes.type = type;
  attributes.config = config;
  if (frequency > 0) {
    attributes.freq = 1;
    attributes.sample_freq = frequency;
  } else {
    attributes.sample_period = period;
  }
  Fd event;
  int error = OpenPerfEvent(&attributes, pid, cpu, &event);
  if (error != 0) {
    Throw(env, Fail(error, "open perf event", name_,
                    "type " + std::to_string(type) + ", config " + std::to_string(config) +
                        ", pid " + std::to_string(pid) + ", cpu " + std::to_string(cpu)));
    return env.Undefined();
  }
  LogScope log(env);
  bpf_link* link = bpf_program__attach_perf_event(program_, event.get());
  if (link == nullptr) {
    Throw(env, Fail(errno, "attach perf event", name_), log.Text());
    return env.Undefined();
  }
  event.Release();  // the link closes it
  return Adopt(env, std::make_shared<LinkCore>(name_, link));
}

Napi::Value ProgramWrap::AttachIterator(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "attach iterator")) return env.Undefined();
  LogScope log(env);
  bpf_link* link = bpf_program__attach_iter(program_, nullptr);
  return Adopt(env, "attach iterator", link, log.Text());
}

Napi::Value ProgramWrap::AttachRawTracepoint(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string tracepoint;
  if (!Usable(env, "attach raw tracepoint") || !Read(info, 0, &tracepoint)) {
    return env.Undefined();
  }
  LogScope log(env);
  bpf_link* link = bpf_program__attach_raw_tracepoint(program_, tracepoint.c_str());
  return Adopt(env, "attach raw tracepoint", link, log.Text());
}

// attachScopedUprobe(event, cookie, anchorPid)
//
// The program goes on a perf event of its own, never on the inherited one that keeps the
// breakpoints: the kernel detaches a program from an inherited event as soon as the first inherited
// child exits. Programs hang on the event's call, not on one perf event, so this one sees every hit
// in scope although its own event is bound to the anchor and never enabled.
Napi::Value ProgramWrap::AttachScopedUprobe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  UprobeEventWrap* event = nullptr;
  uint64_t cookie = 0;
  int32_t anchor = -1;
  const char* operation = "attach scoped uprobe";
  if (!Usable(env, operation) || !ReadInstance(info, 0, &event) || !event->Usable(env, operation) ||
      !Read(info, 1, &cookie) || !Read(info, 2, &anchor)) {
    return env.Undefined();
  }
  Fd carrier;
  Failure failure = event->core()->OpenCarrier(anchor, &carrier);
  if (failure) {
    failure.object = name_;
    Throw(env, failure);
    return env.Undefined();
  }
  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.perf_event.bpf_cookie = cookie;
  int program = bpf_program__fd(program_);
  Fd link(bpf_link_create(program, carrier.get(), BPF_PERF_EVENT, &options));
  if (!link.valid()) {
    int error = errno;
    // Before 5.15 there are no links on perf events, and no cookies.
    bool attached = error == EINVAL && cookie == 0 &&
                    ioctl(carrier.get(), PERF_EVENT_IOC_SET_BPF, program) == 0;
    if (!attached) {
      Throw(env, Fail(error, operation, name_, event->core()->label()));
      return env.Undefined();
    }
  }
  auto core = std::make_shared<LinkCore>(name_, std::move(link), std::move(carrier));
  event->core()->AddChild(core);
  return Adopt(env, std::move(core));
}

// attachNetfilter(family, hook, priority, namespace descriptor; -1 = the caller's)
Napi::Value ProgramWrap::AttachNetfilter(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  NetfilterPlace place;
  if (!Usable(env, "attach to netfilter") || !Read(info, 0, &place.family) ||
      !Read(info, 1, &place.hook) || !Read(info, 2, &place.priority) ||
      !Read(info, 3, &place.space)) {
    return env.Undefined();
  }
  NetfilterHold hold;
  Failure failure = libbpf_ts::AttachNetfilter(bpf_program__fd(program_), name_, place, &hold);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  return Adopt(env, std::make_shared<LinkCore>(name_, std::move(hold.link), std::move(hold.space)));
}

}  // namespace libbpf_ts
