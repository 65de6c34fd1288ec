// SPDX-License-Identifier: MIT
#include "log_buffer.h"

#include <bpf/libbpf.h>
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <mutex>

#ifdef LIBBPF_TS_STATIC
// The linker points the archive's `stderr` here; CMakeLists.txt says why.
extern "C" {
extern FILE* __real_stderr;
__attribute__((visibility("hidden"))) FILE* __wrap_stderr = nullptr;
}
#endif

namespace libbpf_ts {
namespace {

thread_local LogBuffer* current = nullptr;

int Print(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (current == nullptr || static_cast<int>(level) > current->max_level()) return 0;
  va_list again;
  va_copy(again, arguments);
  int length = vsnprintf(nullptr, 0, format, arguments);
  if (length > 0) {
    // A verifier log is one message of up to 16 MiB.
    std::string text(static_cast<size_t>(length) + 1, '\0');
    vsnprintf(text.data(), text.size(), format, again);
    text.pop_back();
    current->Add(static_cast<int>(level), std::move(text));
  }
  va_end(again);
  return length;
}

}  // namespace

void LogBuffer::Install() {
  static std::once_flag once;  // every worker thread comes through here
  std::call_once(once, [] {
#ifdef LIBBPF_TS_STATIC
    __wrap_stderr = __real_stderr;
#endif
    libbpf_set_print(Print);
  });
}

LogBuffer::LogBuffer(int max_level)
    : previous_(current), max_level_(std::max<int>(max_level, LIBBPF_INFO)) {
  current = this;
}

LogBuffer::~LogBuffer() { current = previous_; }

void LogBuffer::Add(int level, std::string text) { lines_.emplace_back(level, std::move(text)); }

std::string LogBuffer::Text() const {
  std::string all;
  for (const auto& [level, text] : lines_) {
    if (level <= LIBBPF_INFO) all += text;
  }
  return all;
}

}  // namespace libbpf_ts
