// SPDX-License-Identifier: MIT
// NativeMap: one created map. Every buffer's length is checked here against the map's sizes.
#pragma once

#include <napi.h>
#include <memory>
#include <string>
#include <vector>
#include "arguments.h"
#include "map_shape.h"
#include "object_core.h"

namespace libbpf_ts {

class MapWrap : public Napi::ObjectWrap<MapWrap> {
 public:
  static constexpr napi_type_tag kTag = {0x6c696262706674d1, 0xb0a1d2c3e4f50001};
  static constexpr const char* kExpected = "a map";
  static void Init(Napi::Env env);
  static Napi::Value New(Napi::Env env, std::shared_ptr<ObjectCore> core, bpf_map* map);
  explicit MapWrap(const Napi::CallbackInfo& info);

  bool Usable(Napi::Env env, const char* operation);
  const MapShape& shape() const { return shape_; }
  const std::string& name() const { return name_; }
  const std::shared_ptr<ObjectCore>& core() const { return core_; }

 private:
  Napi::Value GetFd(const Napi::CallbackInfo& info);
  Napi::Value Shape(const Napi::CallbackInfo& info);
  Napi::Value Lookup(const Napi::CallbackInfo& info);
  Napi::Value Update(const Napi::CallbackInfo& info);
  Napi::Value Remove(const Napi::CallbackInfo& info);
  Napi::Value Entries(const Napi::CallbackInfo& info);
  Napi::Value RemoveMany(const Napi::CallbackInfo& info);
  Napi::Value ReadMemory(const Napi::CallbackInfo& info);
  Napi::Value WriteMemory(const Napi::CallbackInfo& info);

  bool ReadSized(const Napi::CallbackInfo& info, size_t index, size_t size, const char* what,
                 Bytes* out);
  uint8_t* Memory(const Napi::CallbackInfo& info, const char* operation, uint64_t offset,
                  size_t length);

  std::shared_ptr<ObjectCore> core_;
  bpf_map* map_ = nullptr;
  MapShape shape_;
  std::string name_;
  std::vector<uint8_t> scratch_;
};

}  // namespace libbpf_ts
