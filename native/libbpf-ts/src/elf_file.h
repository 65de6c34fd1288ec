// SPDX-License-Identifier: MIT
// What an ELF file says about itself, for attaching probes to functions by name.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>
#include "failure.h"

namespace libbpf_ts {

struct ElfSymbol {
  std::string name;
  uint64_t address = 0;
  uint64_t offset = 0;  // in the file: what uprobes want
  uint64_t size = 0;
  const char* type = "other";
  bool exported = false;
};

struct ElfInfo {
  std::string machine;
  std::string type;
  std::string interpreter;
  std::vector<std::string> needed;
  std::string runpath;
  std::string build_id;
  bool has_symtab = false;
};

// Defined symbols of .dynsym, then those of .symtab that add something. An empty `names` means all.
Failure ReadElfSymbols(const std::string& path, const std::unordered_set<std::string>& names,
                       std::vector<ElfSymbol>* out);
Failure ReadElfInfo(const std::string& path, ElfInfo* out);

}  // namespace libbpf_ts
