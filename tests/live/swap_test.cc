// Real swap: pages shared by fork stay shared there and come back without a false break.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "tests/live/explained.h"
#include "tests/live/host.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;

class SwapTest : public LiveTest {
 protected:
  SwapTest()
      : area_(::testing::TempDir() + "/cow_live_swap" + std::to_string(getpid()), uint64_t{64} << 20U),
        cgroup_("cow_live" + std::to_string(getpid())) {}
  void SetUp() override {
    LiveTest::SetUp();
    if (IsSkipped()) return;
    for (const std::string& reason : {area_.why_not(), cgroup_.why_not()}) {
      if (!reason.empty()) GTEST_SKIP() << reason;
    }
    cgroup_.Add(workload().Pid());
  }
  // Returns the pages of the mapping that are in swap.
  size_t InSwap(int id, const std::string& name, size_t pages) {
    size_t swapped = 0;
    for (const uint64_t entry : ReadPagemap(workload().Pid(id), workload().Address(id, name), pages)) {
      swapped += (entry & kSwapped) != 0 ? 1U : 0U;
    }
    return swapped;
  }
  // Returns the swapped pages of all their mappings. (On older kernels VmSwap sums per-thread counters and lags.)
  size_t PagesInSwap(const std::vector<int>& ids) {
    size_t swapped = 0;
    for (const int id : ids) {
      for (const Area& area : ReadAreas(workload().Pid(id))) {
        const size_t pages = (area.end - area.start) / PageBytes();
        for (const uint64_t entry : ReadPagemap(workload().Pid(id), area.start, pages)) {
          swapped += (entry & kSwapped) != 0 ? 1U : 0U;
        }
      }
    }
    return swapped;
  }
  // Compares the kernel's sums of both members with the published values.
  void ExpectKernelsAccount(const Sample& sample, int child) {
    const AnonymousMemory memory = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
    EXPECT_EQ(sample.Pages(kExposure), static_cast<double>(memory.exposure_pages));
    EXPECT_EQ(sample.Pages(kFootprint), static_cast<double>(memory.footprint_pages));
    EXPECT_EQ(sample.At(kUnmatched), 0);
  }
  // Waits until all of it is in swap, on the other side too.
  bool SwapOut(const std::string& name, size_t pages, int child) {
    return ReclaimUntil([&] { return InSwap(0, name, pages) == pages && InSwap(child, name, pages) == pages; });
  }
  bool ReclaimUntil(const std::function<bool()>& done) const {
    for (int i = 0; i < 30; ++i) {
      cgroup_.Reclaim();
      if (done()) return true;
    }
    return false;
  }
  void Read(int id, const std::string& name, size_t first, size_t pages) {
    Do("read " + std::to_string(id) + " " + name + " " + std::to_string(first) + " " + std::to_string(pages));
  }

 private:
  SwapArea area_;
  ReclaimGroup cgroup_;
};

TEST_F(SwapTest, OutAndIn) {
  constexpr size_t kPages = 500;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  // Both have equal entries: the page is still shared, but not in RAM.
  const Sample out = Pass();
  ExpectNoVerdict(Change(before, out));
  EXPECT_GE(out.Pages("cow_swapped_bytes"), 2 * kPages);
  EXPECT_EQ(out.Pages("cow_swapped_bytes"), static_cast<double>(PagesInSwap({0, child})));
  EXPECT_LE(Change(before, out).Pages(kExposure), -static_cast<double>(kPages));
  ExpectKernelsAccount(out, child);
  const double unresolved = out.Pages(kUnresolved);
  // One process has read the pages back into RAM; whether the other will get the same ones is unknown.
  Read(child, "a", 0, kPages);
  ASSERT_EQ(InSwap(0, "a", kPages), kPages);
  const Sample half = Pass();
  ExpectNoVerdict(Change(before, half));
  EXPECT_GE(half.Pages(kUnresolved), kPages);
  EXPECT_LE(half.Pages(kUnresolved), kPages + unresolved);
  ExpectKernelsAccount(half, child);
  Read(0, "a", 0, kPages);
  ASSERT_EQ(InSwap(0, "a", kPages), 0U);
  const Sample back = Pass();
  ExpectNoVerdict(Change(before, back));
  EXPECT_LE(back.Pages(kUnresolved), unresolved);
  EXPECT_GE(Change(half, back).Pages(kExposure), kPages);
  ExpectKernelsAccount(back, child);
  Write(child, "a", 0, 30);
  Write(0, "a", 100, 20);
  const Sample after = Pass();
  EXPECT_EQ(Change(back, after).Pages(kAnonBreaks), 50);
  ExpectKernelsAccount(after, child);
}

TEST_F(SwapTest, ExplainedWithWhomItIsSharedThere) {
  constexpr size_t kPages = 300;
  const int child = ForkOver("a", kPages);
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  explain::Explainer explainer{procfs::Root()};
  const explain::Portrait portrait = Explained(explainer, workload().Pid(child));
  EXPECT_EQ(RunsAt(portrait, workload().Address(child, "a"), kPages),
            "swapped(" + std::to_string(workload().Pid()) + ") 300");
}

