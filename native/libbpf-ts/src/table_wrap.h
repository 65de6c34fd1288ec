// SPDX-License-Identifier: MIT
// NativeEventTable: an event table bound by JavaScript. Who writes a file takes a copy of it.
#pragma once

#include <napi.h>
#include <string>
#include "arguments.h"
#include "event_table.h"

namespace libbpf_ts {

class TableWrap : public Napi::ObjectWrap<TableWrap> {
 public:
  static constexpr napi_type_tag kTag = {0x6c696262706674d3, 0xb0a1d2c3e4f50003};
  static constexpr const char* kExpected = "an event table";
  static void Init(Napi::Env env, Napi::Object exports);
  explicit TableWrap(const Napi::CallbackInfo& info);

  const EventTable& table() const { return table_; }

 private:
  Napi::Value Row(const Napi::CallbackInfo& info);
  Napi::Value LostRow(const Napi::CallbackInfo& info);
  Napi::Value EndRow(const Napi::CallbackInfo& info);

  EventTable table_;
};

}  // namespace libbpf_ts
