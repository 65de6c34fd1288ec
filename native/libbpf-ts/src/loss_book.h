// SPDX-License-Identifier: MIT
// Adds up what did not reach a file, by source, until somebody takes it to tell it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

namespace libbpf_ts {

struct Source;

// Rows that are about one source.
struct Portion {
  std::shared_ptr<const Source> source;  // null: rows that are about nobody in particular
  uint64_t rows = 0;
  uint64_t events = 0;  // of these rows, those that are events
  uint64_t lost = 0;    // what LOST rows among them tell
  bool ended = false;   // END is among them
};

class LossBook {
 public:
  void Add(const Portion& more) {
    Portion& portion = Find(more.source);
    portion.rows += more.rows;
    portion.events += more.events;
    portion.lost += more.lost;
    portion.ended |= more.ended;
  }
  bool empty() const { return portions_.empty(); }
  std::vector<Portion> Take() {
    places_.clear();
    last_ = 0;
    return std::exchange(portions_, {});
  }

 private:
  Portion& Find(const std::shared_ptr<const Source>& source) {
    // Losses come in floods about one source: no look-up then.
    if (last_ < portions_.size() && portions_[last_].source.get() == source.get()) {
      return portions_[last_];
    }
    auto [place, added] = places_.try_emplace(source.get(), portions_.size());
    if (added) portions_.push_back({source});
    last_ = place->second;
    return portions_[last_];
  }

  std::vector<Portion> portions_;
  std::unordered_map<const Source*, size_t> places_;  // in portions_, which keep the sources alive
  size_t last_ = 0;
};

}  // namespace libbpf_ts
