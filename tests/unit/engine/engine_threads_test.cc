// Checks that several threads scan families and publish the same values as one thread.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"

namespace cow::collectors {
namespace {

constexpr uint64_t kPage = test::kFixturePageBytes;
constexpr uint64_t kFirstArea = 0x10000000;
constexpr uint64_t kAreaDistance = 0x1000000;  // each area has its own windows
constexpr uint64_t kAreas = 4;
constexpr uint64_t kAreaPages = 24;
constexpr size_t kFamilies = 6;

// Detects two concurrent calls. Every fifth call reads the state.
class Watching : public PassControl {
 public:
  explicit Watching(const Engine& engine) : engine_(engine) {}
  bool Continue() override {
    EXPECT_EQ(inside_.fetch_add(1), 0);
    if (++calls_ % 5 == 0) {
      EXPECT_FALSE(test::CollectDeclared(engine_).empty());
    }
    inside_.fetch_sub(1);
    return true;
  }

 private:
  const Engine& engine_;
  std::atomic<int> inside_ = 0;
  int calls_ = 0;
};

// Returns all values that do not depend on the time of a reading.
std::map<std::string, double> ValuesOf(const Engine& engine) {
  static const std::set<std::string> of_time = {"cow_scan_timestamp_seconds", "cow_scrape_collector_duration_seconds",
                                                "cow_scan_rests_total"};
  std::map<std::string, double> values;
  for (const prometheus::MetricFamily& family : test::CollectDeclared(engine)) {
    if (of_time.contains(family.name)) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      std::string series = family.name;
      for (const auto& label : metric.label) series.append(",").append(label.name).append("=").append(label.value);
      values[series] = metric.gauge.value + metric.counter.value + metric.histogram.sample_sum;
      values[series + " count"] = static_cast<double>(metric.histogram.sample_count);
    }
  }
  return values;
}

class EngineThreadsTest : public testing::TestWithParam<std::chrono::milliseconds> {
 protected:
  EngineThreadsTest() {
    host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\n");
    for (size_t family = 0; family < kFamilies; ++family) {
      const pid_t root = next_pid_++;
      test::FixtureProcess& process = host_.Add(root);
      process.layout = 0x400000 + 0x100000 * (family + 1);
      process.comm = family % 3 == 0 ? "common" : "app" + std::to_string(family);
      for (uint64_t area = 0; area < kAreas; ++area) {
        process.MapPages(kFirstArea + area * kAreaDistance, kAreaPages, next_frame_, area == 0 ? "[heap]" : "");
        next_frame_ += kAreaPages;
      }
      families_.push_back({root});
      for (size_t member = 0; member < 1 + family % 3; ++member) Fork(families_.back());
    }
  }

  void Fork(std::vector<pid_t>& family) {
    host_.Fork(family.front(), next_pid_, 200 + static_cast<uint64_t>(next_pid_));
    family.push_back(next_pid_++);
  }
  std::unique_ptr<Engine> Start(size_t threads) {
    host_.Sync();
    EngineOptions options;
    for (const CollectorInfo& info : AvailableCollectors()) {
      if (info.enabled_by_default) options.collectors.emplace_back(info.name);
    }
    options.full_every = GetParam();
    options.threads = threads;
    return std::make_unique<Engine>(host_.Root(), std::move(options));
  }
  uint64_t Below(uint64_t end) { return random_() % end; }

  void Change() {
    std::vector<pid_t>& family = families_[Below(kFamilies)];
    const size_t index = Below(family.size());
    const pid_t pid = family[index];
    if (Below(10) == 0 && family.size() < 6) return Fork(family);
    if (Below(10) == 0 && index != 0) {
      host_.Exit(pid);
      family.erase(family.begin() + static_cast<std::ptrdiff_t>(index));
      return;
    }
    test::FixtureProcess& process = host_.At(pid);
    ++process.minor_faults;
    const uint64_t area = kFirstArea + Below(kAreas) * kAreaDistance;
    for (uint64_t page = Below(kAreaPages); page < kAreaPages; page += 1 + Below(4)) {
      if (Below(8) == 0) {
        process.Drop(area + page * kPage);
      } else {
        process.SetPage(area + page * kPage, next_frame_++);
      }
    }
  }

  test::FixtureHost host_;
  std::vector<std::vector<pid_t>> families_;
  pid_t next_pid_ = 100;
  uint64_t next_frame_ = 1000;
  std::mt19937_64 random_{7};
};

TEST_P(EngineThreadsTest, FourTellWhatOneTells) {
  const auto one = Start(1);
  const auto four = Start(4);
  for (int pass = 0; pass < 12; ++pass) {
    host_.Sync();
    Watching control_of_one(*one);
    ASSERT_TRUE(one->RunPass(control_of_one));
    Watching control_of_four(*four);
    ASSERT_TRUE(four->RunPass(control_of_four));
    ASSERT_EQ(ValuesOf(*one), ValuesOf(*four)) << "pass " << pass;
    for (uint64_t changes = Below(12); changes > 0; --changes) Change();
  }
  double breaks = 0;
  for (const auto& [series, value] : ValuesOf(*one)) breaks += series.starts_with("cow_breaks_total") ? value : 0;
  EXPECT_GT(breaks, 50);
  EXPECT_EQ(one->HelperCpuTime().count(), 0);
  EXPECT_GT(four->HelperCpuTime().count(), 0);
}

// After the answer was no, it is not asked again. A later pass finds everything.
TEST_P(EngineThreadsTest, AnAbandonedPassIsMadeGood) {
  class Abandoning : public PassControl {
   public:
    explicit Abandoning(int steps) : steps_(steps) {}
    bool Continue() override {
      EXPECT_GE(steps_, 0) << "asked again";
      return --steps_ >= 0;
    }

   private:
    int steps_;
  };
  const auto one = Start(1);
  const auto four = Start(4);
  for (int pass = 0; pass < 6; ++pass) {
    host_.Sync();
    Abandoning control(pass);
    ASSERT_FALSE(four->RunPass(control));
    EXPECT_FALSE(test::CollectDeclared(*four).empty());
    Watching control_of_one(*one);
    ASSERT_TRUE(one->RunPass(control_of_one));
    Watching control_of_four(*four);
    ASSERT_TRUE(four->RunPass(control_of_four));
    const auto of_one = ValuesOf(*one);
    const auto of_four = ValuesOf(*four);
    for (const char* name : {"cow_breaks_total", "cow_exposure_bytes", "cow_footprint_bytes", "cow_resident_bytes"}) {
      for (const auto& [series, value] : of_one) {
        if (series.starts_with(name)) {
          EXPECT_EQ(value, of_four.at(series)) << series << " in pass " << pass;
        }
      }
    }
    for (uint64_t changes = Below(12); changes > 0; --changes) Change();
  }
}

INSTANTIATE_TEST_SUITE_P(FullEvery, EngineThreadsTest,
                         testing::Values(std::chrono::milliseconds{0}, std::chrono::hours{1}));

}  // namespace
}  // namespace cow::collectors
