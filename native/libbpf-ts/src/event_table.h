// SPDX-License-Identifier: MIT
// A table whose rows are event records: each column bound once to a field of the record. Formats
// rows; knows nothing of rings, files or JavaScript.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include "failure.h"
#include "unix_time.h"

namespace libbpf_ts {

// Whom an event is about, its cells ready to be copied.
struct Source {
  uint32_t id = 0;  // serial number in the event's header
  uint32_t pid = 0;
  std::string name;   // as the kernel gave it
  std::string cells;  // "pid,name" as CSV: SourceCells
};

std::string SourceCells(uint32_t pid, std::string_view name);

// An unsigned little-endian field of the record, 1, 2, 4 or 8 bytes wide, compared with a value.
struct Condition {
  uint32_t offset = 0;
  uint8_t width = 0;
  bool equal = true;  // false: holds when they differ
  uint64_t value = 0;

  // A field behind the record's end makes no condition hold.
  bool Holds(const uint8_t* record, size_t length) const;
};

enum class CellKind : uint8_t {
  kUnsigned,
  kSigned,
  kHex,
  kBoolean,      // 0 or 1
  kTime,         // CLOCK_MONOTONIC ns as Unix seconds with 6 decimals
  kFixed,        // unsigned value / divisor with `digits` decimals
  kSignedFixed,  // the same, signed
  kNames,        // the value's name, else `other` and the number
  kSignedNames,  // the same, signed
  kText,         // char array
  kIpv4,
  kIpv6,
};

// One way to fill a cell: a field, how it is shown, and when.
struct CellFormat {
  std::vector<Condition> when;  // all must hold
  CellKind kind = CellKind::kUnsigned;
  uint32_t offset = 0;
  uint32_t width = 0;  // bytes: 1, 2, 4, 8; of kText any; of addresses 4 and 16
  uint64_t divisor = 1;
  uint32_t digits = 0;
  // CSV cells already; an empty one is no name. By value from 0 up, and of values far from that
  // (negative ones sign-extended) in ascending order.
  std::vector<std::string> names;
  std::vector<std::pair<uint64_t, std::string>> far_names;
  std::string other;  // plain text
};

class EventTable {
 public:
  // The first format whose conditions hold fills the cell; none leaves it empty.
  using Column = std::vector<CellFormat>;

  // Columns behind the three that every event table begins with: time, pid, name of the source.
  // `time_offset`: of a u64 CLOCK_MONOTONIC ns; `unix_offset_ns` makes it Unix time.
  // EINVAL for a width, divisor or number of columns (2 at least) that cannot be, or rows too long.
  Failure Bind(std::vector<Column> columns, uint32_t time_offset, int64_t unix_offset_ns);

  // Most bytes any of the rows below can take, or touch behind their end.
  size_t row_bound(const Source& source) const { return row_bound_ + source.cells.size(); }

  // Each writes one line with its LF and returns its end. A field that lies behind `length` leaves
  // its cell empty; of a text what lies before. Not const: the seconds of the last row are kept.
  char* Row(char* to, const uint8_t* record, size_t length, const Source& source);
  // "time,pid,name,LOST,count": events of this source that are missing here.
  char* LostRow(char* to, uint64_t ns, const Source& source, uint64_t count);
  // "END,pid,name": nothing comes after.
  char* EndRow(char* to, const Source& source) const;

 private:
  struct Name {
    uint32_t start = 0;  // in pool_
    uint32_t length = 0;
  };
  // A CellFormat laid out for Row: what is long lies in the table's own vectors.
  struct Step {
    CellKind kind;
    uint8_t width;  // of what is read as a number
    uint8_t digits;
    uint32_t next_column;  // the step it begins with
    uint32_t offset;
    uint32_t size;
    uint32_t conditions_begin, conditions_end;
    uint32_t names_begin, names_size;
    uint32_t far_begin, far_end;
    Name prefix, suffix;  // around the number of a value without a name
    uint64_t divisor;
  };

  Failure Add(const CellFormat& format, const std::string& column);
  Name Pooled(std::string_view text);
  size_t Bound(const CellFormat& format) const;
  bool Holds(const Step& step, const uint8_t* record, size_t length) const;
  char* CopyName(char* to, Name name) const;
  char* Named(char* to, const Step& step, uint64_t value) const;
  char* Cell(char* to, const Step& step, const uint8_t* record, size_t length);

  std::vector<Step> steps_;
  std::vector<Condition> conditions_;
  std::vector<Name> names_;
  std::vector<std::pair<uint64_t, Name>> far_names_;
  std::string pool_;
  size_t columns_ = 0;
  size_t row_bound_ = 0;
  uint32_t time_offset_ = 0;
  UnixTime time_;
  UnixTime cell_time_;  // of cells: another second than the row's
};

}  // namespace libbpf_ts
