// SPDX-License-Identifier: MIT
#include "link_wrap.h"

#include "arguments.h"
#include "environment.h"

namespace libbpf_ts {

void LinkWrap::Init(Napi::Env env) {
  Environment::Of(env).link_constructor = Napi::Persistent(DefineClass(
      env, "NativeLink",
      {InstanceMethod<&LinkWrap::Closed>("closed"), InstanceMethod<&LinkWrap::CloseLink>("close"),
       InstanceMethod<&LinkWrap::ReadIterator>("readIterator")}));
}

Napi::Value LinkWrap::New(Napi::Env env, std::shared_ptr<LinkCore> core) {
  return Environment::Of(env).link_constructor.New(
      {Napi::External<std::shared_ptr<LinkCore>>::New(env, &core)});
}

LinkWrap::LinkWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LinkWrap>(info) {
  if (!info[0].IsExternal()) {
    WrongArgument(info, 0, "made by attaching a program");
    return;
  }
  core_ = *info[0].As<Napi::External<std::shared_ptr<LinkCore>>>().Data();
}

Napi::Value LinkWrap::Closed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !core_ || core_->closed());
}

Napi::Value LinkWrap::CloseLink(const Napi::CallbackInfo& info) {
  if (core_) core_->Close();
  return info.Env().Undefined();
}

Napi::Value LinkWrap::ReadIterator(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!core_ || core_->closed()) {
    ThrowClosed(env, "read iterator", core_ ? core_->name() : "");
    return env.Undefined();
  }
  std::vector<uint8_t> bytes;
  Failure failure = core_->ReadIterator(&bytes);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

}  // namespace libbpf_ts
