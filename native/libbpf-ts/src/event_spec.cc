// SPDX-License-Identifier: MIT
#include "event_spec.h"

#include <string>
#include <utility>
#include <vector>
#include "arguments.h"
#include "csv_text.h"
#include "environment.h"

namespace libbpf_ts {
namespace {

constexpr std::pair<const char*, CellKind> kKinds[] = {
    {"unsigned", CellKind::kUnsigned},
    {"signed", CellKind::kSigned},
    {"hex", CellKind::kHex},
    {"boolean", CellKind::kBoolean},
    {"seconds", CellKind::kTime},
    {"fixed", CellKind::kFixed},
    {"signed fixed", CellKind::kSignedFixed},
    {"names", CellKind::kNames},
    {"signed names", CellKind::kSignedNames},
    {"text", CellKind::kText},
    {"ipv4", CellKind::kIpv4},
    {"ipv6", CellKind::kIpv6},
};

// A value somewhere in the spec, and the way there for error messages.
class Node {
 public:
  Node(Napi::Value value, std::string path) : value_(value), path_(std::move(path)) {}

  bool Refuse(const char* expected) const {
    Napi::Env env = value_.Env();
    if (!env.IsExceptionPending()) {
      Napi::TypeError::New(env, path_ + " must be " + expected).ThrowAsJavaScriptException();
    }
    return false;
  }

  template <typename Type>
  bool Is(Type* out) const {
    const char* expected = Convert(value_, out);
    return expected == nullptr || Refuse(expected);
  }

  template <typename Type>
  bool Has(const char* key, Type* out) const {
    Napi::Value value;
    return Get(key, &value) && Node(value, path_ + "." + key).Is(out);
  }

  // Calls `visit` with each element of the array under `key`.
  template <typename Visit>
  bool Each(const char* key, Visit visit) const {
    Napi::Value value;
    return Get(key, &value) && Node(value, path_ + "." + key).Each(visit);
  }

  template <typename Visit>
  bool Each(Visit visit) const {
    if (!value_.IsArray()) return Refuse("an array");
    auto array = value_.As<Napi::Array>();
    for (uint32_t index = 0; index < array.Length(); index++) {
      Napi::HandleScope scope(value_.Env());
      Napi::Value value = array.Get(index);
      if (value.Env().IsExceptionPending()) return false;
      if (!visit(Node(value, path_ + "[" + std::to_string(index) + "]"))) return false;
    }
    return true;
  }

 private:
  bool Get(const char* key, Napi::Value* out) const {
    if (!value_.IsObject()) return Refuse("an object");
    *out = value_.As<Napi::Object>().Get(key);
    return !value_.Env().IsExceptionPending();  // of a getter
  }

  Napi::Value value_;
  std::string path_;
};

bool ReadCondition(const Node& node, Condition* out) {
  uint32_t width = 0;
  if (!node.Has("offset", &out->offset) || !node.Has("width", &width) ||
      !node.Has("equal", &out->equal) || !node.Has("value", &out->value)) {
    return false;
  }
  if (width > 8) return node.Refuse("of 8 bytes at most");
  out->width = static_cast<uint8_t>(width);
  return true;
}

bool AddCondition(const Node& node, std::vector<Condition>* out) {
  out->emplace_back();
  return ReadCondition(node, &out->back());
}

bool ReadKind(const Node& node, CellKind* out) {
  std::string name;
  if (!node.Has("kind", &name)) return false;
  for (const auto& [known, kind] : kKinds) {
    if (name != known) continue;
    *out = kind;
    return true;
  }
  return node.Refuse("of a known kind");
}

bool ReadCell(const Node& node, CellFormat* out) {
  if (!ReadKind(node, &out->kind) || !node.Has("offset", &out->offset) ||
      !node.Has("width", &out->width) || !node.Has("divisor", &out->divisor) ||
      !node.Has("digits", &out->digits) || !node.Has("other", &out->other)) {
    return false;
  }
  return node.Each("when", [out](const Node& condition) {
    return AddCondition(condition, &out->when);
  }) && node.Each("names", [out](const Node& name) {
    std::string text;
    if (!name.Is(&text)) return false;
    out->names.push_back(csv::Text(text));
    return true;
  }) && node.Each("farNames", [out](const Node& name) {
    uint64_t value = 0;
    std::string text;
    if (!name.Has("value", &value) || !name.Has("name", &text)) return false;
    out->far_names.emplace_back(value, csv::Text(text));
    return true;
  });
}

bool ReadColumn(const Node& node, EventTable::Column* out) {
  return node.Each([out](const Node& cell) {
    out->emplace_back();
    return ReadCell(cell, &out->back());
  });
}

}  // namespace

bool ReadEventSpec(Napi::Env env, Napi::Value spec, EventTable* table) {
  Node node(spec, "spec");
  uint32_t time_offset = 0;
  int64_t unix_offset_ns = 0;
  std::vector<EventTable::Column> columns;
  if (!node.Has("timeOffset", &time_offset) || !node.Has("unixOffsetNs", &unix_offset_ns) ||
      !node.Each("columns", [&columns](const Node& column) {
        columns.emplace_back();
        return ReadColumn(column, &columns.back());
      })) {
    return false;
  }
  Failure failure = table->Bind(std::move(columns), time_offset, unix_offset_ns);
  if (failure) Throw(env, failure);
  return !failure;
}

bool ReadConditions(Napi::Value conditions, std::vector<Condition>* out) {
  return Node(conditions, "conditions").Each([out](const Node& condition) {
    return AddCondition(condition, out);
  });
}

}  // namespace libbpf_ts
