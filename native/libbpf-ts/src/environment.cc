// SPDX-License-Identifier: MIT
#include "environment.h"

#include <bpf/libbpf.h>
#include <cstring>

namespace libbpf_ts {
namespace {

Napi::Value SetErrorFactory(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsFunction()) {
    Napi::TypeError::New(info.Env(), "expected a function").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Environment::Of(info.Env()).make_error = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value SetLogListener(const Napi::CallbackInfo& info) {
  Environment& data = Environment::Of(info.Env());
  data.on_log.Reset();
  data.log_level = 0;
  if (info.Length() >= 2 && info[0].IsNumber() && info[1].IsFunction()) {
    data.log_level = info[0].As<Napi::Number>().Int32Value();
    data.on_log = Napi::Persistent(info[1].As<Napi::Function>());
  }
  return info.Env().Undefined();
}

}  // namespace

void Environment::Init(Napi::Env env, Napi::Object exports) {
  LogBuffer::Install();
  auto* data = new Environment();
  env.SetInstanceData(data);
  // Runs before references are finalised, while closing can still be done in order.
  env.AddCleanupHook([data] { data->open_->Close(); });
  exports.Set("setErrorFactory", Napi::Function::New(env, SetErrorFactory));
  exports.Set("setLogListener", Napi::Function::New(env, SetLogListener));
}

Environment::~Environment() {
  open_->Close();
  btf__free(vmlinux_);
}

struct btf* Environment::Vmlinux() {
  if (!vmlinux_tried_) {
    vmlinux_tried_ = true;
    vmlinux_ = btf__load_vmlinux_btf();
    if (libbpf_get_error(vmlinux_) != 0) vmlinux_ = nullptr;
  }
  return vmlinux_;
}

LogScope::LogScope(Napi::Env env) : env_(env), buffer_(Environment::Of(env).log_level) {}

LogScope::~LogScope() {
  Environment& data = Environment::Of(env_);
  if (data.on_log.IsEmpty()) return;
  Napi::HandleScope scope(env_);
  // An error on its way out waits while the listener hears how it came about.
  Napi::Error pending;
  bool had_pending = env_.IsExceptionPending();
  if (had_pending) pending = env_.GetAndClearPendingException();
  for (const auto& [level, text] : buffer_.lines()) {
    if (level > data.log_level || data.on_log.IsEmpty()) continue;
    data.on_log.Call({Napi::Number::New(env_, level), Napi::String::New(env_, text)});
    if (env_.IsExceptionPending()) {
      if (!had_pending) return;
      env_.GetAndClearPendingException();
    }
  }
  if (had_pending) pending.ThrowAsJavaScriptException();
}

void Throw(Napi::Env env, const Failure& failure, const std::string& log) {
  if (env.IsExceptionPending()) return;
  Environment& data = Environment::Of(env);
  if (data.make_error.IsEmpty()) {
    Napi::Error::New(env, failure.operation + ": " + strerror(failure.error))
        .ThrowAsJavaScriptException();
    return;
  }
  Napi::Value error = data.make_error.Call(
      {Napi::String::New(env, failure.operation), Napi::String::New(env, failure.object),
       Napi::Number::New(env, failure.error), Napi::String::New(env, failure.message),
       Napi::String::New(env, log)});
  if (!env.IsExceptionPending()) napi_throw(env, error);
}

void ThrowClosed(Napi::Env env, const char* operation, const std::string& object) {
  Throw(env, Fail(EBADF, operation, object, "it is closed"));
}

}  // namespace libbpf_ts
