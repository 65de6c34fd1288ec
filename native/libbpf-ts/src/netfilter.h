// SPDX-License-Identifier: MIT
// Netfilter programs (kernel >= 6.4): their type, and their links, which libbpf before 1.3 cannot
// make. Knows nothing of JavaScript.
#pragma once

#include <bpf/libbpf.h>
#include <cstdint>
#include <string>
#include "failure.h"
#include "fd.h"

namespace libbpf_ts {

// As enum bpf_prog_type and bpf_attach_type; the headers of Debian 12 have neither.
constexpr auto kNetfilterProgram = static_cast<bpf_prog_type>(32);
constexpr auto kNetfilterAttach = static_cast<bpf_attach_type>(45);
constexpr char kNetfilterName[] = "netfilter";

// SEC("netfilter") gets its types. libbpf knows none before 1.2, and 1.2 itself no attach type.
void TypeNetfilterPrograms(bpf_object* object);

// 1, 0 or a negative errno
int ProbeNetfilter();

struct NetfilterPlace {
  uint32_t family = 0;  // NFPROTO_…
  uint32_t hook = 0;    // NF_INET_…
  int32_t priority = 0;
  int space = -1;  // descriptor of a network namespace; -1: the caller's
};

// What holds an attachment. The namespace is held as well, and to be let go of last: kernels before
// 6.12 free it under a link that outlives it.
struct NetfilterHold {
  Fd space;
  Fd link;
};

Failure AttachNetfilter(int program, const std::string& name, const NetfilterPlace& place,
                        NetfilterHold* out);

}  // namespace libbpf_ts
