// SPDX-License-Identifier: MIT
#include "elf_file.h"

#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <cstring>
#include <set>
#include "fd.h"

namespace libbpf_ts {
namespace {

constexpr uint16_t kHiddenVersion = 0x8000;  // name@VERSION rather than name@@VERSION

class ElfHandle {
 public:
  explicit ElfHandle(int fd) : elf_(elf_begin(fd, ELF_C_READ_MMAP, nullptr)) {}
  ~ElfHandle() { elf_end(elf_); }
  ElfHandle(const ElfHandle&) = delete;
  ElfHandle& operator=(const ElfHandle&) = delete;
  Elf* get() const { return elf_; }

 private:
  Elf* elf_;
};

Failure OpenElf(const std::string& path, const char* operation, Fd* fd) {
  elf_version(EV_CURRENT);
  *fd = Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd->valid()) return Fail(errno, operation, path);
  return {};
}

const char* SymbolType(unsigned char type) {
  switch (type) {
    case STT_FUNC:
      return "function";
    case STT_OBJECT:
      return "object";
    case STT_GNU_IFUNC:
      return "ifunc";
    default:
      return "other";
  }
}

std::vector<GElf_Phdr> ProgramHeaders(Elf* elf) {
  std::vector<GElf_Phdr> headers;
  size_t count = 0;
  if (elf_getphdrnum(elf, &count) != 0) return headers;
  for (size_t index = 0; index < count; index++) {
    GElf_Phdr header;
    if (gelf_getphdr(elf, static_cast<int>(index), &header) != nullptr) headers.push_back(header);
  }
  return headers;
}

bool FileOffset(const std::vector<GElf_Phdr>& headers, uint64_t address, uint64_t* offset) {
  for (const GElf_Phdr& header : headers) {
    if (header.p_type != PT_LOAD || address < header.p_vaddr ||
        address - header.p_vaddr >= header.p_filesz) {
      continue;
    }
    *offset = address - header.p_vaddr + header.p_offset;
    return true;
  }
  return false;
}

void ReadTable(Elf* elf, Elf_Scn* section, const GElf_Shdr& table, Elf_Data* versions,
               const std::vector<GElf_Phdr>& headers, const std::unordered_set<std::string>& names,
               std::set<std::pair<std::string, uint64_t>>* seen, std::vector<ElfSymbol>* out) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || table.sh_entsize == 0) return;
  bool dynamic = table.sh_type == SHT_DYNSYM;
  int count = static_cast<int>(table.sh_size / table.sh_entsize);
  std::vector<ElfSymbol> hidden;  // older versions come after the one a linker would choose
  for (int index = 0; index < count; index++) {
    GElf_Sym entry;
    if (gelf_getsym(data, index, &entry) == nullptr) continue;
    unsigned char type = GELF_ST_TYPE(entry.st_info);
    if (entry.st_shndx == SHN_UNDEF || type == STT_SECTION || type == STT_FILE || type == STT_TLS) {
      continue;
    }
    const char* text = elf_strptr(elf, table.sh_link, entry.st_name);
    if (text == nullptr || *text == '\0') continue;
    ElfSymbol symbol;
    symbol.name.assign(text, strcspn(text, "@"));
    bool is_hidden = strchr(text, '@') != nullptr && strstr(text, "@@") == nullptr;
    if (!names.empty() && names.count(symbol.name) == 0) continue;
    symbol.address = entry.st_value;
    if (!FileOffset(headers, symbol.address, &symbol.offset)) continue;  // .bss, absolute
    if (!seen->emplace(symbol.name, symbol.address).second) continue;
    symbol.size = entry.st_size;
    symbol.type = SymbolType(type);
    symbol.exported = dynamic;
    GElf_Versym version = 0;
    if (versions != nullptr && gelf_getversym(versions, index, &version) != nullptr) {
      is_hidden = is_hidden || (version & kHiddenVersion) != 0;
    }
    (is_hidden ? hidden : *out).push_back(std::move(symbol));
  }
  for (ElfSymbol& symbol : hidden) out->push_back(std::move(symbol));
}

// libc.so.6 is a library that can be run and has an interpreter too; older linkers do not flag
// position-independent executables.
const char* TypeName(uint16_t type, bool position_independent_executable) {
  switch (type) {
    case ET_EXEC:
      return "executable";
    case ET_DYN:
      return position_independent_executable ? "executable" : "shared";
    case ET_REL:
      return "relocatable";
    case ET_CORE:
      return "core";
    default:
      return "other";
  }
}

std::string MachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86_64";
    case EM_386:
      return "i386";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "riscv";
    case EM_S390:
      return "s390";
    case EM_PPC64:
      return "ppc64";
    case EM_BPF:
      return "bpf";
    default:
      return "machine-" + std::to_string(machine);
  }
}

struct DynamicFacts {
  bool flagged_executable = false;
  bool has_soname = false;
};

