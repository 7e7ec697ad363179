// Counts the samples of a group by writer, and decides which writers have a series of their own: the top ones. The rest
// is counted as kOther. Every sample is counted once.
//
// A writer that leaves the top keeps its count and stops growing; its series ends after the hold time. Recent samples
// weigh more, so that a new writer gets into the top. Pure; one thread.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/writers/break_joiner.h"

namespace cow::writers {

class TopWriters {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::string_view kOther = "_other";

  struct Key {
    Side side = Side::kUnknown;
    std::string object;
    std::string function;  // empty: unknown

    // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
    auto operator<=>(const Key&) const = default;
  };
  struct Series {
    Key key;
    uint64_t samples = 0;
  };

  // Counts the samples of one interval. Call it in each interval, also without samples.
  void Add(const std::map<Key, uint64_t>& samples, size_t top, std::chrono::milliseconds hold, Time now);

  std::vector<Series> Published() const;

 private:
  struct Entry {
    double score = 0;
    uint64_t samples = 0;  // while in the top
    bool has_series = false;
    Time in_top_at;
  };

  std::map<Key, Entry> entries_;
  std::map<Side, uint64_t> other_;
};

}  // namespace cow::writers
