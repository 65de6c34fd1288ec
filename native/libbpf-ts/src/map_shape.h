// SPDX-License-Identifier: MIT
// The sizes the kernel will read and write through our pointers.
#pragma once

#include <bpf/libbpf.h>
#include <cstddef>
#include <cstdint>

namespace libbpf_ts {

struct MapShape {
  int fd = -1;
  uint32_t type = 0;
  uint32_t key_size = 0;
  uint32_t value_size = 0;    // of one CPU's value, as declared
  uint32_t value_stride = 0;  // one CPU's value in a lookup: rounded up to 8 in per-CPU maps
  size_t value_bytes = 0;     // everything one lookup transfers
  uint32_t max_entries = 0;

  bool per_cpu() const {
    return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
           type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
  }

  static MapShape Of(const bpf_map* map) {
    MapShape shape;
    shape.fd = bpf_map__fd(map);
    shape.type = bpf_map__type(map);
    shape.key_size = bpf_map__key_size(map);
    shape.value_size = bpf_map__value_size(map);
    shape.max_entries = bpf_map__max_entries(map);
    shape.value_stride = shape.value_size;
    shape.value_bytes = shape.value_size;
    if (shape.per_cpu()) {
      // The kernel transfers every *possible* CPU, online or not.
      int cpus = libbpf_num_possible_cpus();
      shape.value_stride = (shape.value_size + 7) / 8 * 8;
      shape.value_bytes = static_cast<size_t>(shape.value_stride) * (cpus > 0 ? cpus : 1);
    }
    // Looking up a map of maps or of programs yields its id.
    if (shape.value_bytes < 4 &&
        (shape.type == BPF_MAP_TYPE_ARRAY_OF_MAPS || shape.type == BPF_MAP_TYPE_HASH_OF_MAPS ||
         shape.type == BPF_MAP_TYPE_PROG_ARRAY)) {
      shape.value_bytes = shape.value_stride = 4;
    }
    return shape;
  }
};

}  // namespace libbpf_ts
