// SPDX-License-Identifier: MIT
// NativeObject: a BPF object file, before and after loading.
#pragma once

#include <napi.h>
#include <memory>
#include "object_core.h"

namespace libbpf_ts {

class ObjectWrap : public Napi::ObjectWrap<ObjectWrap> {
 public:
  static constexpr napi_type_tag kTag = {0x6c696262706674d1, 0xb0a1d2c3e4f50009};
  static constexpr const char* kExpected = "an object";
  static void Init(Napi::Env env, Napi::Object exports);
  explicit ObjectWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Programs(const Napi::CallbackInfo& info);
  Napi::Value Maps(const Napi::CallbackInfo& info);
  Napi::Value Btf(const Napi::CallbackInfo& info);
  Napi::Value SetAutoload(const Napi::CallbackInfo& info);
  Napi::Value SetAutocreate(const Napi::CallbackInfo& info);
  Napi::Value SetMaxEntries(const Napi::CallbackInfo& info);
  Napi::Value WriteInitial(const Napi::CallbackInfo& info);
  Napi::Value Load(const Napi::CallbackInfo& info);
  Napi::Value GetProgram(const Napi::CallbackInfo& info);
  Napi::Value GetMap(const Napi::CallbackInfo& info);
  Napi::Value CloseObject(const Napi::CallbackInfo& info);

  bool Usable(Napi::Env env, const char* operation, bool before_load = false);
  bpf_program* FindProgram(const Napi::CallbackInfo& info, const char* operation);
  bpf_map* FindMap(const Napi::CallbackInfo& info, const char* operation);
  bpf_map* FindOwnMap(const Napi::CallbackInfo& info, const char* operation);

  std::shared_ptr<ObjectCore> core_;
};

}  // namespace libbpf_ts
