// How much is read: no page of what nobody can share, and no hole.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>

#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr size_t kTebibytePages = size_t{1} << 28;

class CostTest : public LiveTest {
 protected:
  explicit CostTest(std::chrono::minutes full_every = std::chrono::minutes(0)) : LiveTest(full_every) {}

  struct Reads {
    double pages = std::numeric_limits<double>::infinity();  // of pagemap
    double calls = std::numeric_limits<double>::infinity();  // of PAGEMAP_SCAN

    void TakeLeast(double other_pages, double other_calls) {
      pages = std::min(pages, other_pages);
      calls = std::min(calls, other_calls);
    }
  };

  // What a pass reads of the whole host; the least of several, as other processes come and go.
  Reads ReadsOfAPass() {
    Reads least;
    Sample before = Pass();
    for (int i = 0; i < 4; ++i) {
      const Sample after = Pass();
      const Change change(before, after);
      least.TakeLeast(change.Of("cow_scan_pages_total"), change.Of("cow_scan_calls_total{file=pagemap_scan}"));
      before = after;
    }
    return least;
  }

  // What a pass reads more after `make`. Others can blur that by thousands of pages, but not each time.
  Reads AddedBy(const Reads& enough, const std::function<void()>& make, const std::function<void()>& undo) {
    Reads least;
    for (int round = 0; round < 5 && (least.pages > enough.pages || least.calls > enough.calls); ++round) {
      if (round != 0) undo();
      const Reads without = ReadsOfAPass();
      make();
      const Reads with = ReadsOfAPass();
      least.TakeLeast(with.pages - without.pages, with.calls - without.calls);
    }
    std::printf("a pass read %.0f pages more, and called PAGEMAP_SCAN %.0f times more\n", least.pages, least.calls);
    EXPECT_LE(least.pages, enough.pages);
    EXPECT_LE(least.calls, enough.calls);
    return least;
  }
};

TEST_F(CostTest, MemoryOfALonelyProcessIsNotWalked) {
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  workload().Map(0, "a", 65536);  // 256 MiB
  AddedBy(
      {512, 16}, [this] { Do("write 0 a 0 65536"); }, [this] { Do("dontneed 0 a 0 65536"); });
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid()});
  EXPECT_EQ(Pass().Pages("cow_footprint_bytes"), static_cast<double>(memory.footprint_pages));
}

TEST_F(CostTest, HolesOfALonelyProcessCostNothing) {
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  int round = 0;
  const auto make = [&] {
    const std::string number = std::to_string(++round);
    workload().Map(0, "none" + number, kTebibytePages, "none");
    workload().Map(0, "big" + number, kTebibytePages, "noreserve");
    Do("write 0 big" + number + " 12345 10 1000000");
  };
  const auto undo = [&] {
    for (const char* name : {"none", "big"}) {
      Do("unmap 0 " + std::string(name) + std::to_string(round) + " 0 " + std::to_string(kTebibytePages));
    }
  };
  AddedBy({.pages = 512, .calls = 200}, make, undo);
}

TEST_F(CostTest, HolesOfAFamilyCostLittle) {
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  workload().Map(0, "a", 1000);
  workload().Map(0, "none", kTebibytePages, "none");
  workload().Map(0, "big", kTebibytePages, "noreserve");
  Do("write 0 a 0 1000");
  Do("write 0 big 12345 10 1000000");
  int child = 0;
  const auto make = [&] {
    child = Fork();
    Idle(0);
    Idle(child);
  };
  AddedBy({.pages = 16384, .calls = 600}, make, [&] { Do("kill " + std::to_string(child)); });
  // The few pages that are there are seen.
  const Sample before = Pass();
  Do("write " + std::to_string(child) + " big 12345 10 1000000");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 10);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -10);
}

class UnchangedCostTest : public CostTest {
 protected:
  UnchangedCostTest() : CostTest(std::chrono::minutes(60)) {}
};

TEST_F(UnchangedCostTest, OnlyWhatChangedIsRead) {
  constexpr size_t kPages = 65536;
  constexpr size_t kMembers = 4;
  workload().Map(0, "a", kPages);
  Do("write 0 a 0 " + std::to_string(kPages));
  const std::string child = std::to_string(Fork());
  for (size_t member = 2; member < kMembers; ++member) Idle(Fork());
  Idle(0);
  Idle(std::stoi(child));
  const Sample before = Pass();
  const Reads unchanged = ReadsOfAPass();
  std::printf("a pass read %.0f pages of the whole host\n", unchanged.pages);
  EXPECT_LT(unchanged.pages, kMembers * kPages / 2) << "the family alone has twice as many";
  const Sample skipped = Pass();
  EXPECT_EQ(skipped.At(kExposure), before.At(kExposure));
  EXPECT_EQ(skipped.At("cow_scan_coverage_ratio"), 1);
  EXPECT_GT(skipped.At("cow_scan_timestamp_seconds"), before.At("cow_scan_timestamp_seconds"));
  EXPECT_EQ(skipped.At("cow_processes"), kMembers);

  // The smallest changes are seen.
  Do("write " + child + " a 5 1");
  const Sample written = Pass();
  EXPECT_EQ(Change(skipped, written).Of(kChildBreaks), 1);
  Do("dontneed " + child + " a 9 1");
  const Sample dropped = Pass();
  EXPECT_EQ(Change(written, dropped).Pages(kExposure), -1);
  Do("write 0 a 100 1");
  const Sample by_parent = Pass();
  EXPECT_EQ(Change(dropped, by_parent).Of(kParentBreaks), 1);
  Do("kill " + child);
  EXPECT_EQ(Pass().At("cow_processes"), kMembers - 1);
}

}  // namespace
}  // namespace cow::live
