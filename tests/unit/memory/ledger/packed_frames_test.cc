#include "collectors/memory/ledger/packed_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace cow::memory {
namespace {

constexpr size_t kPages = 512;
constexpr uint64_t kBeyond = uint64_t{1} << 32U;  // the first frame number with more than 32 bits

class PackedFramesTest : public testing::Test {
 protected:
  void Set(size_t page, uint64_t frame) {
    frames_[page] = Pfn(frame);
    recorded_.Set(page);
  }
  void SetRun(size_t page, uint64_t frame, size_t count) {
    for (size_t i = 0; i < count; ++i) Set(page + i, frame + i);
  }
  // No two frames are consecutive.
  void SetScattered(size_t first, size_t count, uint64_t frame) {
    for (size_t i = 0; i < count; ++i) Set(first + i, frame + 3 * i);
  }

  // Returns the bytes it takes. Checks that unpacking restores all frames.
  uint64_t Bytes() const {
    const PackedFrames packed(frames_, recorded_);
    std::vector<Pfn> unpacked(frames_.size(), Pfn(1));
    packed.Unpack(recorded_, unpacked);
    EXPECT_EQ(unpacked, frames_);
    return packed.HeapBytes();
  }

  std::vector<Pfn> frames_ = std::vector<Pfn>(kPages);
  WindowBitmap recorded_ = WindowBitmap(kPages);
};

TEST_F(PackedFramesTest, NothingTakesNothing) { EXPECT_EQ(Bytes(), 0U); }

TEST_F(PackedFramesTest, ScatteredFramesTakeFourBytesEach) {
  SetScattered(0, kPages, 1000);
  EXPECT_EQ(Bytes(), 4 * kPages);
}

TEST_F(PackedFramesTest, PagesThatAreNotRecordedTakeNothing) {
  for (size_t page = 0; page < kPages; page += 10) Set(page, 5000 - page);
  EXPECT_EQ(Bytes(), 4 * 52U);
}

TEST_F(PackedFramesTest, HugePageTakesEightBytes) {
  SetRun(0, kPages * 77, kPages);
  EXPECT_EQ(Bytes(), 8U);
}

TEST_F(PackedFramesTest, HugePageWithHolesIsStillOneRun) {
  SetRun(0, kPages * 77, kPages);
  for (const size_t page : {size_t{0}, size_t{1}, size_t{63}, size_t{200}, kPages - 1}) {
    frames_[page] = Pfn::None();
    recorded_.Clear(page);
  }
  EXPECT_EQ(Bytes(), 8U);
}

TEST_F(PackedFramesTest, RunsAreKeptWhereTheyTakeLess) {
  for (size_t run = 0; run < 64; ++run) SetRun(run * 8, 100000 - run * 100, 8);
  EXPECT_EQ(Bytes(), 8 * 64U);
  SetScattered(0, 400, 1000);
  EXPECT_EQ(Bytes(), 4 * kPages);
}

TEST_F(PackedFramesTest, LastFrameOfThirtyTwoBitsIsNarrow) {
  SetScattered(0, kPages, 1000);
  Set(9, kBeyond - 1);
  EXPECT_EQ(Bytes(), 4 * kPages);
}

TEST_F(PackedFramesTest, FramesBeyondThirtyTwoBitsTakeEightBytes) {
  SetScattered(0, kPages, 1000);
  Set(9, kBeyond);
  EXPECT_EQ(Bytes(), 8 * kPages);
}

TEST_F(PackedFramesTest, RunAcrossThirtyTwoBitsIsOne) {
  SetRun(0, kBeyond - 100, kPages);
  EXPECT_EQ(Bytes(), 12U);
}

TEST_F(PackedFramesTest, LargestFrameIsKept) {
  Set(3, procfs::kPagemapFrameMask);
  Set(4, procfs::kPagemapFrameMask);
  EXPECT_EQ(Bytes(), 16U);
}

TEST_F(PackedFramesTest, WindowsOfOtherSizes) {
  for (const size_t pages : {size_t{32}, size_t{100}, size_t{8192}}) {
    frames_.assign(pages, Pfn::None());
    recorded_.Reset(pages);
    SetRun(0, 300, pages);
    EXPECT_EQ(Bytes(), 8U) << pages;
    SetScattered(0, pages, 300);
    EXPECT_EQ(Bytes(), 4 * pages) << pages;
  }
}

TEST_F(PackedFramesTest, RandomMixturesTakeAtMostWhatSingleFramesDo) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    frames_.assign(kPages, Pfn::None());
    recorded_.Reset(kPages);
    const uint64_t limit = uint64_t{1} << (20 + random() % 30);
    for (uint64_t runs = random() % 40; runs > 0; --runs) {
      const size_t first = random() % kPages;
      SetRun(first, 1 + random() % limit, std::min<size_t>(kPages - first, 1 + random() % 64));
    }
    const bool wide = std::any_of(frames_.begin(), frames_.end(), [](Pfn frame) { return frame.number() >= kBeyond; });
    EXPECT_LE(Bytes(), (wide ? 8 : 4) * recorded_.Count()) << "round " << round;
  }
}

}  // namespace
}  // namespace cow::memory