void ReadDynamic(Elf* elf, Elf_Scn* section, const GElf_Shdr& table, ElfInfo* out,
                 DynamicFacts* facts) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || table.sh_entsize == 0) return;
  std::string rpath;
  for (int index = 0; index < static_cast<int>(table.sh_size / table.sh_entsize); index++) {
    GElf_Dyn entry;
    if (gelf_getdyn(data, index, &entry) == nullptr || entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_FLAGS_1) facts->flagged_executable = (entry.d_un.d_val & DF_1_PIE) != 0;
    if (entry.d_tag == DT_SONAME) facts->has_soname = true;
    if (entry.d_tag != DT_NEEDED && entry.d_tag != DT_RUNPATH && entry.d_tag != DT_RPATH) continue;
    const char* text = elf_strptr(elf, table.sh_link, entry.d_un.d_val);
    if (text == nullptr) continue;
    if (entry.d_tag == DT_NEEDED) out->needed.emplace_back(text);
    if (entry.d_tag == DT_RUNPATH) out->runpath = text;
    if (entry.d_tag == DT_RPATH) rpath = text;
  }
  if (out->runpath.empty()) out->runpath = rpath;
}

void ReadBuildId(Elf_Scn* section, ElfInfo* out) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr) return;
  size_t offset = 0, name = 0, description = 0;
  GElf_Nhdr header;
  while ((offset = gelf_getnote(data, offset, &header, &name, &description)) > 0) {
    const auto* bytes = static_cast<const uint8_t*>(data->d_buf);
    if (header.n_type != NT_GNU_BUILD_ID || header.n_namesz != 4 ||
        memcmp(bytes + name, "GNU", 4) != 0) {
      continue;
    }
    static const char kDigits[] = "0123456789abcdef";
    for (size_t index = 0; index < header.n_descsz; index++) {
      uint8_t byte = bytes[description + index];
      out->build_id += kDigits[byte >> 4];
      out->build_id += kDigits[byte & 15];
    }
    return;
  }
}

}  // namespace

Failure ReadElfSymbols(const std::string& path, const std::unordered_set<std::string>& names,
                       std::vector<ElfSymbol>* out) {
  Fd fd;
  Failure failure = OpenElf(path, "read symbols", &fd);
  if (failure) return failure;
  ElfHandle handle(fd.get());
  Elf* elf = handle.get();
  if (elf == nullptr || elf_kind(elf) != ELF_K_ELF) {
    return Fail(ENOEXEC, "read symbols", path, "not an ELF file");
  }
  std::vector<GElf_Phdr> headers = ProgramHeaders(elf);
  Elf_Data* versions = nullptr;
  Elf_Scn* section = nullptr;
  GElf_Shdr table;
  while ((section = elf_nextscn(elf, section)) != nullptr) {
    if (gelf_getshdr(section, &table) != nullptr && table.sh_type == SHT_GNU_versym) {
      versions = elf_getdata(section, nullptr);
    }
  }
  std::set<std::pair<std::string, uint64_t>> seen;
  for (uint32_t wanted : {SHT_DYNSYM, SHT_SYMTAB}) {
    section = nullptr;
    while ((section = elf_nextscn(elf, section)) != nullptr) {
      if (gelf_getshdr(section, &table) == nullptr || table.sh_type != wanted) continue;
      ReadTable(elf, section, table, wanted == SHT_DYNSYM ? versions : nullptr, headers, names,
                &seen, out);
    }
  }
  return {};
}

Failure ReadElfInfo(const std::string& path, ElfInfo* out) {
  Fd fd;
  Failure failure = OpenElf(path, "read ELF", &fd);
  if (failure) return failure;
  ElfHandle handle(fd.get());
  Elf* elf = handle.get();
  GElf_Ehdr header;
  if (elf == nullptr || elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &header) == nullptr) {
    return Fail(ENOEXEC, "read ELF", path, "not an ELF file");
  }
  for (const GElf_Phdr& program : ProgramHeaders(elf)) {
    if (program.p_type != PT_INTERP || program.p_filesz == 0 || program.p_filesz > 4096) continue;
    std::string text(program.p_filesz, '\0');
    ssize_t got = pread(fd.get(), text.data(), text.size(), static_cast<off_t>(program.p_offset));
    if (got > 0) out->interpreter = text.c_str();
  }
  DynamicFacts facts;
  Elf_Scn* section = nullptr;
  GElf_Shdr table;
  while ((section = elf_nextscn(elf, section)) != nullptr) {
    if (gelf_getshdr(section, &table) == nullptr) continue;
    if (table.sh_type == SHT_SYMTAB) out->has_symtab = true;
    if (table.sh_type == SHT_DYNAMIC) ReadDynamic(elf, section, table, out, &facts);
    if (table.sh_type == SHT_NOTE && out->build_id.empty()) ReadBuildId(section, out);
  }
  out->machine = MachineName(header.e_machine);
  out->type = TypeName(
      header.e_type, facts.flagged_executable || (!out->interpreter.empty() && !facts.has_soname));
  return {};
}

}  // namespace libbpf_ts
