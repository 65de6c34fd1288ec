// SPDX-License-Identifier: MIT
#include "ring_wrap.h"

#include <linux/bpf.h>
#include "arguments.h"
#include "environment.h"
#include "map_wrap.h"

namespace libbpf_ts {

Failure RingCore::Notify(Napi::Env env, Napi::Function callback) {
  napi_value name = Napi::String::New(env, "libbpf-ts ring buffer");
  // Queue of one: the reader notifies once and waits for Rearm.
  napi_status status = napi_create_threadsafe_function(env, callback, nullptr, name, 1, 1, nullptr,
                                                       nullptr, nullptr, nullptr, &notify_);
  if (status != napi_ok) return Fail(ENOMEM, "watch ring buffer", "");
  napi_unref_threadsafe_function(env, notify_);  // must not keep the process alive
  // Hooks run last in, first out: this one before Node takes the function away from the thread.
  env_ = env;
  napi_add_env_cleanup_hook(env, OnEnvironmentExit, this);
  napi_threadsafe_function notify = notify_;
  return reader_->StartNotifier(
      [notify] { napi_call_threadsafe_function(notify, nullptr, napi_tsfn_nonblocking); });
}

void RingCore::OnEnvironmentExit(void* ring) { static_cast<RingCore*>(ring)->Close(); }

void RingCore::DoClose() {
  reader_.reset();  // joins the thread
  if (notify_ == nullptr) return;
  napi_release_threadsafe_function(notify_, napi_tsfn_abort);
  notify_ = nullptr;
  napi_remove_env_cleanup_hook(env_, OnEnvironmentExit, this);
}

void RingWrap::Init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeRing", DefineClass(env, "NativeRing",
                                        {InstanceMethod<&RingWrap::Fill>("fill"),
                                         InstanceMethod<&RingWrap::Pending>("pending"),
                                         InstanceMethod<&RingWrap::Rearm>("rearm"),
                                         InstanceMethod<&RingWrap::Closed>("closed"),
                                         InstanceMethod<&RingWrap::CloseRing>("close")}));
}

// new NativeRing(maps: NativeMap[], onReadable?: () => void)
RingWrap::RingWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RingWrap>(info) {
  Napi::Env env = info.Env();
  if (!info[0].IsArray() || info[0].As<Napi::Array>().Length() == 0) {
    WrongArgument(info, 0, "a non-empty array of maps");
    return;
  }
  auto core = std::make_shared<RingCore>();
  Napi::Array maps = info[0].As<Napi::Array>();
  std::vector<std::shared_ptr<ObjectCore>> owners;
  for (uint32_t index = 0; index < maps.Length(); index++) {
    Napi::Value value = maps.Get(index);
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&MapWrap::kTag)) {
      WrongArgument(info, 0, "an array of maps");
      return;
    }
    MapWrap* map = MapWrap::Unwrap(value.As<Napi::Object>());
    if (!map->Usable(env, "open ring buffer")) return;
    if (map->shape().type != BPF_MAP_TYPE_RINGBUF) {
      Throw(env, Fail(EINVAL, "open ring buffer", map->name(), "not a ring buffer map"));
      return;
    }
    Failure failure =
        core->reader()->AddRing(map->shape().fd, map->shape().max_entries, map->name());
    if (failure) {
      Throw(env, failure);
      return;
    }
    owners.push_back(map->core());
  }
  if (info[1].IsFunction()) {
    Failure failure = core->Notify(env, info[1].As<Napi::Function>());
    if (failure) {
      core->Close();
      Throw(env, failure);
      return;
    }
  }
  for (auto& owner : owners) owner->AddChild(core);
  core_ = std::move(core);
}

bool RingWrap::Usable(Napi::Env env, const char* operation) {
  if (core_ && !core_->closed()) return true;
  ThrowClosed(env, operation, "ring buffer");
  return false;
}

// fill(buffer, maxRecords) => bytes written; negative: nothing fitted, this many are needed
Napi::Value RingWrap::Fill(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Bytes buffer;
  uint64_t max_records = 0;
  if (!Usable(env, "read ring buffer") || !Read(info, 0, &buffer) || !Read(info, 1, &max_records)) {
    return env.Undefined();
  }
  RingReader::Result result = core_->reader()->Read(const_cast<uint8_t*>(buffer.data), buffer.size,
                                                    static_cast<size_t>(max_records));
  double answer =
      result.needed > 0 ? -static_cast<double>(result.needed) : static_cast<double>(result.bytes);
  return Napi::Number::New(env, answer);
}

Napi::Value RingWrap::Pending(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "read ring buffer")) return env.Undefined();
  return Napi::Number::New(env, static_cast<double>(core_->reader()->Pending()));
}

Napi::Value RingWrap::Rearm(const Napi::CallbackInfo& info) {
  if (core_ && !core_->closed()) core_->reader()->Rearm();
  return info.Env().Undefined();
}

Napi::Value RingWrap::Closed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !core_ || core_->closed());
}

Napi::Value RingWrap::CloseRing(const Napi::CallbackInfo& info) {
  if (core_) core_->Close();
  return info.Env().Undefined();
}

}  // namespace libbpf_ts
