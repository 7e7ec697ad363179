// Checks the engine after passes in which an allocation fails, for each allocation in turn. A separate program, because
// it replaces operator new.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace {

// Number of allocations before the one that fails. Negative: none fails.
int left = -1;

}  // namespace

// Not inlined: GCC 12 would report the free below as an error.
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (left >= 0 && left-- == 0) throw std::bad_alloc();
  if (void* memory = std::malloc(size)) return memory;  // NOLINT: operator new needs it
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }                        // NOLINT
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }  // NOLINT

namespace cow::collectors {
namespace {

constexpr uint64_t kHeap = 0x10000000;
constexpr double kPage = 4096;

std::optional<double> Value(const std::vector<prometheus::MetricFamily>& families, const std::string& name) {
  for (const prometheus::MetricFamily& family : families) {
    if (family.name != name) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      const auto is_app = [](const auto& label) { return label.name == "group" && label.value == "app"; };
      if (std::any_of(metric.label.begin(), metric.label.end(), is_app)) return metric.gauge.value;
    }
  }
  return std::nullopt;
}

double Breaks(const std::vector<prometheus::MetricFamily>& families) {
  double sum = 0;
  for (const prometheus::MetricFamily& family : families) {
    if (family.name != "cow_breaks_total") continue;
    for (const prometheus::ClientMetric& metric : family.metric) sum += metric.counter.value;
  }
  return sum;
}

// When the pass fails, one member of a family has written, one has ended, one was forked, and an unrelated process has
// appeared. After the next pass gauges are exact, and no event is counted that did not happen.
TEST(EngineNoMemoryTest, TheNextPassIsAsGoodAsAny) {
  int failed = 0;
  bool fails = true;
  for (int number = 0; fails; number += 1 + number / 15) {
    test::FixtureHost host;
    host.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    host.Fork(100, 101);
    host.Fork(100, 102);
    host.Sync();
    EngineOptions options;
    options.collectors = {"cow", "faults", "sharing"};
    Engine engine(host.Root(), options);
    test::NoControl control;
    ASSERT_TRUE(engine.RunPass(control));
    host.At(101).SetPage(kHeap, 2000);
    ++host.At(101).minor_faults;
    host.Exit(102);
    host.Fork(100, 103, 300);
    host.Add(200).layout = 0x800000;
    host.Sync();
    left = number;
    try {
      engine.RunPass(control);
    } catch (const std::bad_alloc&) {
    }
    fails = left < 0;
    left = -1;
    failed += fails ? 1 : 0;
    ASSERT_TRUE(engine.RunPass(control)) << number;
    ASSERT_TRUE(engine.RunPass(control)) << number;
    const auto families = test::CollectDeclared(engine);
    EXPECT_EQ(Value(families, "cow_processes"), 4) << number;
    EXPECT_EQ(Value(families, "cow_families"), 1) << number;
    EXPECT_EQ(Value(families, "cow_exposure_bytes"), 15 * kPage) << number;
    EXPECT_EQ(Value(families, "cow_footprint_bytes"), 9 * kPage) << number;
    EXPECT_EQ(Value(families, "cow_scan_coverage_ratio"), 1) << number;
    EXPECT_LE(Breaks(families), 1) << number;
  }
  EXPECT_GT(failed, 30);
}

}  // namespace
}  // namespace cow::collectors
