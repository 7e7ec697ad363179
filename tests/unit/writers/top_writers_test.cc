#include "collectors/writers/top_writers.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>

namespace cow::writers {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

class TopWritersTest : public testing::Test {
 protected:
  using Samples = std::map<TopWriters::Key, uint64_t>;

  static TopWriters::Key Key(const std::string& function) { return {Side::kChild, "object", function}; }

  void Add(const Samples& samples, size_t top = 2) { writers_.Add(samples, top, hours(1), now_ += minutes(1)); }

  // Samples by function.
  std::map<std::string, uint64_t> Published() const {
    std::map<std::string, uint64_t> found;
    for (const TopWriters::Series& series : writers_.Published()) found[series.key.function] = series.samples;
    return found;
  }

  TopWriters writers_;
  TopWriters::Time now_;
};

using Counts = std::map<std::string, uint64_t>;

TEST_F(TopWritersTest, CountsTheRestAsOther) {
  Add({{Key("a"), 10}, {Key("b"), 20}, {Key("c"), 5}});
  EXPECT_EQ(Published(), (Counts{{"a", 10}, {"b", 20}, {"_other", 5}}));
}

TEST_F(TopWritersTest, WriterThatLeavesTheTopStopsGrowing) {
  Add({{Key("a"), 10}, {Key("b"), 20}});
  Add({{Key("c"), 100}, {Key("b"), 100}, {Key("a"), 1}});
  EXPECT_EQ(Published(), (Counts{{"a", 10}, {"b", 120}, {"c", 100}, {"_other", 1}}));
}

TEST_F(TopWritersTest, SeriesEndsAfterTheHoldTime) {
  Add({{Key("a"), 10}, {Key("b"), 20}});
  Add({{Key("c"), 100}, {Key("b"), 100}});
  now_ += hours(1);
  Add({{Key("c"), 1}});
  EXPECT_EQ(Published(), (Counts{{"b", 120}, {"c", 101}}));
}

TEST_F(TopWritersTest, EverySampleCountsOnce) {
  uint64_t all = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    Samples samples;
    for (uint64_t function = 0; function < 5; ++function) {
      const uint64_t count = (i * 7 + function * 13) % 29;
      if (count != 0) samples[Key(std::to_string(function))] = count;
      all += count;
    }
    writers_.Add(samples, 2, hours(1000), now_ += minutes(1));
  }
  uint64_t published = 0;
  for (const auto& [function, samples] : Published()) published += samples;
  EXPECT_EQ(published, all);
}

}  // namespace
}  // namespace cow::writers
