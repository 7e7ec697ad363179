#include "collectors/memory/ledger/page.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/read/frame_reader.h"
#include "tests/support/fixture_process.h"

namespace cow::memory {
namespace {

std::vector<Pfn> Pfns(std::initializer_list<uint64_t> numbers) { return {numbers.begin(), numbers.end()}; }

TEST(PageTest, AnonFrameIsWhatForkCanShare) {
  constexpr Pfn kZero(7);
  const uint64_t present = procfs::kPagemapPresent;
  EXPECT_EQ(AnonFrame(PageEntry(present | 100), kZero), Pfn(100));
  EXPECT_EQ(AnonFrame(PageEntry(present | procfs::kPagemapMappedOnce | 100), kZero), Pfn(100));
  EXPECT_EQ(AnonFrame(PageEntry(present | kZero.number()), kZero), Pfn::None());
  EXPECT_EQ(AnonFrame(PageEntry(present | procfs::kPagemapFile | 100), kZero), Pfn::None());
  EXPECT_EQ(AnonFrame(PageEntry(procfs::kPagemapSwapped | 100), kZero), Pfn::None());
  EXPECT_EQ(AnonFrame(PageEntry(0), kZero), Pfn::None());
  EXPECT_EQ(AnonFrame(PageEntry(present), kZero), Pfn::None());
}

TEST(PageTest, HugeRunIsAlignedAndContiguous) {
  std::vector<PageEntry> entries(512);
  const auto fill = [&entries](uint64_t first) {
    for (uint64_t i = 0; i < entries.size(); ++i) entries[i] = PageEntry(procfs::kPagemapPresent | (first + i));
  };
  fill(1024);
  EXPECT_TRUE(IsHugeRun(entries));
  entries[100] = entries[100].Without(procfs::kPagemapPresent);
  EXPECT_FALSE(IsHugeRun(entries));
  fill(1024);
  entries[100] = PageEntry(procfs::kPagemapPresent | 5);
  EXPECT_FALSE(IsHugeRun(entries));
  fill(1025);
  EXPECT_FALSE(IsHugeRun(entries));
  EXPECT_FALSE(IsHugeRun(std::vector<PageEntry>(512)));
}

TEST(FrameFactsTest, AnswersWhatWasRead) {
  FrameFacts facts;
  EXPECT_FALSE(facts.Flags(Pfn(1)));
  EXPECT_FALSE(facts.IsExclusive(Pfn(1)));
  EXPECT_FALSE(facts.IsKsm(Pfn(1)));
  facts.Assign(Pfns({1, 2, 3}),
               {procfs::kFrameAnon, procfs::kFrameAnon | procfs::kFrameAnonExclusive, procfs::kFrameKsm}, {4, 5, 6});
  EXPECT_EQ(facts.IsExclusive(Pfn(1)), false);
  EXPECT_EQ(facts.IsExclusive(Pfn(2)), true);
  EXPECT_FALSE(facts.IsExclusive(Pfn(3)).has_value());
  EXPECT_TRUE(facts.IsKsm(Pfn(3)));
  EXPECT_EQ(facts.MapCount(Pfn(2)), 5U);
  EXPECT_FALSE(facts.MapCount(Pfn(4)));
  facts.Assign(Pfns({1}), {procfs::kFrameAnon}, {}, {.marks = ExclusiveMarks::kNone});
  EXPECT_FALSE(facts.IsExclusive(Pfn(1)).has_value());
  EXPECT_FALSE(facts.MapCount(Pfn(1)));
  facts.Clear();
  EXPECT_FALSE(facts.Flags(Pfn(1)));
}

TEST(FrameFactsTest, MarksOfSmallFoliosSayNothingOfLargeOnes) {
  constexpr uint64_t kMarked = procfs::kFrameAnon | procfs::kFrameAnonExclusive;
  FrameFacts facts;
  facts.Assign(Pfns({1, 2, 3}), {kMarked, kMarked | procfs::kFrameCompoundHead, procfs::kFrameAnon}, {},
               {.marks = ExclusiveMarks::kOfSmallFolios});
  EXPECT_EQ(facts.IsExclusive(Pfn(1)), true);
  EXPECT_FALSE(facts.IsExclusive(Pfn(2)).has_value());
  EXPECT_EQ(facts.IsExclusive(Pfn(3)), false);
}

TEST(FrameFactsTest, MergedWhereTheFlagCannotTell) {
  constexpr uint64_t kAll = procfs::kFrameAnon | procfs::kFrameKsm;
  const auto assign = [](FrameFacts& facts, bool may_be_merged) {
    facts.Assign(Pfns({1, 2, 3, 4}),
                 {kAll, kAll | procfs::kFrameAnonExclusive, kAll | procfs::kFrameCompoundTail, procfs::kFrameKsm}, {},
                 {.merged_flag = false}, may_be_merged);
  };
  FrameFacts facts;
  assign(facts, false);
  for (uint64_t frame = 1; frame < 5; ++frame) EXPECT_FALSE(facts.IsKsm(Pfn(frame))) << frame;
  assign(facts, true);
  EXPECT_TRUE(facts.IsKsm(Pfn(1))) << "not ruled out";
  EXPECT_FALSE(facts.IsKsm(Pfn(2))) << "exclusive";
  EXPECT_FALSE(facts.IsKsm(Pfn(3))) << "of a large folio";
  EXPECT_FALSE(facts.IsKsm(Pfn(4))) << "not anonymous";
  EXPECT_FALSE(facts.merged_known());
}

TEST(FrameFactsTest, CountOfAFolioIsNoPages) {
  FrameFacts facts;
  facts.Assign(Pfns({1, 2}), {procfs::kFrameAnon, procfs::kFrameAnon | procfs::kFrameCompoundTail}, {2, 2},
               {.page_counts = false});
  EXPECT_EQ(facts.MapCount(Pfn(1)), 2U);
  EXPECT_FALSE(facts.MapCount(Pfn(2)));
  EXPECT_FALSE(facts.IsCountedAsFolio(Pfn(1)));
  EXPECT_TRUE(facts.IsCountedAsFolio(Pfn(2)));
}

TEST(FrameReaderTest, ReadsBothFiles) {
  test::FixtureHost host;
  host.Add(10).MapPages(0x10000000, 2, 1000);
  host.Fork(10, 11).Drop(0x10000000);
  host.Sync();
  ScanCounters reader_counters;
  FrameReader reader(host.Root(), {}, 512, reader_counters);
  EXPECT_TRUE(reader.has_flags());
  EXPECT_TRUE(reader.has_counts());
  EXPECT_EQ(reader.SearchZeroFrame(host.Root(), 4096), Pfn(test::kFixtureZeroFrame));
  std::vector<Pfn> frames = Pfns({1001, 1000, 1001});
  FrameFacts facts;
  reader.Read(frames, true, facts);
  EXPECT_EQ(frames, Pfns({1000, 1001}));
  EXPECT_EQ(facts.MapCount(Pfn(1000)), 1U);
  EXPECT_EQ(facts.MapCount(Pfn(1001)), 2U);
  EXPECT_EQ(facts.IsExclusive(Pfn(1001)), false);
  reader.Read(frames, false, facts);
  EXPECT_FALSE(facts.MapCount(Pfn(1000)));
  EXPECT_EQ(reader_counters.frame_words, 6U);
}

// Frames 16 to 23 are a huge page with the mark on its first page. Frames 24 to 27 are one without it, but one of its
// pages has a mark. Frame 28 is a single page.
TEST(FrameReaderTest, PageOfAHugePageIsMarkedAsTheFirst) {
  constexpr uint64_t kPart = procfs::kFrameAnon | procfs::kFrameThp | procfs::kFrameCompoundTail;
  constexpr uint64_t kFirst = procfs::kFrameAnon | procfs::kFrameThp | procfs::kFrameCompoundHead;
  constexpr uint64_t kMark = procfs::kFrameAnonExclusive;
  std::vector<uint64_t> words(28, kPart);
  words[16] = kFirst | kMark;
  words[24] = kFirst;
  words[26] = kPart | kMark;
  words.push_back(procfs::kFrameAnon);
  const test::FixtureTree tree;
  tree.WriteWords("kpageflags", 0, words);
  const procfs::Root root(tree.path(), tree.path());
  for (const auto marks : {ExclusiveMarks::kOfThePage, ExclusiveMarks::kOfTheFolio}) {
    ScanCounters reader_counters;
    FrameReader reader(root, {.marks = marks}, 16, reader_counters);
    std::vector<Pfn> frames = Pfns({16, 17, 23, 24, 25, 26, 28});
    FrameFacts facts;
    reader.Read(frames, false, facts);
    const bool own = marks == ExclusiveMarks::kOfThePage;
    EXPECT_EQ(facts.IsExclusive(Pfn(16)), true);
    EXPECT_EQ(facts.IsExclusive(Pfn(17)), own) << "as the kernel shows it, where that is the folio's";
    EXPECT_EQ(facts.IsExclusive(Pfn(23)), own);
    EXPECT_EQ(facts.IsExclusive(Pfn(24)), false);
    EXPECT_EQ(facts.IsExclusive(Pfn(25)), false);
    EXPECT_EQ(facts.IsExclusive(Pfn(26)), true);
    EXPECT_EQ(facts.IsExclusive(Pfn(28)), false);
  }
  ScanCounters blind_counters;
  FrameReader blind(root, {.marks = ExclusiveMarks::kNone}, 16, blind_counters);
  std::vector<Pfn> frames = Pfns({16});
  FrameFacts facts;
  blind.Read(frames, false, facts);
  EXPECT_FALSE(facts.IsExclusive(Pfn(16)).has_value());
}

// The kernel may be loaded above the low memory.
TEST(FrameReaderTest, ZeroFrameIsFoundInTheKernelsImage) {
  constexpr uint64_t kFar = uint64_t{1} << 21;
  const test::FixtureTree tree;
  const procfs::Root root(tree.path(), tree.path());
  tree.WriteWords("kpageflags", kFar, std::vector<uint64_t>{0, procfs::kFrameZeroPage});
  ScanCounters reader_counters;
  FrameReader reader(root, {}, 512, reader_counters);
  EXPECT_EQ(reader.SearchZeroFrame(root, 65536), Pfn::None());
  tree.WriteFile("iomem", "2000000000-2000ffffff : System RAM\n  2000000000-200001ffff : Kernel bss\n");
  EXPECT_EQ(reader.SearchZeroFrame(root, 65536), Pfn(kFar + 1));
}

TEST(FrameReaderTest, FilesThatAreMissingAnswerNothing) {
  const test::FixtureTree tree;
  const procfs::Root root(tree.path(), tree.path());
  ScanCounters reader_counters;
  FrameReader reader(root, {}, 512, reader_counters);
  EXPECT_FALSE(reader.has_flags());
  EXPECT_EQ(reader.SearchZeroFrame(root, 4096), Pfn::None());
  std::vector<Pfn> frames = Pfns({1});
  FrameFacts facts;
  reader.Read(frames, true, facts);
  EXPECT_FALSE(facts.Flags(Pfn(1)));
  EXPECT_EQ(reader_counters.frame_words, 0U);
}

}  // namespace
}  // namespace cow::memory
