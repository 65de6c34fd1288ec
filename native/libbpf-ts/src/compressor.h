// SPDX-License-Identifier: MIT
// One block of text to one self-contained gzip member or zstd frame: files of several of them are
// legal, and one that breaks off is readable up to its last whole block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace libbpf_ts {

enum class Compression : uint8_t { kNone, kGzip, kZstd };

class Compressor {
 public:
  explicit Compressor(Compression kind);
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor();
  // False: not enough memory. Replaces what is in `out`.
  bool Compress(std::string_view block, std::vector<char>* out);

 private:
  Compression kind_;
  void* stream_ = nullptr;  // of the library, kept between blocks
};

}  // namespace libbpf_ts
