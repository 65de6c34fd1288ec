// SPDX-License-Identifier: MIT
// A record with a field of every kind that a cell of an event table can show, or must refuse.
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum near_values { NONE, READ, WRITE = 4 };
enum signed_values { MINUS_ONE = -1, LOWEST = -2147483648, NOTHING = 0, HIGHEST = 2147483647 };
enum far_values { FIRST = 7, FIRST_TOO = 7, HUGE = 0x7ffffff0, LAST_NEAR = 1023, FIRST_FAR = 1024 };
enum wide_values { SMALL = 1, WIDE = 0x8000000000000000 };

typedef const __u32 my_u32;
typedef char my_name[16];

struct inner {
  __u8 kind;
  __u64 arguments[4];
  struct {
    __s16 depth;
    char name[5];
  } deep[2];
};

struct columns {
  __u64 time;
  __u8 u8;
  __u16 u16;
  __u32 u32;
  __u64 u64;
  __s8 s8;
  __s16 s16;
  __s32 s32;
  __s64 s64;
  bool yes;
  enum near_values near_enum;
  enum signed_values signed_enum;
  enum far_values far_enum;
  enum wide_values wide_enum;
  my_u32 constant;
  struct inner *pointer;
  char text[12];
  my_name name;
  char lines[3][9];
  char one;
  unsigned char bytes[6];
  __u32 ipv4;
  __u8 ipv4_bytes[4];
  __u8 ipv6[16];
  __u32 ipv6_words[4];
  __u64 later;
  struct inner inner;
  union {
    __u32 whole;
    __u16 halves[2];
  };
  __u32 bit : 3;
  float real;
  __int128 huge;
  char rest[];
};

struct columns sample;
