// SPDX-License-Identifier: MIT
// What JavaScript says of an event table, made into its columns. Every number is checked here or by
// EventTable::Bind; where a field lies is what lib/event-table.ts found in the BTF.
#pragma once

#include <napi.h>
#include <vector>
#include "event_table.h"

namespace libbpf_ts {

// The shape is NativeEventSpec in lib/native.ts. False: an error is on its way into JavaScript.
bool ReadEventSpec(Napi::Env env, Napi::Value spec, EventTable* table);
// The shape is NativeCondition[].
bool ReadConditions(Napi::Value conditions, std::vector<Condition>* out);

}  // namespace libbpf_ts
