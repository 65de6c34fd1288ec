// SPDX-License-Identifier: MIT
// What went wrong in a native operation, before it becomes a JavaScript error.
#pragma once

#include <cerrno>
#include <string>
#include <utility>

namespace libbpf_ts {

struct Failure {
  int error = 0;          // positive errno; 0 means success
  std::string operation;  // "attach uprobe"
  std::string object;     // the program, map or file it was about
  std::string message;    // empty: the errno says it all

  explicit operator bool() const { return error != 0; }
};

inline Failure Fail(int error, std::string operation, std::string object,
                    std::string message = {}) {
  return Failure{error < 0 ? -error : (error == 0 ? EIO : error), std::move(operation),
                 std::move(object), std::move(message)};
}

}  // namespace libbpf_ts
