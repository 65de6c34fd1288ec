// SPDX-License-Identifier: MIT
#include "elf_binding.h"

#include <unordered_set>
#include "arguments.h"
#include "elf_file.h"
#include "environment.h"

namespace libbpf_ts {
namespace {

// elfSymbols(path, names: string[])
Napi::Value ElfSymbols(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path;
  if (!Read(info, 0, &path)) return env.Undefined();
  std::unordered_set<std::string> names;
  if (info[1].IsArray()) {
    Napi::Array wanted = info[1].As<Napi::Array>();
    for (uint32_t index = 0; index < wanted.Length(); index++) {
      Napi::Value name = wanted.Get(index);
      if (name.IsString()) names.insert(name.As<Napi::String>().Utf8Value());
    }
  }
  std::vector<ElfSymbol> symbols;
  Failure failure = ReadElfSymbols(path, names, &symbols);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  Napi::Array list = Napi::Array::New(env, symbols.size());
  for (size_t index = 0; index < symbols.size(); index++) {
    Napi::HandleScope scope(env);
    const ElfSymbol& symbol = symbols[index];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", symbol.name);
    entry.Set("address", Napi::BigInt::New(env, symbol.address));
    entry.Set("offset", Napi::Number::New(env, static_cast<double>(symbol.offset)));
    entry.Set("size", Napi::Number::New(env, static_cast<double>(symbol.size)));
    entry.Set("type", symbol.type);
    entry.Set("exported", symbol.exported);
    list.Set(static_cast<uint32_t>(index), entry);
  }
  return list;
}

Napi::Value ElfInformation(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path;
  if (!Read(info, 0, &path)) return env.Undefined();
  ElfInfo elf;
  Failure failure = ReadElfInfo(path, &elf);
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("machine", elf.machine);
  out.Set("type", elf.type);
  if (!elf.interpreter.empty()) out.Set("interpreter", elf.interpreter);
  Napi::Array needed = Napi::Array::New(env);
  for (const std::string& name : elf.needed) needed.Set(needed.Length(), name);
  out.Set("needed", needed);
  if (!elf.runpath.empty()) out.Set("runpath", elf.runpath);
  if (!elf.build_id.empty()) out.Set("buildId", elf.build_id);
  out.Set("hasSymtab", elf.has_symtab);
  return out;
}

}  // namespace

void InitElf(Napi::Env env, Napi::Object exports) {
  exports.Set("elfSymbols", Napi::Function::New(env, ElfSymbols));
  exports.Set("elfInfo", Napi::Function::New(env, ElfInformation));
}

}  // namespace libbpf_ts
