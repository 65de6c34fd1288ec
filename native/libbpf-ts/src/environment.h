// SPDX-License-Identifier: MIT
// What one JavaScript environment (main thread or worker) owns, and how native failures become its
// errors.
#pragma once

#include <bpf/btf.h>
#include <napi.h>
#include <memory>
#include <string>
#include "failure.h"
#include "log_buffer.h"
#include "resource.h"

namespace libbpf_ts {

class Environment {
 public:
  static Environment& Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }
  static void Init(Napi::Env env, Napi::Object exports);
  Environment() : open_(std::make_shared<Resource>()) {}
  ~Environment();

  // Keeps a resource alive until it is closed, or this environment ends.
  void Keep(const std::shared_ptr<Resource>& resource) { open_->AddChild(resource); }

  // The kernel's own types, parsed on first use; null without CONFIG_DEBUG_INFO_BTF.
  struct btf* Vmlinux();

  Napi::FunctionReference make_error;  // (operation, object, errno, message, log) => Error
  Napi::FunctionReference on_log;      // (level, text)
  int log_level = 0;
  Napi::FunctionReference map_constructor;
  Napi::FunctionReference program_constructor;
  Napi::FunctionReference link_constructor;
  Napi::FunctionReference event_constructor;
  Napi::FunctionReference file_constructor;
  Napi::FunctionReference tap_constructor;

 private:
  std::shared_ptr<Resource> open_;
  struct btf* vmlinux_ = nullptr;
  bool vmlinux_tried_ = false;
};

// Captures libbpf's output around one operation and hands it to the listener, if there is one.
class LogScope {
 public:
  explicit LogScope(Napi::Env env);
  ~LogScope();
  std::string Text() const { return buffer_.Text(); }

 private:
  Napi::Env env_;
  LogBuffer buffer_;
};

// Throw into JavaScript; the caller returns at once.
void Throw(Napi::Env env, const Failure& failure, const std::string& log = {});
void ThrowClosed(Napi::Env env, const char* operation, const std::string& object);

}  // namespace libbpf_ts
