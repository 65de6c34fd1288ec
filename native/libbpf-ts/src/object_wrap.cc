// SPDX-License-Identifier: MIT
#include "object_wrap.h"

#include <bpf/btf.h>
#include <cstring>
#include "arguments.h"
#include "environment.h"
#include "map_wrap.h"
#include "netfilter.h"
#include "program_wrap.h"

namespace libbpf_ts {

void ObjectWrap::Init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeObject",
              DefineClass(env, "NativeObject",
                          {InstanceMethod<&ObjectWrap::Programs>("programs"),
                           InstanceMethod<&ObjectWrap::Maps>("maps"),
                           InstanceMethod<&ObjectWrap::Btf>("btf"),
                           InstanceMethod<&ObjectWrap::SetAutoload>("setAutoload"),
                           InstanceMethod<&ObjectWrap::SetAutocreate>("setAutocreate"),
                           InstanceMethod<&ObjectWrap::SetMaxEntries>("setMaxEntries"),
                           InstanceMethod<&ObjectWrap::WriteInitial>("writeInitial"),
                           InstanceMethod<&ObjectWrap::Load>("load"),
                           InstanceMethod<&ObjectWrap::GetProgram>("program"),
                           InstanceMethod<&ObjectWrap::GetMap>("map"),
                           InstanceMethod<&ObjectWrap::CloseObject>("close")}));
}

// new NativeObject(path: string | bytes: Uint8Array, name: string), or (loaded: NativeObject, "")
ObjectWrap::ObjectWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ObjectWrap>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
  std::string name;
  if (!Read(info, 1, &name)) return;
  LogScope log(info.Env());
  Failure failure;
  if (info[0].IsObject() && info[0].As<Napi::Object>().CheckTypeTag(&kTag)) {
    ObjectWrap* loaded = Unwrap(info[0].As<Napi::Object>());
    if (!loaded->Usable(info.Env(), "reopen")) return;
    failure = ObjectCore::Reopen(*loaded->core_, &core_);
  } else if (info[0].IsString()) {
    std::string path;
    if (!Read(info, 0, &path)) return;
    failure = ObjectCore::OpenFile(path, name, &core_);
  } else {
    Bytes bytes;
    if (!Read(info, 0, &bytes)) return;
    failure = ObjectCore::OpenMemory(bytes.data, bytes.size, name, &core_);
  }
  if (failure) Throw(info.Env(), failure, log.Text());
}

bool ObjectWrap::Usable(Napi::Env env, const char* operation, bool before_load) {
  if (!core_ || core_->closed()) {
    ThrowClosed(env, operation, core_ ? core_->name() : "");
    return false;
  }
  if (before_load && core_->loaded()) {
    Throw(env, Fail(EBUSY, operation, core_->name(), "it is already loaded"));
    return false;
  }
  return true;
}

Napi::Value ObjectWrap::Programs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "list programs")) return env.Undefined();
  Napi::Array list = Napi::Array::New(env);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, core_->get()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", bpf_program__name(program));
    entry.Set("section", bpf_program__section_name(program));
    const char* type = bpf_program__type(program) == kNetfilterProgram
                           ? kNetfilterName
                           : libbpf_bpf_prog_type_str(bpf_program__type(program));
    entry.Set("type", type != nullptr ? type : "unknown");
    entry.Set("autoload", bpf_program__autoload(program));
    entry.Set("loaded", core_->loaded() && bpf_program__fd(program) >= 0);
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Value ObjectWrap::Maps(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "list maps")) return env.Undefined();
  Napi::Array list = Napi::Array::New(env);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, core_->get()) {
    Napi::Object entry = Napi::Object::New(env);
    const char* type = libbpf_bpf_map_type_str(bpf_map__type(map));
    entry.Set("name", bpf_map__name(map));
    entry.Set("type", type != nullptr ? type : "unknown");
    entry.Set("keySize", Napi::Number::New(env, bpf_map__key_size(map)));
    entry.Set("valueSize", Napi::Number::New(env, bpf_map__value_size(map)));
    entry.Set("maxEntries", Napi::Number::New(env, bpf_map__max_entries(map)));
    entry.Set("flags", Napi::Number::New(env, bpf_map__map_flags(map)));
    entry.Set("keyTypeId", Napi::Number::New(env, bpf_map__btf_key_type_id(map)));
    entry.Set("valueTypeId", Napi::Number::New(env, bpf_map__btf_value_type_id(map)));
    entry.Set("internal", bpf_map__is_internal(map));
    entry.Set("autocreate", bpf_map__autocreate(map));
    entry.Set("shared", core_->Shared(map));
    entry.Set("created", core_->Created(map));
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Value ObjectWrap::Btf(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "read BTF")) return env.Undefined();
  const struct btf* btf = bpf_object__btf(core_->get());
  if (btf == nullptr) return env.Undefined();
  uint32_t size = 0;
  const void* bytes = btf__raw_data(btf, &size);
  if (bytes == nullptr) return env.Undefined();
  return Napi::Buffer<uint8_t>::Copy(env, static_cast<const uint8_t*>(bytes), size);
}

