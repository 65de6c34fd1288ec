// SPDX-License-Identifier: MIT
#include "csv_text.h"

#include <cstring>

namespace libbpf_ts::csv {
namespace {

struct DigitPairs {
  char digits[200];
  constexpr DigitPairs() : digits() {
    for (int value = 0; value < 100; value++) {
      digits[2 * value] = static_cast<char>('0' + value / 10);
      digits[2 * value + 1] = static_cast<char>('0' + value % 10);
    }
  }
};
constexpr DigitPairs kPairs;
constexpr char kHexDigits[] = "0123456789abcdef";

struct PowersOfTen {
  uint64_t power[20];
  constexpr PowersOfTen() : power() {
    uint64_t value = 1;
    for (uint64_t& entry : power) {
      entry = value;
      value *= 10;
    }
  }
};
constexpr PowersOfTen kTen;

inline void Pair(char* to, uint32_t value) { memcpy(to, kPairs.digits + 2 * value, 2); }

inline void Four(char* to, uint32_t value) {
  Pair(to, value / 100);
  Pair(to + 2, value % 100);
}

inline void Eight(char* to, uint32_t value) {
  Four(to, value / 10000);
  Four(to + 4, value % 10000);
}

// log10 from log2; exact after one comparison.
inline unsigned DigitCount(uint64_t value) {
  unsigned guess = (64 - static_cast<unsigned>(__builtin_clzll(value | 1))) * 1233 >> 12;
  return guess + (value >= kTen.power[guess] ? 1 : 0) + (value == 0 ? 1 : 0);
}

// The last `count` digits, zeros in front included.
inline void Digits(char* to, uint64_t value, unsigned count) {
  while (count >= 8) {
    Eight(to + count - 8, static_cast<uint32_t>(value % 100000000));
    value /= 100000000;
    count -= 8;
  }
  auto rest = static_cast<uint32_t>(value);
  for (; count >= 2; count -= 2) {
    Pair(to + count - 2, rest % 100);
    rest /= 100;
  }
  if (count > 0) *to = static_cast<char>('0' + rest % 10);
}

struct Decimal {
  uint64_t whole;
  uint64_t fraction;  // in units of the last digit
};

inline Decimal Divide(uint64_t value, uint64_t divisor, unsigned digits) {
  uint64_t scale = kTen.power[digits];
  uint64_t whole = value / divisor;
  uint64_t rest = value - whole * divisor;
  if (scale == divisor) return {whole, rest};
  // At most 2 * 10^9 * 10^9 + 10^9.
  uint64_t fraction = (2 * rest * scale + divisor) / (2 * divisor);
  return fraction == scale ? Decimal{whole + 1, 0} : Decimal{whole, fraction};
}

inline char* Write(char* to, const Decimal& value, unsigned digits) {
  to = Unsigned(to, value.whole);
  if (digits == 0) return to;
  *to++ = '.';
  Digits(to, value.fraction, digits);
  return to + digits;
}

// ---- Text
// ----------------------------------------------------------------------------------------

enum : uint8_t { kPlain = 0, kQuoted = 1, kWide = 2, kEnd = 4 };

struct ByteClasses {
  uint8_t of[256];
  constexpr ByteClasses() : of() {
    for (int byte = 0x80; byte < 0x100; byte++) of[byte] = kWide;
    of[0] = kEnd;
    of[static_cast<int>('"')] = kQuoted;
    of[static_cast<int>(',')] = kQuoted;
    of[static_cast<int>('\r')] = kQuoted;
    of[static_cast<int>('\n')] = kQuoted;
  }
};
constexpr ByteClasses kClasses;

// What a spreadsheet takes for the beginning of a formula; East Asian editions also take the
// full-width forms of = + - @.
bool BeginsFormula(const uint8_t* text, size_t size) {
  if (size == 0) return false;
  switch (text[0]) {
    case '=':
    case '+':
    case '-':
    case '@':
    case '\t':
    case '\r':
    case '\n':
      return true;
    default:
      break;
  }
  if (size < 3 || text[0] != 0xef || text[1] != 0xbc) return false;
  return text[2] == 0x9d || text[2] == 0x8b || text[2] == 0x8d || text[2] == 0xa0;
}

// Length of the character that begins here with a byte >= 0x80. Of what is none: how much of it one
// U+FFFD stands for, which is as much as could have begun a character.
size_t CharacterLength(const uint8_t* text, size_t size, bool* valid) {
  *valid = false;
  uint8_t lead = text[0];
  size_t length = 0;
  if (lead >= 0xc2 && lead <= 0xdf) length = 2;
  if (lead >= 0xe0 && lead <= 0xef) length = 3;
  if (lead >= 0xf0 && lead <= 0xf4) length = 4;
  if (length == 0) return 1;
  // Overlong forms, surrogates and what is beyond U+10FFFF show in the second byte.
  uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (size_t at = 1; at < length; at++) {
    if (at == size || text[at] < low || text[at] > high) return at;
    low = 0x80;
    high = 0xbf;
  }
  *valid = true;
  return length;
}

char* Decoded(char* to, const uint8_t* text, size_t size) {
  for (size_t at = 0; at < size;) {
    uint8_t byte = text[at];
    if (byte < 0x80) {
      if (byte == '"') *to++ = '"';
      *to++ = static_cast<char>(byte);
      at++;
      continue;
    }
    bool valid = false;
    size_t length = CharacterLength(text + at, size - at, &valid);
    if (valid) {
      memcpy(to, text + at, length);
      to += length;
    } else {
      memcpy(to, "\xef\xbf\xbd", 3);
      to += 3;
    }
    at += length;
  }
  return to;
}

}  // namespace

char* Unsigned(char* to, uint64_t value) {
  unsigned count = DigitCount(value);
  Digits(to, value, count);
  return to + count;
}

char* Signed(char* to, int64_t value) {
  auto magnitude = static_cast<uint64_t>(value);
  if (value < 0) {
    *to++ = '-';
    magnitude = 0 - magnitude;
  }
  return Unsigned(to, magnitude);
}

char* Hex(char* to, uint64_t value) {
  *to++ = '0';
  *to++ = 'x';
  int shift = (63 - __builtin_clzll(value | 1)) & ~3;
  for (; shift >= 0; shift -= 4) *to++ = kHexDigits[(value >> shift) & 15];
  return to;
}

char* Fixed(char* to, uint64_t value, uint64_t divisor, unsigned digits) {
  return Write(to, Divide(value, divisor, digits), digits);
}

char* Fixed(char* to, int64_t value, uint64_t divisor, unsigned digits) {
  auto magnitude = static_cast<uint64_t>(value);
  Decimal decimal = Divide(value < 0 ? 0 - magnitude : magnitude, divisor, digits);
  if (value < 0 && (decimal.whole != 0 || decimal.fraction != 0)) *to++ = '-';
  return Write(to, decimal, digits);
}

char* SixDigits(char* to, uint32_t value) {
  Pair(to, value / 10000);
  Four(to + 2, value % 10000);
  return to + 6;
}

char* Ipv4(char* to, const uint8_t* address) {
  for (int index = 0; index < 4; index++) {
    if (index > 0) *to++ = '.';
    to = Unsigned(to, address[index]);
  }
  return to;
}

char* Ipv6(char* to, const uint8_t* address) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (memcmp(address, kMapped, sizeof kMapped) == 0) {
    memcpy(to, "::ffff:", 7);
    return Ipv4(to + 7, address + 12);
  }
  uint16_t groups[8];
  for (int index = 0; index < 8; index++) {
    groups[index] = static_cast<uint16_t>(address[2 * index] << 8 | address[2 * index + 1]);
  }
  // The first of the longest runs of zeros, if of two groups at least.
  int best = -1, best_length = 1;
  for (int start = 0; start < 8; start++) {
    int length = 0;
    while (start + length < 8 && groups[start + length] == 0) length++;
    if (length > best_length) {
      best = start;
      best_length = length;
    }
  }
  for (int index = 0; index < 8;) {
    if (index == best) {
      *to++ = ':';
      *to++ = ':';
      index += best_length;
      continue;
    }
    if (index > 0 && index != best + best_length) *to++ = ':';
    uint16_t group = groups[index++];
    int shift = (31 - __builtin_clz(group | 1u)) & ~3;
    for (; shift >= 0; shift -= 4) *to++ = kHexDigits[(group >> shift) & 15];
  }
  return to;
}

char* Text(char* to, const char* from, size_t size) {
  const auto* text = reinterpret_cast<const uint8_t*>(from);
  size_t length = 0;
  unsigned classes = 0;
  for (; length < size; length++) {
    uint8_t byte_class = kClasses.of[text[length]];
    if (byte_class == kEnd) break;
    classes |= byte_class;
  }
  bool quoted = (classes & kQuoted) != 0;
  if (quoted) *to++ = '"';
  if (BeginsFormula(text, length)) *to++ = '\'';
  if (classes == kPlain) {
    memcpy(to, text, length);
    return to + length;
  }
  to = Decoded(to, text, length);
  if (quoted) *to++ = '"';
  return to;
}

std::string Text(std::string_view text) {
  std::string cell(TextBound(text.size()), '\0');
  cell.resize(static_cast<size_t>(Text(cell.data(), text.data(), text.size()) - cell.data()));
  return cell;
}

}  // namespace libbpf_ts::csv
