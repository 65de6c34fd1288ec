// SPDX-License-Identifier: MIT
#include "link_core.h"

#include <bpf/bpf.h>
#include <cerrno>

namespace libbpf_ts {

void LinkCore::DoClose() {
  bpf_link__destroy(link_);  // accepts null
  link_ = nullptr;
  link_fd_.Reset();  // the program first, then what it was on
  place_.Reset();
}

Failure LinkCore::ReadIterator(std::vector<uint8_t>* out) {
  if (link_ == nullptr) return Fail(EINVAL, "read iterator", name_, "not an iterator");
  Fd iterator(bpf_iter_create(bpf_link__fd(link_)));
  if (!iterator.valid()) return Fail(errno, "create iterator", name_);
  constexpr size_t kStep = 64 << 10;
  size_t used = 0;
  for (;;) {
    out->resize(used + kStep);
    ssize_t got = read(iterator.get(), out->data() + used, kStep);
    if (got == 0) break;
    if (got < 0) {
      // EAGAIN: the kernel has shown a million objects without output and wants to be asked again.
      if (errno == EINTR || errno == EAGAIN) continue;
      return Fail(errno, "read iterator", name_);
    }
    used += static_cast<size_t>(got);
  }
  out->resize(used);
  return {};
}

}  // namespace libbpf_ts
