// Pages in swap, really: what fork shares stays shared there, and comes back without a false break.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "tests/live/host.h"
#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr int kPageOut = 21;
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
  // Pages of the mapping that are in swap.
  size_t InSwap(int id, const std::string& name, size_t pages) {
    size_t swapped = 0;
    for (const uint64_t entry : ReadPagemap(workload().Pid(id), workload().Address(id, name), pages)) {
      swapped += (entry & kSwapped) != 0 ? 1U : 0U;
    }
    return swapped;
  }
  // Until all of it is in swap, on the child's side too.
  bool SwapOut(const std::string& name, size_t pages, int child) {
    for (int i = 0; i < 30; ++i) {
      cgroup_.Reclaim();
      if (InSwap(0, name, pages) == pages && InSwap(child, name, pages) == pages) return true;
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
  // Equal entries in both: the page is still shared, but not in RAM.
  const Sample out = Pass();
  ExpectNoVerdict(Change(before, out));
  EXPECT_GE(out.Pages("cow_swapped_bytes"), 2 * kPages);
  EXPECT_LE(Change(before, out).Pages(kExposure), -static_cast<double>(kPages));
  EXPECT_EQ(out.At(kUnmatched), 0);
  // A member that comes to have them in RAM again by reading: not known yet to be the partner's too.
  Read(child, "a", 0, kPages);
  const Sample half = Pass();
  ExpectNoVerdict(Change(before, half));
  const auto childs = static_cast<double>(kPages - InSwap(child, "a", kPages));
  const auto parents = static_cast<double>(kPages - InSwap(0, "a", kPages));
  EXPECT_EQ(childs, kPages);
  EXPECT_GE(half.Pages(kUnresolved), childs - parents);
  EXPECT_EQ(half.At(kUnmatched), 0);
  Read(0, "a", 0, kPages);
  const Sample back = Pass();
  ExpectNoVerdict(Change(before, back));
  std::printf("exposure %.0f before, %.0f out, %.0f half, %.0f back; unresolved %.0f, %.0f, %.0f\n",
              before.Pages(kExposure), out.Pages(kExposure), half.Pages(kExposure), back.Pages(kExposure),
              out.Pages(kUnresolved), half.Pages(kUnresolved), back.Pages(kUnresolved));
  EXPECT_EQ(InSwap(0, "a", kPages), 0U);
  EXPECT_GE(back.Pages(kExposure), kPages);
  Write(child, "a", 0, 30);
  Write(0, "a", 100, 20);
  const Sample after = Pass();
  EXPECT_EQ(Change(back, after).Pages(kAnonBreaks), 50);
  EXPECT_EQ(Change(back, after).UnsharedPages(), 0);
}

// A write to a page in swap brings it in and copies it. Page tables show a page that came back with another frame.
TEST_F(SwapTest, WrittenInSwap) {
  constexpr size_t kPages = 400;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  const Sample out = Pass();
  Write(child, "a", 0, 100);
  const Sample written = Pass();
  Read(0, "a", 0, kPages);
  Read(child, "a", 0, kPages);
  const Sample back = Pass();
  std::printf("written: breaks %.0f unshared %.0f unresolved %.0f; back: breaks %.0f unshared %.0f unknown %.0f\n",
              Change(before, written).BreaksOfAllSides(), Change(before, written).UnsharedPages(),
              written.Pages(kUnresolved), Change(before, back).BreaksOfAllSides(), Change(before, back).UnsharedPages(),
              Change(before, back).Pages(Unshared("unknown")));
  EXPECT_EQ(Change(out, back).BreaksOfAllSides(), 0);
}

// Swapped out and written between two looks.
TEST_F(SwapTest, OutAndWrittenBetweenTwoLooks) {
  constexpr size_t kPages = 400;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_TRUE(SwapOut("a", kPages, child)) << "the kernel did not reclaim";
  Read(0, "a", 0, kPages);
  Read(child, "a", 0, kPages);
  Write(child, "a", 0, 100);
  const Sample after = Pass();
  std::printf("breaks %.0f (child %.0f, unknown %.0f), unshared %.0f, unresolved %.0f\n",
              Change(before, after).BreaksOfAllSides(), Change(before, after).Of(kChildBreaks),
              Change(before, after).Of(kUnknownBreaks), Change(before, after).UnsharedPages(),
              after.Pages(kUnresolved));
}

// MADV_PAGEOUT leaves alone what a relative maps too, and takes what is private.
TEST_F(SwapTest, PageOutOfPrivatePages) {
  const int child = ForkOver("a", 400);
  Write(child, "a", 0, 100);
  const Sample before = Pass();
  Do("madvise " + std::to_string(child) + " a " + std::to_string(kPageOut) + " 0 400");
  const Sample out = Pass();
  std::printf("%zu in swap\n", InSwap(child, "a", 400));
  ExpectNoVerdict(Change(before, out));
  EXPECT_EQ(out.Pages("cow_swapped_bytes"), static_cast<double>(InSwap(child, "a", 400)));
  Read(child, "a", 0, 400);
  const Sample back = Pass();
  ExpectNoVerdict(Change(before, back));
  EXPECT_EQ(Change(before, back).Pages(kExposure), 0);
  EXPECT_EQ(back.At(kUnresolved), 0);
}

}  // namespace
}  // namespace cow::live
