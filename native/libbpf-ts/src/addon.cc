// SPDX-License-Identifier: MIT
// The addon's one entry point; called once per environment, so also once per worker thread.
#include <napi.h>
#include "csv_writer_wrap.h"
#include "elf_binding.h"
#include "environment.h"
#include "kernel_binding.h"
#include "link_wrap.h"
#include "map_wrap.h"
#include "object_wrap.h"
#include "program_wrap.h"
#include "ring_wrap.h"
#include "table_wrap.h"
#include "tracefs_wrap.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the BTF decoder in lib/ reads little-endian memory");

namespace libbpf_ts {
namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  Environment::Init(env, exports);
  ObjectWrap::Init(env, exports);
  ProgramWrap::Init(env);
  MapWrap::Init(env);
  LinkWrap::Init(env);
  RingWrap::Init(env, exports);
  TableWrap::Init(env, exports);
  WriterWrap::Init(env, exports);
  TracefsWrap::Init(env, exports);
  UprobeEventWrap::Init(env);
  InitElf(env, exports);
  InitKernel(env, exports);
  return exports;
}

}  // namespace
}  // namespace libbpf_ts

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) {
  return libbpf_ts::Init(env, exports);
}

NODE_API_MODULE(libbpf_ts, InitModule)