bpf_program* ObjectWrap::FindProgram(const Napi::CallbackInfo& info, const char* operation) {
  std::string name;
  if (!Read(info, 0, &name)) return nullptr;
  bpf_program* program = bpf_object__find_program_by_name(core_->get(), name.c_str());
  if (program == nullptr) Throw(info.Env(), Fail(ENOENT, operation, name, "no such program"));
  return program;
}

bpf_map* ObjectWrap::FindMap(const Napi::CallbackInfo& info, const char* operation) {
  std::string name;
  if (!Read(info, 0, &name)) return nullptr;
  bpf_map* map = bpf_object__find_map_by_name(core_->get(), name.c_str());
  if (map == nullptr) Throw(info.Env(), Fail(ENOENT, operation, name, "no such map"));
  return map;
}

// A map this object is to make: one it shares is there already, as it is.
bpf_map* ObjectWrap::FindOwnMap(const Napi::CallbackInfo& info, const char* operation) {
  bpf_map* map = FindMap(info, operation);
  if (map == nullptr || !core_->Shared(map)) return map;
  Throw(info.Env(), Fail(EEXIST, operation, bpf_map__name(map),
                         "it is there already, made by the object this one was reopened from"));
  return nullptr;
}

Napi::Value ObjectWrap::SetAutoload(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bool value = false;
  if (!Usable(env, "set autoload", true) || !Read(info, 1, &value)) return env.Undefined();
  bpf_program* program = FindProgram(info, "set autoload");
  if (program == nullptr) return env.Undefined();
  int error = bpf_program__set_autoload(program, value);
  if (error != 0) Throw(env, Fail(error, "set autoload", bpf_program__name(program)));
  return env.Undefined();
}

Napi::Value ObjectWrap::SetAutocreate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bool value = false;
  if (!Usable(env, "set autocreate", true) || !Read(info, 1, &value)) return env.Undefined();
  bpf_map* map = FindOwnMap(info, "set autocreate");
  if (map == nullptr) return env.Undefined();
  int error = bpf_map__set_autocreate(map, value);
  if (error != 0) Throw(env, Fail(error, "set autocreate", bpf_map__name(map)));
  return env.Undefined();
}

Napi::Value ObjectWrap::SetMaxEntries(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t value = 0;
  if (!Usable(env, "set max entries", true) || !Read(info, 1, &value)) return env.Undefined();
  bpf_map* map = FindOwnMap(info, "set max entries");
  if (map == nullptr) return env.Undefined();
  int error = bpf_map__set_max_entries(map, value);
  if (error != 0) Throw(env, Fail(error, "set max entries", bpf_map__name(map)));
  return env.Undefined();
}

// writeInitial(map, offset, bytes): part of a global data section, before loading
Napi::Value ObjectWrap::WriteInitial(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t offset = 0;
  Bytes bytes;
  if (!Usable(env, "set variable", true) || !Read(info, 1, &offset) || !Read(info, 2, &bytes)) {
    return env.Undefined();
  }
  bpf_map* map = FindOwnMap(info, "set variable");
  if (map == nullptr) return env.Undefined();
  size_t size = 0;
  void* memory = const_cast<void*>(static_cast<const void*>(bpf_map__initial_value(map, &size)));
  if (memory == nullptr) {
    Throw(env, Fail(EINVAL, "set variable", bpf_map__name(map), "not a data section"));
  } else if (offset > size || bytes.size > size - offset) {
    Throw(env, Fail(ERANGE, "set variable", bpf_map__name(map), "outside of the section"));
  } else if (bytes.size > 0) {
    memcpy(static_cast<uint8_t*>(memory) + offset, bytes.data, bytes.size);
  }
  return env.Undefined();
}

Napi::Value ObjectWrap::Load(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "load", true)) return env.Undefined();
  LogScope log(env);
  Failure failure = core_->Load();
  if (failure) {
    Throw(env, failure, log.Text());
  } else {
    Environment::Of(env).Keep(core_);
  }
  return env.Undefined();
}

Napi::Value ObjectWrap::GetProgram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "get program")) return env.Undefined();
  bpf_program* program = FindProgram(info, "get program");
  if (program == nullptr) return env.Undefined();
  return ProgramWrap::New(env, core_, program);
}

Napi::Value ObjectWrap::GetMap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "get map")) return env.Undefined();
  bpf_map* map = FindMap(info, "get map");
  if (map == nullptr) return env.Undefined();
  return MapWrap::New(env, core_, map);
}

Napi::Value ObjectWrap::CloseObject(const Napi::CallbackInfo& info) {
  if (core_) core_->Close();
  return info.Env().Undefined();
}

}  // namespace libbpf_ts
