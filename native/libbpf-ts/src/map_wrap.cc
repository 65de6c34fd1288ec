// SPDX-License-Identifier: MIT
#include "map_wrap.h"

#include <bpf/bpf.h>
#include <cstring>
#include "environment.h"
#include "map_batch.h"

namespace libbpf_ts {
namespace {

struct Seed {
  std::shared_ptr<ObjectCore> core;
  bpf_map* map;
};

// One variable's bytes in memory the kernel shares with us: a scalar moves in one access, so
// neither side ever sees half of it.
template <typename Word>
void CopyWord(void* to, const void* from, bool store) {
  if (store) {
    Word word;
    memcpy(&word, from, sizeof word);
    __atomic_store_n(static_cast<Word*>(to), word, __ATOMIC_RELAXED);
  } else {
    Word word = __atomic_load_n(static_cast<const Word*>(from), __ATOMIC_RELAXED);
    memcpy(to, &word, sizeof word);
  }
}

void CopyShared(void* to, const void* from, size_t size, bool store) {
  auto shared = reinterpret_cast<uintptr_t>(store ? to : from);
  if (size == 8 && shared % 8 == 0) return CopyWord<uint64_t>(to, from, store);
  if (size == 4 && shared % 4 == 0) return CopyWord<uint32_t>(to, from, store);
  if (size == 2 && shared % 2 == 0) return CopyWord<uint16_t>(to, from, store);
  if (size > 0) memcpy(to, from, size);
}

}  // namespace

void MapWrap::Init(Napi::Env env) {
  Napi::Function constructor = DefineClass(
      env, "NativeMap",
      {InstanceMethod<&MapWrap::GetFd>("fd"), InstanceMethod<&MapWrap::Shape>("shape"),
       InstanceMethod<&MapWrap::Lookup>("lookup"), InstanceMethod<&MapWrap::Update>("update"),
       InstanceMethod<&MapWrap::Remove>("remove"), InstanceMethod<&MapWrap::Entries>("entries"),
       InstanceMethod<&MapWrap::RemoveMany>("removeMany"),
       InstanceMethod<&MapWrap::ReadMemory>("readMemory"),
       InstanceMethod<&MapWrap::WriteMemory>("writeMemory")});
  Environment::Of(env).map_constructor = Napi::Persistent(constructor);
}

Napi::Value MapWrap::New(Napi::Env env, std::shared_ptr<ObjectCore> core, bpf_map* map) {
  Seed seed{std::move(core), map};
  return Environment::Of(env).map_constructor.New({Napi::External<Seed>::New(env, &seed)});
}

MapWrap::MapWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MapWrap>(info) {
  if (!info[0].IsExternal()) {
    WrongArgument(info, 0, "made by a loaded object");
    return;
  }
  Seed* seed = info[0].As<Napi::External<Seed>>().Data();
  core_ = seed->core;
  map_ = seed->map;
  shape_ = MapShape::Of(map_);
  name_ = bpf_map__name(map_);
  scratch_.resize(shape_.value_bytes + 8);
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

bool MapWrap::Usable(Napi::Env env, const char* operation) {
  if (!core_ || core_->closed()) {
    ThrowClosed(env, operation, name_);
    return false;
  }
  if (shape_.fd < 0) {
    Throw(env, Fail(EBADF, operation, name_, "the map was not created"));
    return false;
  }
  return true;
}

bool MapWrap::ReadSized(const Napi::CallbackInfo& info, size_t index, size_t size, const char* what,
                        Bytes* out) {
  if (!Read(info, index, out)) return false;
  if (out->size == size) return true;
  Throw(info.Env(), Fail(EMSGSIZE, std::string("use ") + what, name_,
                         std::string(what) + " has " + std::to_string(out->size) +
                             " bytes, the map wants " + std::to_string(size)));
  return false;
}

Napi::Value MapWrap::GetFd(const Napi::CallbackInfo& info) {
  if (!Usable(info.Env(), "get descriptor")) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), shape_.fd);
}

// { keySize, valueSize, valueStride, valueBytes, maxEntries, perCpu }
Napi::Value MapWrap::Shape(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  out.Set("keySize", Napi::Number::New(env, shape_.key_size));
  out.Set("valueSize", Napi::Number::New(env, shape_.value_size));
  out.Set("valueStride", Napi::Number::New(env, shape_.value_stride));
  out.Set("valueBytes", Napi::Number::New(env, static_cast<double>(shape_.value_bytes)));
  out.Set("maxEntries", Napi::Number::New(env, shape_.max_entries));
  out.Set("perCpu", shape_.per_cpu());
  return out;
}

Napi::Value MapWrap::Lookup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Bytes key;
  if (!Usable(env, "look up") || !ReadSized(info, 0, shape_.key_size, "key", &key)) {
    return env.Undefined();
  }
  int error = bpf_map_lookup_elem(shape_.fd, key.size > 0 ? key.data : nullptr, scratch_.data());
  if (error == -ENOENT) return env.Undefined();
  if (error != 0) {
    Throw(env, Fail(error, "look up", name_));
    return env.Undefined();
  }
  return Napi::Buffer<uint8_t>::Copy(env, scratch_.data(), shape_.value_bytes);
}

