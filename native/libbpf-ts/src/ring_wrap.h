// SPDX-License-Identifier: MIT
// NativeRing: a ring reader and its way to tell JavaScript.
#pragma once

#include <napi.h>
#include <memory>
#include "resource.h"
#include "ring_reader.h"

namespace libbpf_ts {

// Lives until closed, by JavaScript, with one of its maps' objects, or with the environment.
class RingCore : public Resource {
 public:
  ~RingCore() override { Close(); }
  RingReader* reader() { return reader_.get(); }
  Failure Notify(Napi::Env env, Napi::Function callback);

 protected:
  void DoClose() override;

 private:
  static void OnEnvironmentExit(void* ring);

  std::unique_ptr<RingReader> reader_ = std::make_unique<RingReader>();
  napi_env env_ = nullptr;
  napi_threadsafe_function notify_ = nullptr;
};

class RingWrap : public Napi::ObjectWrap<RingWrap> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit RingWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Fill(const Napi::CallbackInfo& info);
  Napi::Value Pending(const Napi::CallbackInfo& info);
  Napi::Value Rearm(const Napi::CallbackInfo& info);
  Napi::Value Closed(const Napi::CallbackInfo& info);
  Napi::Value CloseRing(const Napi::CallbackInfo& info);
  bool Usable(Napi::Env env, const char* operation);

  std::shared_ptr<RingCore> core_;
};

}  // namespace libbpf_ts
