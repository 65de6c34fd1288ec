// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace libbpf_ts {

void InitElf(Napi::Env env, Napi::Object exports);

}  // namespace libbpf_ts