// update(key, value, flags)
Napi::Value MapWrap::Update(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Bytes key, value;
  uint64_t flags = 0;
  if (!Usable(env, "update") || !ReadSized(info, 0, shape_.key_size, "key", &key) ||
      !ReadSized(info, 1, shape_.value_bytes, "value", &value) || !Read(info, 2, &flags)) {
    return env.Undefined();
  }
  int error = bpf_map_update_elem(shape_.fd, key.size > 0 ? key.data : nullptr, value.data, flags);
  if (error == -E2BIG) {
    Throw(env, Fail(error, "update", name_,
                    "the map has reached its max_entries (" + std::to_string(shape_.max_entries) +
                        "), or the key is outside of the array"));
  } else if (error != 0) {
    Throw(env, Fail(error, "update", name_));
  }
  return env.Undefined();
}

Napi::Value MapWrap::Remove(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Bytes key;
  if (!Usable(env, "delete") || !ReadSized(info, 0, shape_.key_size, "key", &key)) {
    return env.Undefined();
  }
  int error = bpf_map_delete_elem(shape_.fd, key.data);
  if (error != 0 && error != -ENOENT) Throw(env, Fail(error, "delete", name_));
  return Napi::Boolean::New(env, error == 0);
}

// entries(drain) => { count, keys, values }
Napi::Value MapWrap::Entries(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bool drain = false;
  const char* operation = "read entries";
  if (!Usable(env, operation) || !Read(info, 0, &drain)) return env.Undefined();
  if (drain) operation = "drain entries";
  MapEntries entries;
  int error = ReadEntries(shape_, drain, &entries);
  if (error != 0) {
    Throw(env, Fail(error, operation, name_));
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("count", Napi::Number::New(env, static_cast<double>(entries.count)));
  out.Set("keys", Napi::Buffer<uint8_t>::Copy(env, entries.keys.data(), entries.keys.size()));
  out.Set("values", Napi::Buffer<uint8_t>::Copy(env, entries.values.data(), entries.values.size()));
  return out;
}

// removeMany(keys back to back) => how many were there
Napi::Value MapWrap::RemoveMany(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Bytes keys;
  if (!Usable(env, "delete entries") || !Read(info, 0, &keys)) return env.Undefined();
  if (shape_.key_size == 0 || keys.size % shape_.key_size != 0) {
    Throw(env, Fail(EMSGSIZE, "delete entries", name_, "the keys are not whole keys"));
    return env.Undefined();
  }
  size_t deleted = 0;
  int error = DeleteEntries(shape_, keys.data, keys.size / shape_.key_size, &deleted);
  if (error != 0) {
    Throw(env, Fail(error, "delete entries", name_));
    return env.Undefined();
  }
  return Napi::Number::New(env, static_cast<double>(deleted));
}

uint8_t* MapWrap::Memory(const Napi::CallbackInfo& info, const char* operation, uint64_t offset,
                         size_t length) {
  size_t size = 0;
  uint8_t* memory = nullptr;
  Failure failure = core_->Section(map_, &memory, &size);
  if (failure) {
    Throw(info.Env(), failure);
    return nullptr;
  }
  if (offset > size || length > size - offset) {
    Throw(info.Env(), Fail(ERANGE, operation, name_, "outside of the section"));
    return nullptr;
  }
  return memory + offset;
}

// readMemory(offset, length) => bytes of a global data section, as the programs see it now
Napi::Value MapWrap::ReadMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t offset = 0;
  uint32_t length = 0;
  if (!Usable(env, "read variable") || !Read(info, 0, &offset) || !Read(info, 1, &length)) {
    return env.Undefined();
  }
  const uint8_t* memory = Memory(info, "read variable", offset, length);
  if (memory == nullptr) return env.Undefined();
  Napi::Buffer<uint8_t> out = Napi::Buffer<uint8_t>::New(env, length);
  CopyShared(out.Data(), memory, length, false);
  return out;
}

// writeMemory(offset, bytes): only these bytes change, so programs may write their neighbours
Napi::Value MapWrap::WriteMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t offset = 0;
  Bytes bytes;
  if (!Usable(env, "write variable") || !Read(info, 0, &offset) || !Read(info, 1, &bytes)) {
    return env.Undefined();
  }
  if (bpf_map__map_flags(map_) & BPF_F_RDONLY_PROG) {  // mapped read-only once loaded
    Throw(env, Fail(EROFS, "write variable", name_, "the section is constant once loaded"));
    return env.Undefined();
  }
  uint8_t* memory = Memory(info, "write variable", offset, bytes.size);
  if (memory != nullptr) CopyShared(memory, bytes.data, bytes.size, true);
  return env.Undefined();
}

}  // namespace libbpf_ts