// A write to a swapped page brings it in and copies it. When its partner's page is back too, the frames differ and
// neither is the old one: only the end of the sharing is known. cow_kernel_copies_total counts the copy.
TEST_F(SwapTest, WrittenInSwapIsNoBreak) {
  constexpr size_t kPages = 400;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  const Sample out = Pass();
  Write(child, "a", 0, 100);
  const Sample written = Pass();
  ExpectNoVerdict(Change(before, written));
  EXPECT_GE(written.Pages(kUnresolved), 100);
  EXPECT_LE(written.Pages(kUnresolved), 100 + out.Pages(kUnresolved) + kIdleStackPages);
  Read(0, "a", 0, kPages);
  Read(child, "a", 0, kPages);
  const Sample back = Pass();
  EXPECT_EQ(Change(before, back).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, back).Pages(Unshared("unknown")), 100);
  EXPECT_EQ(Change(before, back).UnsharedPages(), 100);
  EXPECT_EQ(Change(before, back).Pages(kUnattributed), 0);
  ExpectKernelsAccount(back, child);
}

// Out, back, and written between two looks: the mark of a forked page shows which process has the original.
TEST_F(SwapTest, WrittenAfterItCameBackIsABreak) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  constexpr size_t kPages = 400;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  Read(0, "a", 0, kPages);
  Read(child, "a", 0, kPages);
  Write(child, "a", 0, 100);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 100);
  EXPECT_EQ(Change(before, after).Of(kUnknownBreaks), 0);
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
  ExpectKernelsAccount(after, child);
}

// MADV_PAGEOUT swaps private pages out and skips pages that a relative maps too.
TEST_F(SwapTest, PageOutLeavesSharedPagesAlone) {
  const int child = ForkOver("a", 400);
  Write(child, "a", 0, 100);
  const Sample before = Pass();
  Do("madvise " + std::to_string(child) + " a 21 0 400");  // MADV_PAGEOUT
  // All pages except those in per-CPU batches.
  const auto pages_out = static_cast<double>(InSwap(child, "a", 400));
  ASSERT_GE(pages_out, 36);
  ASSERT_LE(pages_out, 100);
  const Sample out = Pass();
  ExpectNoVerdict(Change(before, out));
  EXPECT_EQ(out.Pages("cow_swapped_bytes"), pages_out);
  EXPECT_EQ(Change(before, out).Pages(kExposure), 0);
  EXPECT_EQ(Change(before, out).Pages(kFootprint), -pages_out);
  Read(child, "a", 0, 400);
  const Sample back = Pass();
  ExpectNoVerdict(Change(before, back));
  EXPECT_EQ(Change(before, back).Pages(kExposure), 0);
  EXPECT_EQ(Change(before, back).Pages(kFootprint), 0);
  EXPECT_EQ(back.At(kUnresolved), 0);
}

// Under memory pressure the kernel frees MADV_FREE pages without swap: the child's private pages.
TEST_F(SwapTest, LazilyFreedPagesGoUnderPressure) {
  const int child = ForkOver("a", 400);
  Write(child, "a", 0, 100);
  const Sample before = Pass();
  Do("madvise " + std::to_string(child) + " a 8 0 400");  // MADV_FREE
  const Sample freed = Pass();
  ExpectNoVerdict(Change(before, freed));
  EXPECT_EQ(Change(before, freed).Pages(kFootprint), 0) << "still there";
  // Pages in per-CPU batches are not marked as lazily freed: they go to swap.
  constexpr size_t kBatches = 64;
  ASSERT_TRUE(ReclaimUntil([&] {
    const auto entries = ReadPagemap(workload().Pid(child), workload().Address(child, "a"), 100);
    return std::none_of(entries.begin(), entries.end(), [](uint64_t entry) { return (entry & kPresent) != 0; });
  })) << "the kernel did not reclaim";
  EXPECT_LE(InSwap(child, "a", 100), kBatches);
  const Sample out = Pass();
  ExpectNoVerdict(Change(before, out));
  Write(child, "a", 0, 100);
  const Sample after = Pass();
  ExpectNoVerdict(Change(before, after));
  ExpectKernelsAccount(after, child);
}

// Ends while its pages are in swap.
TEST_F(SwapTest, ExitWhileInSwap) {
  constexpr size_t kPages = 300;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  const Sample out = Pass();
  Do("kill " + std::to_string(child));
  const Sample after = Pass();
  // Swapped pages were not exposure and do not count as given back.
  EXPECT_EQ(Change(out, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(out, after).Pages(Unshared("exit")), out.Pages(kExposure));
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(after.At(kUnresolved), 0);
  Read(0, "a", 0, kPages);
  Write(0, "a", 0, kPages);
  const Sample back = Pass();
  EXPECT_EQ(Change(before, back).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, back).Pages(kUnattributed), 0);
  EXPECT_EQ(back.At(kExposure), 0);
  EXPECT_EQ(back.At(kUnmatched), 0);
}

}  // namespace
}  // namespace cow::live
