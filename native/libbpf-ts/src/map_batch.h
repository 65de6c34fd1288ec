// SPDX-License-Identifier: MIT
// Whole-map operations: the batch commands where the map type has them (kernel >= 5.6), one key at
// a time where it does not.
#pragma once

#include <cstdint>
#include <vector>
#include "map_shape.h"

namespace libbpf_ts {

struct MapEntries {
  std::vector<uint8_t> keys;    // count * key_size
  std::vector<uint8_t> values;  // count * value_bytes
  size_t count = 0;
};

// All return 0 or a negative errno.
int ReadEntries(const MapShape& shape, bool drain, MapEntries* out);
int DeleteEntries(const MapShape& shape, const uint8_t* keys, size_t count, size_t* deleted);

}  // namespace libbpf_ts
