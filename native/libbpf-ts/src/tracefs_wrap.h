// SPDX-License-Identifier: MIT
// NativeTracefs and NativeUprobeEvent.
#pragma once

#include <napi.h>
#include <memory>
#include "tracefs.h"

namespace libbpf_ts {

class TracefsWrap : public Napi::ObjectWrap<TracefsWrap> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit TracefsWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value ReadText(const Napi::CallbackInfo& info);
  Napi::Value AppendText(const Napi::CallbackInfo& info);
  Napi::Value DefineUprobe(const Napi::CallbackInfo& info);
  Napi::Value CloseTracefs(const Napi::CallbackInfo& info);
  bool Usable(Napi::Env env, const char* operation);

  std::shared_ptr<Tracefs> core_;
};

class UprobeEventWrap : public Napi::ObjectWrap<UprobeEventWrap> {
 public:
  static constexpr napi_type_tag kTag = {0x6c696262706674d2, 0xb0a1d2c3e4f50002};
  static constexpr const char* kExpected = "a uprobe event";
  static void Init(Napi::Env env);
  static Napi::Value New(Napi::Env env, std::shared_ptr<UprobeEvent> core);
  explicit UprobeEventWrap(const Napi::CallbackInfo& info);

  bool Usable(Napi::Env env, const char* operation);
  const std::shared_ptr<UprobeEvent>& core() const { return core_; }

 private:
  Napi::Value Id(const Napi::CallbackInfo& info);
  Napi::Value Include(const Napi::CallbackInfo& info);
  Napi::Value IncludeEveryone(const Napi::CallbackInfo& info);
  Napi::Value Closed(const Napi::CallbackInfo& info);
  Napi::Value CloseEvent(const Napi::CallbackInfo& info);

  std::shared_ptr<UprobeEvent> core_;
};

}  // namespace libbpf_ts
