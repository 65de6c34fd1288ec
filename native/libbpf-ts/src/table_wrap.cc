// SPDX-License-Identifier: MIT
#include "table_wrap.h"

#include <vector>
#include "event_spec.h"

namespace libbpf_ts {
namespace {

// The arguments `index` and `index + 1`: pid, name.
bool ReadSource(const Napi::CallbackInfo& info, size_t index, Source* out) {
  Bytes name;
  if (!Read(info, index, &out->pid) || !Read(info, index + 1, &name)) return false;
  out->name.assign(reinterpret_cast<const char*>(name.data), name.size);
  out->cells = SourceCells(out->pid, out->name);
  return true;
}

// What `write` puts into room of exactly the bound.
template <typename Write>
Napi::Value Line(Napi::Env env, size_t bound, Write write) {
  std::vector<char> room(bound);
  const char* end = write(room.data());
  return Napi::Buffer<char>::Copy(env, room.data(), static_cast<size_t>(end - room.data()));
}

}  // namespace

void TableWrap::Init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeEventTable", DefineClass(env, "NativeEventTable",
                                              {InstanceMethod<&TableWrap::Row>("row"),
                                               InstanceMethod<&TableWrap::LostRow>("lostRow"),
                                               InstanceMethod<&TableWrap::EndRow>("endRow")}));
}

// new NativeEventTable(spec: NativeEventSpec)
TableWrap::TableWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TableWrap>(info) {
  if (!ReadEventSpec(info.Env(), info[0], &table_)) return;
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

// row(record, pid, name) => one line
Napi::Value TableWrap::Row(const Napi::CallbackInfo& info) {
  Bytes record;
  Source source;
  if (!Read(info, 0, &record) || !ReadSource(info, 1, &source)) return info.Env().Undefined();
  return Line(info.Env(), table_.row_bound(source),
              [&](char* to) { return table_.Row(to, record.data, record.size, source); });
}

// lostRow(ns, pid, name, lost) => one line
Napi::Value TableWrap::LostRow(const Napi::CallbackInfo& info) {
  uint64_t ns = 0, lost = 0;
  Source source;
  if (!Read(info, 0, &ns) || !ReadSource(info, 1, &source) || !Read(info, 3, &lost)) {
    return info.Env().Undefined();
  }
  return Line(info.Env(), table_.row_bound(source),
              [&](char* to) { return table_.LostRow(to, ns, source, lost); });
}

// endRow(pid, name) => one line
Napi::Value TableWrap::EndRow(const Napi::CallbackInfo& info) {
  Source source;
  if (!ReadSource(info, 0, &source)) return info.Env().Undefined();
  return Line(info.Env(), table_.row_bound(source),
              [&](char* to) { return table_.EndRow(to, source); });
}

}  // namespace libbpf_ts
