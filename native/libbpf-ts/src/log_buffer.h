// SPDX-License-Identifier: MIT
// Catches what libbpf prints on this thread. libbpf has one process-wide print callback; it is set
// once and only ever looks at a thread-local pointer, so worker threads do not see each other.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace libbpf_ts {

class LogBuffer {
 public:
  explicit LogBuffer(int max_level);
  ~LogBuffer();
  LogBuffer(const LogBuffer&) = delete;
  LogBuffer& operator=(const LogBuffer&) = delete;

  static void Install();

  void Add(int level, std::string text);
  std::string Text() const;  // warnings and information, never debug output
  const std::vector<std::pair<int, std::string>>& lines() const { return lines_; }
  int max_level() const { return max_level_; }

 private:
  LogBuffer* previous_;
  int max_level_;
  std::vector<std::pair<int, std::string>> lines_;
};

}  // namespace libbpf_ts
