// SPDX-License-Identifier: MIT
#include "program_wrap.h"

#include <bpf/bpf.h>
#include "arguments.h"
#include "environment.h"

namespace libbpf_ts {
namespace {

struct Seed {
  std::shared_ptr<ObjectCore> core;
  bpf_program* program;
};

}  // namespace

void ProgramWrap::Init(Napi::Env env) {
  Environment::Of(env).program_constructor = Napi::Persistent(
      DefineClass(env, "NativeProgram",
                  {InstanceMethod<&ProgramWrap::GetFd>("fd"),
                   InstanceMethod<&ProgramWrap::Information>("information"),
                   InstanceMethod<&ProgramWrap::TestRun>("testRun"),
                   InstanceMethod<&ProgramWrap::Attach>("attach"),
                   InstanceMethod<&ProgramWrap::AttachUprobe>("attachUprobe"),
                   InstanceMethod<&ProgramWrap::AttachCgroup>("attachCgroup"),
                   InstanceMethod<&ProgramWrap::AttachPerfEvent>("attachPerfEvent"),
                   InstanceMethod<&ProgramWrap::AttachIterator>("attachIterator"),
                   InstanceMethod<&ProgramWrap::AttachRawTracepoint>("attachRawTracepoint"),
                   InstanceMethod<&ProgramWrap::AttachScopedUprobe>("attachScopedUprobe"),
                   InstanceMethod<&ProgramWrap::AttachNetfilter>("attachNetfilter")}));
}

Napi::Value ProgramWrap::New(Napi::Env env, std::shared_ptr<ObjectCore> core,
                             bpf_program* program) {
  Seed seed{std::move(core), program};
  return Environment::Of(env).program_constructor.New({Napi::External<Seed>::New(env, &seed)});
}

ProgramWrap::ProgramWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ProgramWrap>(info) {
  if (!info[0].IsExternal()) {
    WrongArgument(info, 0, "made by a loaded object");
    return;
  }
  Seed* seed = info[0].As<Napi::External<Seed>>().Data();
  core_ = seed->core;
  program_ = seed->program;
  name_ = bpf_program__name(program_);
}

bool ProgramWrap::Usable(Napi::Env env, const char* operation) {
  if (!core_ || core_->closed()) {
    ThrowClosed(env, operation, name_);
    return false;
  }
  if (bpf_program__fd(program_) < 0) {
    Throw(env, Fail(EBADF, operation, name_, "the program was not loaded"));
    return false;
  }
  return true;
}

Napi::Value ProgramWrap::GetFd(const Napi::CallbackInfo& info) {
  if (!Usable(info.Env(), "get descriptor")) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), bpf_program__fd(program_));
}

// information() => { id, runTimeNs, runCount, recursionMisses }
Napi::Value ProgramWrap::Information(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(env, "get information")) return env.Undefined();
  bpf_prog_info program = {};
  uint32_t length = sizeof program;
  int error = bpf_obj_get_info_by_fd(bpf_program__fd(program_), &program, &length);
  if (error != 0) {
    Throw(env, Fail(error, "get information", name_));
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("id", Napi::Number::New(env, program.id));
  out.Set("runTimeNs", Napi::BigInt::New(env, static_cast<uint64_t>(program.run_time_ns)));
  out.Set("runCount", Napi::BigInt::New(env, static_cast<uint64_t>(program.run_cnt)));
  out.Set("recursionMisses",
          Napi::BigInt::New(env, static_cast<uint64_t>(program.recursion_misses)));
  return out;
}

// testRun(context: Uint8Array, cpu: number; -1 = any) => the program's return value
Napi::Value ProgramWrap::TestRun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Bytes context;
  int32_t cpu = -1;
  if (!Usable(env, "test run") || !Read(info, 0, &context) || !Read(info, 1, &cpu)) {
    return env.Undefined();
  }
  LIBBPF_OPTS(bpf_test_run_opts, options);
  if (context.size > 0) {
    options.ctx_in = context.data;
    options.ctx_size_in = static_cast<uint32_t>(context.size);
  }
  if (cpu >= 0) {
    options.flags = BPF_F_TEST_RUN_ON_CPU;
    options.cpu = static_cast<uint32_t>(cpu);
  }
  int error = bpf_prog_test_run_opts(bpf_program__fd(program_), &options);
  if (error != 0) {
    Throw(env, Fail(error, "test run", name_));
    return env.Undefined();
  }
  return Napi::Number::New(env, static_cast<int32_t>(options.retval));
}

}  // namespace libbpf_ts
