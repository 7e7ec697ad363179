#include "collectors/procfs/kpage.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

class KpageTest : public testing::Test {
 protected:
  KpageTest() {
    std::vector<uint64_t> words(kFrames);
    std::iota(words.begin(), words.end(), kBase);
    tree_.WriteWords("kpageflags", 0, words);
  }

  // Checks the words of `frames` and returns the number of reads.
  uint64_t Read(const std::vector<uint64_t>& frames) const {
    const auto file = KpageFile::OpenFlags(Root(tree_.path()));
    std::vector<uint64_t> words(frames.size(), 99);
    uint64_t reads = 0;
    const std::vector<Pfn> pfns(frames.begin(), frames.end());
    const auto read = file->Read(pfns, words, reads);
    EXPECT_TRUE(read);
    for (size_t i = 0; i < frames.size(); ++i) {
      EXPECT_EQ(words[i], frames[i] < kFrames ? kBase + frames[i] : 0) << frames[i];
    }
    return reads;
  }

  static constexpr uint64_t kFrames = 10000;
  static constexpr uint64_t kBase = 1000000;
  test::FixtureTree tree_;
};

TEST_F(KpageTest, JoinsNeighboursIntoOneRead) {
  EXPECT_EQ(Read({}), 0U);
  EXPECT_EQ(Read({7}), 1U);
  EXPECT_EQ(Read({7, 7, 8, 9, 20}), 1U);
  EXPECT_EQ(Read({7, 5000, 9999}), 3U);
}

TEST_F(KpageTest, LongRunsAreCut) {
  std::vector<uint64_t> frames(5000);
  std::iota(frames.begin(), frames.end(), 100);
  EXPECT_EQ(Read(frames), 10U);  // 512 words each
  for (uint64_t& frame : frames) frame = 100 + (frame - 100) * 3 / 2;
  EXPECT_LE(Read(frames), 16U);
}

TEST_F(KpageTest, FramesBeyondTheEndAreZero) {
  Read({9998, 9999, 10000, 10001});
  Read({10000});
  Read({5, uint64_t{1} << 55, uint64_t{1} << 60, ~uint64_t{0} - 1, ~uint64_t{0}});
}

TEST_F(KpageTest, EveryFrameOfARandomSetIsItsOwn) {
  uint64_t state = 1;
  std::vector<uint64_t> frames;
  for (uint64_t frame = 0; frame < kFrames + 100;) {
    frames.push_back(frame);
    state = state * 6364136223846793005U + 1442695040888963407U;
    frame += (state >> 33U) % 60;  // duplicates and gaps of all kinds
  }
  EXPECT_LT(Read(frames), frames.size());
}

TEST_F(KpageTest, Errors) {
  EXPECT_EQ(KpageFile::OpenCounts(Root(tree_.path())).error().kind, ErrorKind::kGone);
  tree_.MakeDirectory("kpagecount");
  const auto file = KpageFile::OpenCounts(Root(tree_.path()));
  ASSERT_TRUE(file);
  const std::vector<Pfn> frames{Pfn(1)};
  std::vector<uint64_t> words{0};
  uint64_t reads = 0;
  const auto read = file->Read(frames, words, reads);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kIo);
  EXPECT_EQ(read.error().path, tree_.Path("kpagecount"));
}

}  // namespace
}  // namespace cow::procfs
