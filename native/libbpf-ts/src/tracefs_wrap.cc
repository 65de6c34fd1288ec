// SPDX-License-Identifier: MIT
#include "tracefs_wrap.h"

#include "arguments.h"
#include "environment.h"

namespace libbpf_ts {

void TracefsWrap::Init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeTracefs",
              DefineClass(env, "NativeTracefs",
                          {InstanceMethod<&TracefsWrap::ReadText>("readText"),
                           InstanceMethod<&TracefsWrap::AppendText>("appendText"),
                           InstanceMethod<&TracefsWrap::DefineUprobe>("defineUprobe"),
                           InstanceMethod<&TracefsWrap::CloseTracefs>("close")}));
}

TracefsWrap::TracefsWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TracefsWrap>(info) {
  Failure failure = Tracefs::Open(&core_);
  if (failure) {
    Throw(info.Env(), failure);
  } else {
    Environment::Of(info.Env()).Keep(core_);
  }
}

bool TracefsWrap::Usable(Napi::Env env, const char* operation) {
  if (core_ && !core_->closed()) return true;
  ThrowClosed(env, operation, "tracefs");
  return false;
}

Napi::Value TracefsWrap::ReadText(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path, text;
  if (!Usable(env, "read tracefs") || !Read(info, 0, &path)) return env.Undefined();
  Failure failure = core_->ReadText(path, &text);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  return Napi::String::New(env, text);
}

Napi::Value TracefsWrap::AppendText(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path, text;
  if (!Usable(env, "write tracefs") || !Read(info, 0, &path) || !Read(info, 1, &text)) {
    return env.Undefined();
  }
  Failure failure = core_->AppendText(path, text);
  if (failure) Throw(env, failure);
  return env.Undefined();
}

// defineUprobe(group, name, path, offset, retprobe) => NativeUprobeEvent
Napi::Value TracefsWrap::DefineUprobe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  UprobeEvent::Definition definition;
  if (!Usable(env, "define uprobe") || !Read(info, 0, &definition.group) ||
      !Read(info, 1, &definition.name) || !Read(info, 2, &definition.path) ||
      !Read(info, 3, &definition.offset) || !Read(info, 4, &definition.retprobe)) {
    return env.Undefined();
  }
  std::shared_ptr<UprobeEvent> event;
  Failure failure = UprobeEvent::Define(core_, definition, &event);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  return UprobeEventWrap::New(env, std::move(event));
}

Napi::Value TracefsWrap::CloseTracefs(const Napi::CallbackInfo& info) {
  if (core_) core_->Close();
  return info.Env().Undefined();
}

void UprobeEventWrap::Init(Napi::Env env) {
  Environment::Of(env).event_constructor = Napi::Persistent(
      DefineClass(env, "NativeUprobeEvent",
                  {InstanceMethod<&UprobeEventWrap::Id>("id"),
                   InstanceMethod<&UprobeEventWrap::Include>("include"),
                   InstanceMethod<&UprobeEventWrap::IncludeEveryone>("includeEveryone"),
                   InstanceMethod<&UprobeEventWrap::Closed>("closed"),
                   InstanceMethod<&UprobeEventWrap::CloseEvent>("close")}));
}

Napi::Value UprobeEventWrap::New(Napi::Env env, std::shared_ptr<UprobeEvent> core) {
  return Environment::Of(env).event_constructor.New(
      {Napi::External<std::shared_ptr<UprobeEvent>>::New(env, &core)});
}

UprobeEventWrap::UprobeEventWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<UprobeEventWrap>(info) {
  if (!info[0].IsExternal()) {
    WrongArgument(info, 0, "made by tracefs");
    return;
  }
  core_ = *info[0].As<Napi::External<std::shared_ptr<UprobeEvent>>>().Data();
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

bool UprobeEventWrap::Usable(Napi::Env env, const char* operation) {
  if (core_ && !core_->closed()) return true;
  ThrowClosed(env, operation, core_ ? core_->label() : "");
  return false;
}

Napi::Value UprobeEventWrap::Id(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core_ ? static_cast<double>(core_->id()) : 0);
}

// include(tid) => did the task exist
Napi::Value UprobeEventWrap::Include(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int32_t tid = 0;
  if (!Usable(env, "include task") || !Read(info, 0, &tid)) return env.Undefined();
  if (tid <= 0) {
    // perf_event_open would take 0 for ourselves and -1 for everybody.
    WrongArgument(info, 0, "a task id above zero");
    return env.Undefined();
  }
  bool existed = false;
  Failure failure = core_->Include(tid, &existed);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  return Napi::Boolean::New(env, existed);
}

Napi::Value UprobeEventWrap::IncludeEveryone(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "include every process")) return env.Undefined();
  Failure failure = core_->IncludeEveryone();
  if (failure) Throw(env, failure);
  return env.Undefined();
}

Napi::Value UprobeEventWrap::Closed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !core_ || core_->closed());
}

Napi::Value UprobeEventWrap::CloseEvent(const Napi::CallbackInfo& info) {
  if (core_) core_->Close();
  return info.Env().Undefined();
}

}  // namespace libbpf_ts
