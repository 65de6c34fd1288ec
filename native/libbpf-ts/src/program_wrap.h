// SPDX-License-Identifier: MIT
// NativeProgram: a loaded program and the ways to attach it.
#pragma once

#include <napi.h>
#include <memory>
#include <string>
#include "link_core.h"
#include "object_core.h"

namespace libbpf_ts {

class ProgramWrap : public Napi::ObjectWrap<ProgramWrap> {
 public:
  static void Init(Napi::Env env);
  static Napi::Value New(Napi::Env env, std::shared_ptr<ObjectCore> core, bpf_program* program);
  explicit ProgramWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value GetFd(const Napi::CallbackInfo& info);
  Napi::Value Information(const Napi::CallbackInfo& info);
  Napi::Value TestRun(const Napi::CallbackInfo& info);
  Napi::Value Attach(const Napi::CallbackInfo& info);
  Napi::Value AttachUprobe(const Napi::CallbackInfo& info);
  Napi::Value AttachCgroup(const Napi::CallbackInfo& info);
  Napi::Value AttachPerfEvent(const Napi::CallbackInfo& info);
  Napi::Value AttachIterator(const Napi::CallbackInfo& info);
  Napi::Value AttachRawTracepoint(const Napi::CallbackInfo& info);
  Napi::Value AttachScopedUprobe(const Napi::CallbackInfo& info);
  Napi::Value AttachNetfilter(const Napi::CallbackInfo& info);

  bool Usable(Napi::Env env, const char* operation);
  // Takes over what libbpf returned, or throws errno.
  Napi::Value Adopt(Napi::Env env, const char* operation, bpf_link* link, const std::string& log);
  Napi::Value Adopt(Napi::Env env, std::shared_ptr<LinkCore> link);

  std::shared_ptr<ObjectCore> core_;
  bpf_program* program_ = nullptr;
  std::string name_;
};

}  // namespace libbpf_ts
