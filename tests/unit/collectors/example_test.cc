// Checks that the example in collectors/README.md works. The build extracts its source from there.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/registry.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace cow::collectors {

std::unique_ptr<Collector> MakeStrangers(const CollectorContext& context);

namespace {

constexpr uint64_t kHeap = 0x10000000;
constexpr uint64_t kFar = 0x20000000;

TEST(ExampleTest, StrangersAreCounted) {
  test::FixtureHost host;
  host.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
  host.Fork(100, 101);
  host.At(100).MapPages(kFar, 4, 5000);
  test::FixtureProcess& stranger = host.Add(200);
  stranger.comm = "stranger";
  stranger.layout = 0x900000;
  stranger.MapPages(kFar, 3, 5001);
  host.Sync();
  EngineOptions options;
  options.collectors = {"strangers"};
  const std::vector<Registration> registry{{"strangers", "pages that strangers map", false, &MakeStrangers}};
  Engine engine(host.Root(), options, registry);
  test::NoControl control;
  ASSERT_TRUE(engine.RunPass(control));
  for (const prometheus::MetricFamily& family : test::CollectDeclared(engine)) {
    if (family.name != "cow_stranger_bytes") continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      if (metric.label.front().value == "app") {
        EXPECT_EQ(metric.gauge.value, 3 * test::kFixturePageBytes);
        return;
      }
    }
  }
  FAIL() << "not published";
}

}  // namespace
}  // namespace cow::collectors
