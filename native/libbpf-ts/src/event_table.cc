// SPDX-License-Identifier: MIT
#include "event_table.h"

#include <algorithm>
#include <cstring>
#include "csv_text.h"

namespace libbpf_ts {
namespace {

// What copying a short name as one block touches behind it.
constexpr size_t kBlock = 16;

constexpr size_t kMaxRow = 64 << 10;  // far below what a file writes at once
constexpr size_t kMaxNames = 16 << 20;

template <typename Word>
inline uint64_t LoadWord(const uint8_t* from) {
  Word word;
  memcpy(&word, from, sizeof word);
  return word;
}

inline uint64_t Load(const uint8_t* from, uint8_t width) {
  switch (width) {
    case 1:
      return *from;
    case 2:
      return LoadWord<uint16_t>(from);
    case 4:
      return LoadWord<uint32_t>(from);
    default:
      return LoadWord<uint64_t>(from);
  }
}

inline int64_t LoadSigned(const uint8_t* from, uint8_t width) {
  unsigned unused = 64 - 8 * width;
  return static_cast<int64_t>(Load(from, width) << unused) >> unused;
}

inline char* Copy(char* to, const std::string& text) {
  memcpy(to, text.data(), text.size());
  return to + text.size();
}

bool IsWord(uint32_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

bool WidthFits(CellKind kind, uint32_t width) {
  switch (kind) {
    case CellKind::kText:
      return width > 0;
    case CellKind::kTime:
      return width == 8;
    case CellKind::kIpv4:
      return width == 4;
    case CellKind::kIpv6:
      return width == 16;
    default:
      return IsWord(width);
  }
}

}  // namespace

std::string SourceCells(uint32_t pid, std::string_view name) {
  return std::to_string(pid) + "," + csv::Text(name);
}

bool Condition::Holds(const uint8_t* record, size_t length) const {
  if (length < size_t{offset} + width) return false;
  return (Load(record + offset, width) == value) == equal;
}

// ---- Binding ----

Failure EventTable::Bind(std::vector<Column> columns, uint32_t time_offset,
                         int64_t unix_offset_ns) {
  *this = EventTable();
  time_offset_ = time_offset;
  time_ = cell_time_ = UnixTime(unix_offset_ns);
  columns_ = columns.size();
  if (columns_ < 2) {
    return Fail(EINVAL, "bind event table", "",
                "it needs two columns at least: LOST rows fill two");
  }
  // Time, LOST and a count; a comma or LF after each cell.
  row_bound_ = UnixTime::kBound + 4 + csv::kNumberBound + 3 + kBlock;
  for (size_t index = 0; index < columns.size(); index++) {
    const Column& column = columns[index];
    std::string name = "column " + std::to_string(index);
    if (column.empty()) return Fail(EINVAL, "bind event table", name, "it has no cell");
    size_t first = steps_.size();
    size_t bound = 0;
    for (const CellFormat& format : column) {
      Failure failure = Add(format, name);
      if (failure) return failure;
      bound = std::max(bound, Bound(format));
    }
    for (size_t step = first; step < steps_.size(); step++) {
      steps_[step].next_column = static_cast<uint32_t>(steps_.size());
    }
    row_bound_ += bound + 1;
    if (row_bound_ > kMaxRow || pool_.size() > kMaxNames) {
      return Fail(EINVAL, "bind event table", name, "the rows, or the names, become too long");
    }
  }
  pool_.append(kBlock, '\0');
  return {};
}

Failure EventTable::Add(const CellFormat& format, const std::string& column) {
  auto refuse = [&column](const char* reason) {
    return Fail(EINVAL, "bind event table", column, reason);
  };
  if (!WidthFits(format.kind, format.width)) return refuse("no such width for this kind of cell");
  if (format.divisor < 1 || format.divisor > 1000000000) {
    return refuse("a divisor is from 1 to 1000000000");
  }
  if (format.digits > 9) return refuse("there are at most 9 decimals");
  if (format.other.find('\0') != std::string::npos) return refuse("a name has no NUL");
  auto ascending = [](const auto& a, const auto& b) { return a.first < b.first; };
  if (!std::is_sorted(format.far_names.begin(), format.far_names.end(), ascending)) {
    return refuse("the names are not in the order of their values");
  }
  Step step = {};
  step.kind = format.kind;
  step.width = static_cast<uint8_t>(std::min<uint32_t>(format.width, 16));
  step.digits = static_cast<uint8_t>(format.digits);
  step.offset = format.offset;
  step.size = format.width;
  step.divisor = format.divisor;
  step.conditions_begin = static_cast<uint32_t>(conditions_.size());
  for (const Condition& condition : format.when) {
    if (!IsWord(condition.width)) return refuse("no such width of a condition's field");
    conditions_.push_back(condition);
  }
  step.conditions_end = static_cast<uint32_t>(conditions_.size());
  step.names_begin = static_cast<uint32_t>(names_.size());
  step.names_size = static_cast<uint32_t>(format.names.size());
  for (const std::string& name : format.names) names_.push_back(Pooled(name));
  step.far_begin = static_cast<uint32_t>(far_names_.size());
  for (const auto& [value, name] : format.far_names) far_names_.push_back({value, Pooled(name)});
  step.far_end = static_cast<uint32_t>(far_names_.size());
  if (!format.other.empty()) {
    // Whether a cell is quoted or a formula does not depend on the number in it.
    std::string cell = csv::Text(format.other + "0");
    size_t number = cell.rfind('0');
    step.prefix = Pooled(std::string_view(cell).substr(0, number));
    step.suffix = Pooled(std::string_view(cell).substr(number + 1));
  }
  steps_.push_back(step);
  return {};
}

EventTable::Name EventTable::Pooled(std::string_view text) {
  Name name{static_cast<uint32_t>(pool_.size()), static_cast<uint32_t>(text.size())};
  pool_ += text;
  return name;
}

size_t EventTable::Bound(const CellFormat& format) const {
  switch (format.kind) {
    case CellKind::kText:
      return csv::TextBound(format.width);
    case CellKind::kTime:
      return UnixTime::kBound;
    case CellKind::kIpv4:
    case CellKind::kIpv6:
      return csv::kAddressBound;
    default:
      break;
  }
  size_t bound = csv::kNumberBound + csv::TextBound(format.other.size());
  for (const std::string& name : format.names) bound = std::max(bound, name.size());
  for (const auto& entry : format.far_names) bound = std::max(bound, entry.second.size());
  return bound;
}

// ---- Rows ----

inline char* EventTable::CopyName(char* to, Name name) const {
  // Nearly every name is short, and a block of a known size is copied without a call.
  memcpy(to, pool_.data() + name.start, kBlock);
  if (name.length > kBlock) memcpy(to, pool_.data() + name.start, name.length);
  return to + name.length;
}

char* EventTable::Named(char* to, const Step& step, uint64_t value) const {
  if (value < step.names_size) {
    Name name = names_[step.names_begin + value];
    if (name.length > 0) return CopyName(to, name);
  } else if (step.far_begin != step.far_end) {
    auto begin = far_names_.begin() + step.far_begin, end = far_names_.begin() + step.far_end;
    auto found = std::lower_bound(
        begin, end, value, [](const auto& entry, uint64_t key) { return entry.first < key; });
    if (found != end && found->first == value) return CopyName(to, found->second);
  }
  to = CopyName(to, step.prefix);
  to = step.kind == CellKind::kSignedNames ? csv::Signed(to, static_cast<int64_t>(value))
                                           : csv::Unsigned(to, value);
  return CopyName(to, step.suffix);
}

inline bool EventTable::Holds(const Step& step, const uint8_t* record, size_t length) const {
  for (uint32_t index = step.conditions_begin; index < step.conditions_end; index++) {
    if (!conditions_[index].Holds(record, length)) return false;
  }
  return true;
}

inline char* EventTable::Cell(char* to, const Step& step, const uint8_t* record, size_t length) {
  const uint8_t* field = record + step.offset;
  if (length < size_t{step.offset} + step.size) {
    if (step.kind != CellKind::kText || length <= step.offset) return to;
    return csv::Text(to, reinterpret_cast<const char*>(field), length - step.offset);
  }
  switch (step.kind) {
    case CellKind::kUnsigned:
      return csv::Unsigned(to, Load(field, step.width));
    case CellKind::kSigned:
      return csv::Signed(to, LoadSigned(field, step.width));
    case CellKind::kHex:
      return csv::Hex(to, Load(field, step.width));
    case CellKind::kBoolean:
      *to = Load(field, step.width) != 0 ? '1' : '0';
      return to + 1;
    case CellKind::kTime:
      return cell_time_.Write(to, Load(field, 8));
    case CellKind::kFixed:
      return csv::Fixed(to, Load(field, step.width), step.divisor, step.digits);
    case CellKind::kSignedFixed:
      return csv::Fixed(to, LoadSigned(field, step.width), step.divisor, step.digits);
    case CellKind::kNames:
      return Named(to, step, Load(field, step.width));
    case CellKind::kSignedNames:
      return Named(to, step, static_cast<uint64_t>(LoadSigned(field, step.width)));
    case CellKind::kText:
      return csv::Text(to, reinterpret_cast<const char*>(field), step.size);
    case CellKind::kIpv4:
      return csv::Ipv4(to, field);
    case CellKind::kIpv6:
      return csv::Ipv6(to, field);
  }
  return to;
}

char* EventTable::Row(char* to, const uint8_t* record, size_t length, const Source& source) {
  if (length >= size_t{time_offset_} + 8) to = time_.Write(to, Load(record + time_offset_, 8));
  *to++ = ',';
  to = Copy(to, source.cells);
  const Step* step = steps_.data();
  const Step* end = step + steps_.size();
  while (step != end) {
    *to++ = ',';
    const Step* next = steps_.data() + step->next_column;
    while (step != next && !Holds(*step, record, length)) step++;
    if (step != next) to = Cell(to, *step, record, length);
    step = next;
  }
  *to++ = '\n';
  return to;
}

char* EventTable::LostRow(char* to, uint64_t ns, const Source& source, uint64_t count) {
  to = time_.Write(to, ns);
  *to++ = ',';
  to = Copy(to, source.cells);
  memcpy(to, ",LOST,", 6);
  to = csv::Unsigned(to + 6, count);
  memset(to, ',', columns_ - 2);
  to += columns_ - 2;
  *to++ = '\n';
  return to;
}

char* EventTable::EndRow(char* to, const Source& source) const {
  memcpy(to, "END,", 4);
  to = Copy(to + 4, source.cells);
  memset(to, ',', columns_);
  to += columns_;
  *to++ = '\n';
  return to;
}

}  // namespace libbpf_ts
