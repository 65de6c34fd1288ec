// SPDX-License-Identifier: MIT
// How one value becomes one CSV cell (RFC 4180). Every function writes at `to` and returns the end
// of what it wrote; the caller has made room for the bound stated. Knows nothing of records or
// files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace libbpf_ts::csv {

constexpr size_t kNumberBound = 32;  // any of the numbers below

char* Unsigned(char* to, uint64_t value);
char* Signed(char* to, int64_t value);
char* Hex(char* to, uint64_t value);  // 0x and lower-case digits, no padding

// value / divisor with `digits` decimals (0 to 9), the last one rounded half away from zero.
// divisor: 1 to 10^9. Never "-0.000": what rounds to nothing has no sign.
char* Fixed(char* to, uint64_t value, uint64_t divisor, unsigned digits);
char* Fixed(char* to, int64_t value, uint64_t divisor, unsigned digits);
char* SixDigits(char* to, uint32_t value);  // below 10^6, zeros in front

constexpr size_t kAddressBound = 46;
char* Ipv4(char* to, const uint8_t* address);  // 4 bytes in network order
char* Ipv6(char* to, const uint8_t* address);  // 16 bytes in network order, RFC 5952

// Text up to the first NUL. Invalid UTF-8 becomes U+FFFD as the WHATWG decoder has it; a cell a
// spreadsheet would run as a formula begins with an apostrophe; quoted where it must be.
constexpr size_t TextBound(size_t size) { return 3 * size + 3; }
char* Text(char* to, const char* from, size_t size);
std::string Text(std::string_view text);

}  // namespace libbpf_ts::csv
