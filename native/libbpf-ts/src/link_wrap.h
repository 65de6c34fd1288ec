// SPDX-License-Identifier: MIT
// NativeLink: one attachment.
#pragma once

#include <napi.h>
#include <memory>
#include "link_core.h"

namespace libbpf_ts {

class LinkWrap : public Napi::ObjectWrap<LinkWrap> {
 public:
  static void Init(Napi::Env env);
  static Napi::Value New(Napi::Env env, std::shared_ptr<LinkCore> core);
  explicit LinkWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Closed(const Napi::CallbackInfo& info);
  Napi::Value CloseLink(const Napi::CallbackInfo& info);
  Napi::Value ReadIterator(const Napi::CallbackInfo& info);

  std::shared_ptr<LinkCore> core_;
};

}  // namespace libbpf_ts
