#include "collectors/memory/scan/departure.h"

#include <gtest/gtest.h>

#include <array>

namespace cow::memory {
namespace {

constexpr uint64_t kWindows = 100;

// Nothing that the departed member mapped is in these windows, so there is nothing to report between two of them.
TEST(DepartureTest, StopsBetweenWindowsWithoutAReport) {
  const Host host;
  Family family(1, host.geometry.PagesPerWindow(), Pfn::None(), nullptr);
  Member gone;
  gone.slot = MemberIndex(1);
  const std::array<SegmentTally, 1> tallies{};
  for (uint64_t window = 0; window < kWindows; ++window) {
    family.looks.Store(WindowIndex(window), MemberIndex(0), 1, tallies);
  }
  const std::array<Member*, 1> departed{&gone};
  Departure departure(host, family, departed);
  int asked = 0;
  EXPECT_FALSE(departure.Next([&asked] { return ++asked < 10; }));
  EXPECT_EQ(asked, 10);
  EXPECT_FALSE(departure.done());
  EXPECT_FALSE(departure.Next([] { return true; }));
  EXPECT_TRUE(departure.done());
}

}  // namespace
}  // namespace cow::memory
