// SPDX-License-Identifier: MIT
#include "event_dispatch.h"

#include <bpf/bpf.h>
#include <algorithm>
#include <cstring>
#include <utility>

namespace libbpf_ts {
namespace {

template <typename T>
T Load(const uint8_t* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

std::string_view NameAt(const uint8_t* from, size_t size) {
  const char* text = reinterpret_cast<const char*>(from);
  return {text, strnlen(text, size)};
}

// False: it had records before anybody could tell who it is.
bool Known(const Source& source) { return source.pid != 0 || !source.name.empty(); }

}  // namespace

void EventDispatch::SetLayout(const EventLayout& layout, Fd sources) {
  layout_ = layout;
  header_size_ = std::max({layout.stream + 4, layout.source + 4, layout.time + 8});
  value_.resize(layout.value_size);
  sources_map_ = std::move(sources);
}

void EventDispatch::Bind(uint32_t stream, std::shared_ptr<StreamTable> table) {
  tables_[stream] = std::move(table);
}

// Without a stream nobody tells of a rename: the names would be old when the next one is bound.
void EventDispatch::Unbind(uint32_t stream) {
  tables_[stream].reset();
  for (const auto& table : tables_) {
    if (table) return;
  }
  last_ = nullptr;
  sources_.clear();
}

void EventDispatch::Suggest(uint32_t id, uint32_t pid, std::string_view name) {
  auto found = sources_.find(id);
  if (found == sources_.end() || !Known(*found->second)) Introduce(id, pid, name);
}

void EventDispatch::Record(const uint8_t* record, uint32_t length) {
  if (length < header_size_) return;
  uint32_t stream = Load<uint32_t>(record + layout_.stream);
  uint32_t id = Load<uint32_t>(record + layout_.source);
  if (stream >= kStreams) return;
  if (stream == kIdentity) return Identity(record, length, id);
  uint64_t ns = Load<uint64_t>(record + layout_.time);
  if (stream == kLoss) return Loss(record, length, id, ns);
  if (tables_[stream]) tables_[stream]->Write(record, length, ns, Find(id));
}

void EventDispatch::Introduce(uint32_t id, uint32_t pid, std::string_view name) {
  auto source = std::make_shared<Source>();
  source->id = id;
  source->pid = pid;
  source->name = name;
  source->cells = SourceCells(pid, name);
  sources_[id] = std::move(source);
}

void EventDispatch::Identity(const uint8_t* record, uint32_t length, uint32_t id) {
  if (length < layout_.identity_name + layout_.identity_name_size) return;
  Introduce(id, Load<uint32_t>(record + layout_.identity_pid),
            NameAt(record + layout_.identity_name, layout_.identity_name_size));
}

void EventDispatch::Loss(const uint8_t* record, uint32_t length, uint32_t id, uint64_t ns) {
  if (length < std::max(layout_.loss_of + 4, layout_.loss_count + 8)) return;
  Lost(Load<uint32_t>(record + layout_.loss_of), id, Load<uint64_t>(record + layout_.loss_count),
       ns);
}

void EventDispatch::Lost(uint32_t stream, uint32_t id, uint64_t count, uint64_t ns) {
  if (stream >= kStreams) return;
  if (stream == kIdentity) {
    LookUp(id);
  } else if (tables_[stream]) {
    tables_[stream]->Lost(ns, Find(id), count);
  }
}

const std::shared_ptr<const Source>& EventDispatch::Find(uint32_t id) {
  if (last_ != nullptr && last_id_ == id) return *last_;
  auto found = sources_.find(id);
  if (found == sources_.end()) {
    if (!LookUp(id)) Introduce(id, 0, "");
    found = sources_.find(id);
  }
  last_id_ = id;
  last_ = &found->second;  // stays where it is until it is erased
  return *last_;
}

bool EventDispatch::LookUp(uint32_t id) {
  if (!sources_map_.valid()) return false;
  if (bpf_map_lookup_elem(sources_map_.get(), &id, value_.data()) != 0) return false;
  Introduce(id, Load<uint32_t>(&value_[layout_.value_pid]),
            NameAt(&value_[layout_.value_name], layout_.identity_name_size));
  return true;
}

void EventDispatch::End(uint32_t id, uint64_t ns) {
  std::shared_ptr<const Source> source = Find(id);
  for (const auto& table : tables_) {
    if (table) table->End(ns, source);
  }
  last_ = nullptr;
  sources_.erase(id);
}

void EventDispatch::Settle(uint64_t ns) {
  for (const auto& table : tables_) {
    if (table) table->Settle(ns);
  }
}

void EventDispatch::Collect() {
  for (const auto& table : tables_) {
    if (table) table->Collect();
  }
}

void EventDispatch::Closed(const std::shared_ptr<CsvFile>& file) {
  for (const auto& table : tables_) {
    if (table) table->Closed(file);
  }
}

}  // namespace libbpf_ts
