#include "collectors/procfs/pagemap.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "collectors/procfs/pagemap_scan.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

TEST(PagemapTest, ReadsWordsAtPageNumbers) {
  const test::FixtureTree tree;
  tree.WriteWords("42/pagemap", 1000, std::array<uint64_t, 3>{kPagemapPresent | 7, 0, kPagemapSwapped});
  const auto pagemap = Pagemap::Open(Root(tree.path()), 42);
  ASSERT_TRUE(pagemap) << pagemap.error().ToString();
  std::vector<PageEntry> entries(5, PageEntry(99));
  const auto read = pagemap->Read(PageNumber(999), entries);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(entries, (std::vector<PageEntry>{PageEntry(), PageEntry(kPagemapPresent | 7), PageEntry(),
                                             PageEntry(kPagemapSwapped), PageEntry()}));
  EXPECT_TRUE(pagemap->Alive());
  EXPECT_EQ(pagemap->path(), tree.Path("42/pagemap"));
  EXPECT_TRUE(pagemap->Read(PageNumber(0), {}));
}

TEST(PagemapTest, PagesAboveTheLastAddressAreZero) {
  const test::FixtureTree tree;
  tree.WriteWords("42/pagemap", 0, std::array<uint64_t, 1>{1});
  const auto pagemap = Pagemap::Open(Root(tree.path()), 42);
  ASSERT_TRUE(pagemap);
  for (const uint64_t page :
       {uint64_t{1}, 0xffffffffff600000U / 4096, (uint64_t{1} << 60) - 2, uint64_t{1} << 60, ~uint64_t{0}}) {
    std::vector<PageEntry> entries(4, PageEntry(99));
    const auto read = pagemap->Read(PageNumber(page), entries);
    ASSERT_TRUE(read) << read.error().ToString();
    EXPECT_EQ(entries, std::vector<PageEntry>(4)) << page;
  }
  EXPECT_TRUE(pagemap->Alive());
}

TEST(PagemapTest, CutEntryIsZero) {
  const test::FixtureTree tree;
  tree.WriteWords("42/pagemap", 0, std::array<uint64_t, 2>{1, ~uint64_t{0}});
  tree.SetSize("42/pagemap", 12);
  const auto pagemap = Pagemap::Open(Root(tree.path()), 42);
  std::vector<PageEntry> entries(3, PageEntry(99));
  ASSERT_TRUE(pagemap->Read(PageNumber(0), entries));
  EXPECT_EQ(entries, (std::vector<PageEntry>{PageEntry(1), PageEntry(), PageEntry()}));
}

TEST(PagemapTest, NoEntryAtAllIsGone) {
  const test::FixtureTree tree;
  tree.WriteFile("42/pagemap", "");
  const auto pagemap = Pagemap::Open(Root(tree.path()), 42);
  ASSERT_TRUE(pagemap);
  std::array<PageEntry, 2> entries{};
  const auto read = pagemap->Read(PageNumber(5), entries);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kGone);
  EXPECT_EQ(read.error().path, tree.Path("42/pagemap"));
  EXPECT_FALSE(pagemap->Alive());
}

TEST(PagemapTest, OpenAndReadErrors) {
  const test::FixtureTree tree;
  EXPECT_EQ(Pagemap::Open(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  tree.MakeDirectory("42/pagemap");
  const auto pagemap = Pagemap::Open(Root(tree.path()), 42);
  ASSERT_TRUE(pagemap);
  std::array<PageEntry, 1> entries{};
  EXPECT_EQ(pagemap->Read(PageNumber(0), entries).error().kind, ErrorKind::kIo);
  EXPECT_TRUE(pagemap->Alive()) << "a read that fails is no end";
}

TEST(PagemapTest, RealSwapIsNeitherMarkerNorMigration) {
  EXPECT_TRUE(PageEntry(kPagemapSwapped | (uint64_t{100} << 5)).IsRealSwap());
  EXPECT_TRUE(PageEntry(kPagemapSwapped | kPagemapSoftDirty | 21).IsRealSwap());
  EXPECT_FALSE(PageEntry(kPagemapSwapped | 22).IsRealSwap());
  EXPECT_FALSE(PageEntry(kPagemapSwapped | 31).IsRealSwap());
  EXPECT_FALSE(PageEntry(kPagemapSwapped | kPagemapGuard).IsRealSwap());
  EXPECT_FALSE(PageEntry(kPagemapPresent | 3).IsRealSwap());
  EXPECT_FALSE(PageEntry(0).IsRealSwap());
}

TEST(PagemapTest, MarkersHoldNoPage) {
  EXPECT_TRUE(PageEntry(kPagemapSwapped | (uint64_t{1} << 5) | 31).IsMarker()) << "write-protected by userfaultfd";
  EXPECT_TRUE(PageEntry(kPagemapSwapped | kPagemapGuard | (uint64_t{4} << 5) | 31).IsMarker());
  EXPECT_TRUE(PageEntry(kPagemapSwapped | (uint64_t{4} << 5) | 31).IsMarker()) << "a guard before Linux 6.15";
  EXPECT_FALSE(PageEntry(kPagemapSwapped | (uint64_t{0x12345} << 5) | 31).IsMarker()) << "a frame: Linux before 5.19";
  EXPECT_FALSE(PageEntry(kPagemapSwapped | (uint64_t{1} << 5) | 30).IsMarker());
  EXPECT_FALSE(PageEntry(kPagemapSwapped | (uint64_t{1} << 5)).IsMarker());
  EXPECT_FALSE(PageEntry(kPagemapPresent | 63).IsMarker());
  EXPECT_FALSE(PageEntry(0).IsMarker());
}

TEST(PagemapScanTest, IsUnavailableOnAFixture) {
  const test::FixtureTree tree;
  EXPECT_FALSE(PagemapScan::Probe(Root(tree.path()), {}).available());
  tree.WriteWords("self/pagemap", 0, std::array<uint64_t, 1>{1});
  tree.WriteWords("42/pagemap", 0, std::array<uint64_t, 1>{1});
  const PagemapScan scan = PagemapScan::Probe(Root(tree.path()), {});
  EXPECT_FALSE(scan.available());
  EXPECT_FALSE(scan.Supports(kScanPresent));

  const auto pagemap = Pagemap::Open(Root(tree.path()), 42);
  std::vector<ScanRegion> regions;
  uint64_t calls = 0;
  const auto scanned = scan.Scan(*pagemap, {0, 4096, kScanPresent, kScanPresent}, 4096, regions, calls, [] {});
  ASSERT_FALSE(scanned);
  EXPECT_EQ(scanned.error().error_number, ENOTTY);
  EXPECT_EQ(scanned.error().kind, ErrorKind::kIo);
}

}  // namespace
}  // namespace cow::procfs
