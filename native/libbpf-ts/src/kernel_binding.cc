// SPDX-License-Identifier: MIT
// Questions to the running kernel: what loads, and what its BTF contains.
#include "kernel_binding.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include "arguments.h"
#include "environment.h"
#include "netfilter.h"

namespace libbpf_ts {
namespace {

constexpr int kDepth = 8;  // anonymous structs in structs; deeper than any kernel header nests

struct HelperName {
  const char* name;
  int id;
};

constexpr HelperName kHelpers[] = {
#define LIBBPF_TS_HELPER(name, ...) \
  {                                 \
#name, BPF_FUNC_##name          \
  }
    __BPF_FUNC_MAPPER(LIBBPF_TS_HELPER)
#undef LIBBPF_TS_HELPER
};

// Highest number libbpf has a name for; newer kernels may know more.
template <typename Name>
int FindByName(const std::string& wanted, Name name) {
  for (int id = 0; id < 256; id++) {
    const char* text = name(id);
    if (text != nullptr && wanted == text) return id;
  }
  return -1;
}

int ProgramTypeId(const std::string& name) {
  if (name == kNetfilterName) return kNetfilterProgram;
  return FindByName(
      name, [](int id) { return libbpf_bpf_prog_type_str(static_cast<enum bpf_prog_type>(id)); });
}

// libbpf's own helper probe takes every failure it does not know the words of for a yes, and the
// words changed in 6.10. Answers 1, 0 or a negative errno.
int TryHelper(enum bpf_prog_type type, int helper) {
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  if (type == kNetfilterProgram) options.expected_attach_type = kNetfilterAttach;
  switch (type) {
    case BPF_PROG_TYPE_TRACING:
    case BPF_PROG_TYPE_EXT:
    case BPF_PROG_TYPE_LSM:
    case BPF_PROG_TYPE_STRUCT_OPS:
      return -EOPNOTSUPP;  // these load only for a particular function
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
      options.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
      break;
    case BPF_PROG_TYPE_CGROUP_SOCKOPT:
      options.expected_attach_type = BPF_CGROUP_GETSOCKOPT;
      break;
    case BPF_PROG_TYPE_SK_LOOKUP:
      options.expected_attach_type = BPF_SK_LOOKUP;
      break;
    case BPF_PROG_TYPE_SYSCALL:
      options.prog_flags = BPF_F_SLEEPABLE;
      break;
    default:
      break;
  }
  char log[4096] = "";
  options.log_buf = log;
  options.log_size = sizeof log;
  options.log_level = 1;
  bpf_insn program[2] = {};
  program[0].code = BPF_JMP | BPF_CALL;
  program[0].imm = helper;
  program[1].code = BPF_JMP | BPF_EXIT;
  int fd = bpf_prog_load(type, nullptr, "GPL", program, 2, &options);
  if (fd >= 0) {
    close(fd);
    return 1;
  }
  for (const char* refusal : {"invalid func ", "unknown func ", "cannot use helper "}) {
    if (strstr(log, refusal) != nullptr) return 0;
  }
  // The verifier got as far as the call and dislikes something else: its arguments.
  return strstr(log, "call ") != nullptr ? 1 : fd;
}

// 1, 0 or a negative errno; undefined for a name this build does not know
Napi::Value ProbeProgramType(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name;
  if (!Read(info, 0, &name)) return env.Undefined();
  int type = ProgramTypeId(name);
  if (type < 0) return env.Undefined();
  LogScope log(env);
  // libbpf 1.1 does not know the type and 1.2 not how it is loaded.
  return Napi::Number::New(
      env, type == kNetfilterProgram
               ? ProbeNetfilter()
               : libbpf_probe_bpf_prog_type(static_cast<enum bpf_prog_type>(type), nullptr));
}

Napi::Value ProbeMapType(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name;
  if (!Read(info, 0, &name)) return env.Undefined();
  int type = FindByName(
      name, [](int id) { return libbpf_bpf_map_type_str(static_cast<enum bpf_map_type>(id)); });
  if (type < 0) return env.Undefined();
  LogScope log(env);
  return Napi::Number::New(
      env, libbpf_probe_bpf_map_type(static_cast<enum bpf_map_type>(type), nullptr));
}

Napi::Value ProbeHelper(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string program;
  int32_t helper = 0;
  if (!Read(info, 0, &program) || !Read(info, 1, &helper)) return env.Undefined();
  int type = ProgramTypeId(program);
  if (type < 0) return env.Undefined();
  LogScope log(env);
  return Napi::Number::New(env, TryHelper(static_cast<enum bpf_prog_type>(type), helper));
}

Napi::Value HelperId(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name;
  if (!Read(info, 0, &name)) return env.Undefined();
  for (const HelperName& helper : kHelpers) {
    if (name == helper.name) return Napi::Number::New(env, helper.id);
  }
  return env.Undefined();
}

Napi::Value HasBtf(const Napi::CallbackInfo& info) {
  LogScope log(info.Env());
  return Napi::Boolean::New(info.Env(), Environment::Of(info.Env()).Vmlinux() != nullptr);
}

// "struct foo", "union foo", "enum foo", "func foo", or a typedef's plain name; 0 if there is none
int FindType(struct btf* btf, const std::string& name) {
  struct Prefix {
    const char* text;
    std::initializer_list<uint32_t> kinds;
  };
  static const Prefix kPrefixes[] = {
      {"struct ", {BTF_KIND_STRUCT}},
      {"union ", {BTF_KIND_UNION}},
      {"enum ", {BTF_KIND_ENUM, BTF_KIND_ENUM64}},
      {"func ", {BTF_KIND_FUNC}},
      {"", {BTF_KIND_TYPEDEF, BTF_KIND_INT, BTF_KIND_FLOAT}},
  };
  for (const Prefix& prefix : kPrefixes) {
    size_t length = strlen(prefix.text);
    if (name.compare(0, length, prefix.text) != 0) continue;
    for (uint32_t kind : prefix.kinds) {
      int id = btf__find_by_name_kind(btf, name.c_str() + length, kind);
      if (id > 0) return id;
    }
    return 0;
  }
  return 0;
}

const btf_type* Resolve(struct btf* btf, uint32_t id) {
  const btf_type* type = btf__type_by_id(btf, id);
  for (int step = 0; type != nullptr && step < 64 && (btf_is_mod(type) || btf_is_typedef(type));
       step++) {
    type = btf__type_by_id(btf, type->type);
  }
  return type;
}

bool HasMemberIn(struct btf* btf, const btf_type* type, const std::string& member, int depth) {
  if (type == nullptr || !btf_is_composite(type) || depth > kDepth) return false;
  const btf_member* members = btf_members(type);
  for (uint32_t index = 0; index < btf_vlen(type); index++) {
    const char* name = btf__name_by_offset(btf, members[index].name_off);
    if (name != nullptr && member == name) return true;
    bool anonymous = name == nullptr || *name == '\0';
    if (anonymous && HasMemberIn(btf, Resolve(btf, members[index].type), member, depth + 1)) {
      return true;
    }
  }
  return false;
}

// undefined without BTF
Napi::Value HasType(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name;
  if (!Read(info, 0, &name)) return env.Undefined();
  struct btf* btf = Environment::Of(env).Vmlinux();
  if (btf == nullptr) return env.Undefined();
  return Napi::Boolean::New(env, FindType(btf, name) > 0);
}

Napi::Value HasMember(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name, member;
  if (!Read(info, 0, &name) || !Read(info, 1, &member)) return env.Undefined();
  struct btf* btf = Environment::Of(env).Vmlinux();
  if (btf == nullptr) return env.Undefined();
  int id = FindType(btf, name);
  bool has = id > 0 && HasMemberIn(btf, Resolve(btf, static_cast<uint32_t>(id)), member, 0);
  return Napi::Boolean::New(env, has);
}

// [name, value, name, value, …]; undefined when there is no such enum
Napi::Value Enumerators(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name;
  if (!Read(info, 0, &name)) return env.Undefined();
  struct btf* btf = Environment::Of(env).Vmlinux();
  int id = btf == nullptr ? 0 : FindType(btf, "enum " + name);
  const btf_type* type = id > 0 ? btf__type_by_id(btf, static_cast<uint32_t>(id)) : nullptr;
  if (type == nullptr) return env.Undefined();
  Napi::Array list = Napi::Array::New(env);
  bool is_signed = btf_kflag(type);
  for (uint32_t index = 0; index < btf_vlen(type); index++) {
    const char* text = nullptr;
    int64_t value = 0;
    if (btf_is_enum64(type)) {
      const struct btf_enum64* entry = btf_enum64(type) + index;
      text = btf__name_by_offset(btf, entry->name_off);
      value = static_cast<int64_t>(btf_enum64_value(entry));
    } else {
      const struct btf_enum* entry = btf_enum(type) + index;
      text = btf__name_by_offset(btf, entry->name_off);
      // pahole before 1.24 leaves the sign flag unset: a negative value is telling enough.
      value = is_signed || entry->val < 0 ? entry->val : static_cast<uint32_t>(entry->val);
    }
    list.Set(list.Length(), Napi::String::New(env, text != nullptr ? text : ""));
    if (is_signed || !btf_is_enum64(type)) {
      list.Set(list.Length(), Napi::BigInt::New(env, value));
    } else {
      list.Set(list.Length(), Napi::BigInt::New(env, static_cast<uint64_t>(value)));
    }
  }
  return list;
}

// A descriptor that keeps run-time statistics on while it is open (kernel >= 5.8).
Napi::Value EnableStatistics(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (fd < 0) {
    Throw(env, Fail(errno, "enable run-time statistics", "kernel"));
    return env.Undefined();
  }
  return Napi::Number::New(env, fd);
}

Napi::Value Version(const Napi::CallbackInfo& info) {
  const char* text = libbpf_version_string();  // "v1.1"
  return Napi::String::New(info.Env(), *text == 'v' ? text + 1 : text);
}

Napi::Value PossibleCpus(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), libbpf_num_possible_cpus());
}

}  // namespace

void InitKernel(Napi::Env env, Napi::Object exports) {
  exports.Set("probeProgramType", Napi::Function::New(env, ProbeProgramType));
  exports.Set("probeMapType", Napi::Function::New(env, ProbeMapType));
  exports.Set("probeHelper", Napi::Function::New(env, ProbeHelper));
  exports.Set("helperId", Napi::Function::New(env, HelperId));
  exports.Set("hasBtf", Napi::Function::New(env, HasBtf));
  exports.Set("hasType", Napi::Function::New(env, HasType));
  exports.Set("hasMember", Napi::Function::New(env, HasMember));
  exports.Set("enumerators", Napi::Function::New(env, Enumerators));
  exports.Set("enableStatistics", Napi::Function::New(env, EnableStatistics));
  exports.Set("libbpfVersion", Napi::Function::New(env, Version));
  exports.Set("possibleCpus", Napi::Function::New(env, PossibleCpus));
}

}  // namespace libbpf_ts
