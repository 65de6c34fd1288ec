// SPDX-License-Identifier: MIT
#include "map_batch.h"

#include <bpf/bpf.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <unordered_set>

namespace libbpf_ts {
namespace {

constexpr size_t kChunkBytes = 4u << 20;
constexpr int kNotSupported = 524;  // ENOTSUPP: the kernel's own, absent from errno.h

bool NoBatch(int error) {
  return error == -kNotSupported || error == -EOPNOTSUPP || error == -EINVAL || error == -EPERM;
}

// Appends; -EAGAIN stands for "this map type has no batch command".
int ReadByBatch(const MapShape& shape, bool drain, MapEntries* out) {
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  size_t entry = std::max<size_t>(shape.key_size + shape.value_bytes, 1);
  size_t chunk = std::clamp<size_t>(kChunkBytes / entry, 64, 16384);
  chunk = std::min<size_t>(chunk, std::max<uint32_t>(shape.max_entries, 64));
  // The position is opaque; the kernel writes 4 bytes or one key.
  std::vector<uint8_t> position(std::max<size_t>(shape.key_size, 8));
  std::vector<uint8_t> next(position.size());
  std::vector<uint8_t> keys(chunk * shape.key_size);
  std::vector<uint8_t> values(chunk * shape.value_bytes);
  bool first = true;
  for (;;) {
    uint32_t count = static_cast<uint32_t>(chunk);
    void* from = first ? nullptr : position.data();
    int error = drain ? bpf_map_lookup_and_delete_batch(shape.fd, from, next.data(), keys.data(),
                                                        values.data(), &count, &options)
                      : bpf_map_lookup_batch(shape.fd, from, next.data(), keys.data(),
                                             values.data(), &count, &options);
    if (error == -ENOSPC) {  // one hash bucket holds more than a chunk
      chunk *= 2;
      keys.resize(chunk * shape.key_size);
      values.resize(chunk * shape.value_bytes);
      continue;
    }
    if (error == -EINTR) continue;
    if (error != 0 && error != -ENOENT) return first && NoBatch(error) ? -EAGAIN : error;
    count = std::min<uint32_t>(count, static_cast<uint32_t>(chunk));
    out->keys.insert(out->keys.end(), keys.begin(), keys.begin() + count * shape.key_size);
    out->values.insert(out->values.end(), values.begin(),
                       values.begin() + count * shape.value_bytes);
    out->count += count;
    if (error == -ENOENT) return 0;
    first = false;
    position.swap(next);
  }
}

void Append(const MapShape& shape, const std::vector<uint8_t>& key,
            const std::vector<uint8_t>& value, MapEntries* out) {
  out->keys.insert(out->keys.end(), key.begin(), key.begin() + shape.key_size);
  out->values.insert(out->values.end(), value.begin(), value.begin() + shape.value_bytes);
  out->count++;
}

int ReadOneByOne(const MapShape& shape, MapEntries* out) {
  std::vector<uint8_t> key(shape.key_size + 1), next(shape.key_size + 1),
      value(shape.value_bytes + 8);
  // A key deleted under us restarts the walk at the first one: seen keys are not repeated, and a
  // map that changes faster than we walk ends it all the same.
  std::unordered_set<std::string> seen;
  size_t budget = static_cast<size_t>(shape.max_entries) * 4 + 1024;
  bool first = true;
  while (budget-- > 0) {
    int error = bpf_map_get_next_key(shape.fd, first ? nullptr : key.data(), next.data());
    if (error == -ENOENT) return 0;
    if (error != 0) return error;
    first = false;
    key.swap(next);
    if (!seen.emplace(reinterpret_cast<const char*>(key.data()), shape.key_size).second) continue;
    error = bpf_map_lookup_elem(shape.fd, key.data(), value.data());
    if (error == -ENOENT) continue;
    if (error != 0) return error;
    Append(shape, key, value, out);
  }
  return 0;
}

int DrainOneByOne(const MapShape& shape, MapEntries* out) {
  std::vector<uint8_t> key(shape.key_size + 1), value(shape.value_bytes + 8);
  size_t budget = static_cast<size_t>(shape.max_entries) * 2 + 64;
  bool lookup_and_delete = true;
  while (budget-- > 0) {
    int error = bpf_map_get_next_key(shape.fd, nullptr, key.data());
    if (error == -ENOENT) return 0;
    if (error != 0) return error;
    if (lookup_and_delete) {
      error = bpf_map_lookup_and_delete_elem(shape.fd, key.data(), value.data());
      if (error == 0) {
        Append(shape, key, value, out);
        continue;
      }
      if (error == -ENOENT) continue;
      if (!NoBatch(error)) return error;
      lookup_and_delete = false;  // hash maps have it since 5.14
    }
    error = bpf_map_lookup_elem(shape.fd, key.data(), value.data());
    if (error == -ENOENT) continue;
    if (error != 0) return error;
    error = bpf_map_delete_elem(shape.fd, key.data());
    if (error == -ENOENT) continue;  // somebody else took it
    if (error != 0) return error;
    Append(shape, key, value, out);
  }
  return 0;
}

}  // namespace

int ReadEntries(const MapShape& shape, bool drain, MapEntries* out) {
  int error = ReadByBatch(shape, drain, out);
  if (error != -EAGAIN) return error;
  return drain ? DrainOneByOne(shape, out) : ReadOneByOne(shape, out);
}

int DeleteEntries(const MapShape& shape, const uint8_t* keys, size_t count, size_t* deleted) {
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  size_t index = 0;
  bool batch = true;
  *deleted = 0;
  while (index < count) {
    if (batch) {
      uint32_t some = static_cast<uint32_t>(std::min<size_t>(count - index, 1u << 16));
      uint32_t asked = some;
      int error = bpf_map_delete_batch(shape.fd, keys + index * shape.key_size, &some, &options);
      if (error == 0) {
        *deleted += asked;
        index += asked;
        continue;
      }
      if (error == -ENOENT && some < asked) {  // stopped at a key that is not there: step over it
        *deleted += some;
        index += some + 1;
        continue;
      }
      if (!NoBatch(error)) return error;
      batch = false;
    }
    int error = bpf_map_delete_elem(shape.fd, keys + index * shape.key_size);
    if (error == 0) {
      ++*deleted;
    } else if (error != -ENOENT) {
      return error;
    }
    index++;
  }
  return 0;
}

}  // namespace libbpf_ts
