// Facts about page tables of the running kernel on which verdicts rest. If kernels differ, the expectation follows the
// result of the probe, as the verdicts do. Version numbers prove nothing, because distributions backport.
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "collectors/memory/read/kernel_probe.h"
#include "collectors/procfs/kpage.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/statm.h"
#include "collectors/procfs/system.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

constexpr uint64_t kPresent = procfs::kPagemapPresent;
constexpr uint64_t kFile = procfs::kPagemapFile;
constexpr uint64_t kOnce = procfs::kPagemapMappedOnce;
constexpr int kMadviseGuardInstall = 102;

class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  }

  void Do(const std::string& command) { workload_.Do(command); }
  // Maps memory of the root and writes to it.
  void MapWritten(const std::string& name, size_t pages, std::string_view kind = "nohuge") {
    workload_.Map(0, name, pages, kind);
    Do("write 0 " + name + " 0 " + std::to_string(pages));
  }
  int Fork() { return workload_.Fork().id; }
  void Write(int id, const std::string& name, size_t first, size_t count = 1) {
    Do("write " + std::to_string(id) + " " + name + " " + std::to_string(first) + " " + std::to_string(count));
  }
  std::vector<uint64_t> Entries(int id, const std::string& name, size_t pages) {
    return ReadPagemap(workload_.Pid(id), workload_.Address(id, name), pages);
  }
  uint64_t Entry(int id, const std::string& name, size_t page) { return Entries(id, name, page + 1).at(page); }

  static uint64_t Frame(uint64_t entry) { return entry & procfs::kPagemapFrameMask; }
  uint64_t FlagsOf(uint64_t entry) const { return Word(procfs::KpageFile::OpenFlags(root_), Frame(entry)); }
  uint64_t MapCountOf(uint64_t entry) const { return Word(procfs::KpageFile::OpenCounts(root_), Frame(entry)); }
  bool IsExclusive(uint64_t entry) const { return (FlagsOf(entry) & procfs::kFrameAnonExclusive) != 0; }

  const procfs::Root root_{"/proc"};
  const procfs::PageGeometry geometry_{PageBytes(), HugePageBytes()};
  const procfs::PagemapScan scan_ = procfs::PagemapScan::Probe(root_, geometry_);
  const memory::KernelFacts facts_ = memory::ProbeKernel(root_, geometry_, scan_);
  testing::Workload workload_;

 private:
  static uint64_t Word(const Result<procfs::KpageFile>& file, uint64_t number) {
    const Pfn frame(number);
    uint64_t word = 0;
    uint64_t reads = 0;
    if (!file || !file->Read({&frame, 1}, {&word, 1}, reads)) throw std::runtime_error("can't read kpage files");
    return word;
  }
};

TEST_F(KernelTest, ZeroPageLooksLikeSharedAnonymousMemory) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  workload_.Map(0, "z", 2);
  Do("read 0 z 0 2");
  for (const uint64_t entry : Entries(0, "z", 2)) {
    EXPECT_EQ(entry & (kPresent | kFile | kOnce), kPresent);
    EXPECT_EQ(Pfn(Frame(entry)), procfs::FindZeroPageFrame(root_, {PageBytes(), HugePageBytes()}));
    EXPECT_NE(FlagsOf(entry) & procfs::kFrameZeroPage, 0U);
  }
}

TEST_F(KernelTest, HugeZeroPageLooksLikeSharedFileMemory) {
  if (const std::string reason = WhyNoHugeZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  workload_.Map(0, "z", window, "huge");
  Do("read 0 z 0 1");
  const std::vector<uint64_t> entries = Entries(0, "z", window);
  for (size_t page = 0; page < window; ++page) {
    ASSERT_EQ(entries[page] & (kPresent | kFile | kOnce), kPresent | kFile) << page;
    ASSERT_EQ(Frame(entries[page]), Frame(entries[0]) + page);
    ASSERT_NE(FlagsOf(entries[page]) & procfs::kFrameZeroPage, 0U) << page;
  }
}

TEST_F(KernelTest, AnonymousPageBeforeAndAfterTheFork) {
  MapWritten("a", 2);
  const uint64_t alone = Entry(0, "a", 0);
  EXPECT_EQ(alone & (kPresent | kFile | kOnce), kPresent | kOnce);
  EXPECT_EQ(MapCountOf(alone), 1U);
  EXPECT_TRUE(IsExclusive(alone));
  const int child = Fork();
  for (const int id : {0, child}) {
    const uint64_t shared = Entry(id, "a", 0);
    EXPECT_EQ(Frame(shared), Frame(alone));
    EXPECT_EQ(shared & (kPresent | kFile | kOnce), kPresent);
    EXPECT_EQ(MapCountOf(shared), 2U);
    EXPECT_FALSE(IsExclusive(shared)) << "fork clears the mark";
  }
}

TEST_F(KernelTest, CopyIsExclusiveAndTheOriginalIsNot) {
  MapWritten("a", 2);
  const uint64_t before = Entry(0, "a", 0);
  const int child = Fork();
  Write(child, "a", 0);
  const uint64_t original = Entry(0, "a", 0);
  const uint64_t copy = Entry(child, "a", 0);
  EXPECT_EQ(Frame(original), Frame(before));
  EXPECT_NE(Frame(copy), Frame(before));
  EXPECT_NE(original & kOnce, 0U);
  EXPECT_NE(copy & kOnce, 0U);
  EXPECT_EQ(MapCountOf(original), 1U);
  EXPECT_TRUE(IsExclusive(copy));
  EXPECT_FALSE(IsExclusive(original));
}

// A page on its way to the kernel's reclaim lists has an extra reference, so even its last holder copies it; older
// pages are not copied.
TEST_F(KernelTest, LastHolderReusesItsPage) {
  MapWritten("a", 100);
  const std::vector<uint64_t> before = Entries(0, "a", 10);
  const int child = Fork();
  Write(child, "a", 0, 10);
  Write(0, "a", 0, 10);
  const std::vector<uint64_t> reused = Entries(0, "a", 10);
  for (size_t page = 0; page < 10; ++page) {
    EXPECT_EQ(Frame(reused[page]), Frame(before[page])) << page;
    EXPECT_TRUE(IsExclusive(reused[page])) << page;
  }
}

TEST_F(KernelTest, ForkCopiesZeroPagesOnlyBesideOthers) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  workload_.Map(0, "zeros", 4);
  workload_.Map(0, "mixed", 4);
  Do("read 0 zeros 0 4");
  Do("read 0 mixed 0 4");
  Write(0, "mixed", 3);
  const int child = Fork();
  EXPECT_EQ(Entries(child, "zeros", 4), std::vector<uint64_t>(4, 0)) << "an area without pages of its own";
  EXPECT_EQ(Entries(child, "mixed", 3), Entries(0, "mixed", 3));
  EXPECT_NE(Entry(child, "mixed", 0), 0U);
}

TEST_F(KernelTest, PrivateFilePageIsAnonymousOnceWritten) {
  const std::string path = ::testing::TempDir() + "/cow_live_kernel";
  std::ofstream(path) << std::string(2 * PageBytes(), 'x');
  Do("mapfile 0 f " + path + " 2 private");
  Do("read 0 f 0 2");
  EXPECT_EQ(Entry(0, "f", 0) & (kPresent | kFile), kPresent | kFile);
  Write(0, "f", 0);
  EXPECT_EQ(Entry(0, "f", 0) & (kPresent | kFile | kOnce), kPresent | kOnce);
  EXPECT_TRUE(IsExclusive(Entry(0, "f", 0)));
  EXPECT_EQ(Entry(0, "f", 1) & (kPresent | kFile), kPresent | kFile);
  unlink(path.c_str());
}

TEST_F(KernelTest, WriteToASharedHugePageCopiesOneBasePage) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  MapWritten("t", window, "huge");
  const std::vector<uint64_t> before = Entries(0, "t", window);
  ASSERT_NE(FlagsOf(before[0]) & procfs::kFrameThp, 0U) << "no huge page was to be had";
  const int child = Fork();
  Write(child, "t", 7);
  const std::vector<uint64_t> parents = Entries(0, "t", window);
  const std::vector<uint64_t> childs = Entries(child, "t", window);
  for (size_t page = 0; page < window; ++page) {
    ASSERT_EQ(Frame(parents[page]), Frame(before[page])) << page;
    ASSERT_EQ(Frame(childs[page]) == Frame(before[page]), page != 7) << page;
  }
  EXPECT_NE(childs[7] & kOnce, 0U);
  EXPECT_TRUE(IsExclusive(childs[7]));
  EXPECT_EQ(MapCountOf(parents[7]), 1U);
  EXPECT_EQ(MapCountOf(parents[8]), 2U);
}

// Bit 56 of a huge page mapped by a PMD: on some kernels (6.11 to 6.14) it describes each page, on others the head page
// for all pages. The verdicts work with both.
TEST_F(KernelTest, MappedOnceOfAHugePageIsItsHeadsOrItsOwn) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  MapWritten("t", window, "huge");
  EXPECT_NE(Entry(0, "t", 7) & kOnce, 0U);
  const int child = Fork();
  EXPECT_EQ(Entry(0, "t", 7) & kOnce, 0U);
  Write(child, "t", 7);
  const std::vector<uint64_t> shared_head = Entries(0, "t", window);
  EXPECT_EQ(MapCountOf(shared_head[7]), 1U);
  const bool of_the_head = (shared_head[7] & kOnce) == 0;
  Write(child, "t", 0);
  const std::vector<uint64_t> own_head = Entries(0, "t", window);
  EXPECT_EQ(MapCountOf(own_head[8]), 2U);
  EXPECT_EQ((own_head[8] & kOnce) != 0, of_the_head) << "claims to be private";
}

// The same folio when both processes map it by single entries: bit 56 describes each page.
TEST_F(KernelTest, MappedOnceOfALargeFoliosPage) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  MapWritten("t", window, "huge");
  const int child = Fork();
  Write(child, "t", 7);
  Write(0, "t", 9);
  const std::vector<uint64_t> parents = Entries(0, "t", window);
  const std::vector<uint64_t> childs = Entries(child, "t", window);
  EXPECT_EQ(MapCountOf(parents[7]), 1U);
  EXPECT_EQ(MapCountOf(parents[8]), 2U);
  EXPECT_NE(parents[7] & kOnce, 0U);
  EXPECT_NE(childs[9] & kOnce, 0U);
  EXPECT_EQ(parents[8] & kOnce, 0U);
  for (const uint64_t original : {parents[7], childs[9], parents[8]}) EXPECT_FALSE(IsExclusive(original));
  for (const uint64_t copy : {parents[9], childs[7]}) EXPECT_TRUE(IsExclusive(copy));
}

// A huge page mapped by a PMD has its mark at the head page. Each of its pages shows either the head's mark or its own,
// which is clear.
TEST_F(KernelTest, MarkOfAHugePageIsItsHeads) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  MapWritten("t", window, "huge");
  const std::vector<uint64_t> entries = Entries(0, "t", window);
  EXPECT_TRUE(IsExclusive(entries[0]));
  EXPECT_EQ(IsExclusive(entries[8]), facts_.words.marks == memory::ExclusiveMarks::kOfTheFolio);
}

// The result of the probe matches a page with a known state.
TEST_F(KernelTest, ProbeFindsWhatPagesShow) {
  MapWritten("a", 2);
  const uint64_t fresh = Entry(0, "a", 0);
  constexpr uint64_t kFlags = procfs::kFrameAnon | procfs::kFrameKsm;
  EXPECT_TRUE(facts_.entry_kinds);
  EXPECT_TRUE(facts_.mapped_once);
  EXPECT_EQ(facts_.words.merged_flag, (FlagsOf(fresh) & kFlags) == procfs::kFrameAnon);
  EXPECT_NE(facts_.words.marks, memory::ExclusiveMarks::kNone);
  if (!WhyNoHugePages().empty()) return;
  EXPECT_NE(facts_.words.marks, memory::ExclusiveMarks::kOfSmallFolios);
  EXPECT_TRUE(facts_.words.page_counts);
  EXPECT_TRUE(facts_.page_mapcounts);
}

TEST_F(KernelTest, PagemapScanKnowsCategories) {
  constexpr uint64_t kUsed = procfs::kScanPresent | procfs::kScanSwapped | procfs::kScanZeroPage | procfs::kScanHuge;
  EXPECT_EQ(scan_.available(), scan_.Supports(kUsed));
  EXPECT_EQ(scan_.available(), facts_.scan_kinds);
}

TEST_F(KernelTest, GuardRegions) {
  workload_.Map(0, "a", 4);
  const std::string command = "madvise 0 a " + std::to_string(kMadviseGuardInstall) + " 1 1";
  try {
    Do(command);
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << KernelLacks("guard regions (Linux 6.13)");
  }
  const uint64_t entry = Entry(0, "a", 1);
  EXPECT_EQ(entry & kPresent, 0U);
  EXPECT_NE(entry & procfs::kPagemapSwapped, 0U);
  EXPECT_FALSE(procfs::PageEntry(entry).IsRealSwap());
  EXPECT_TRUE(procfs::PageEntry(entry).IsMarker()) << "with bit 58 or without";
}

TEST_F(KernelTest, EachCopyIsAMinorFault) {
  MapWritten("a", 200);
  const int child = Fork();
  Write(child, "a", 150, 50);
  Write(child, "a", 150, 50);
  const pid_t pid = workload_.Pid(child);
  const uint64_t before = procfs::ReadStat(root_, pid)->minor_faults;
  Write(child, "a", 0, 120);
  EXPECT_EQ(procfs::ReadStat(root_, pid)->minor_faults - before, 120U);
}

TEST_F(KernelTest, DroppedPagesMoveStatm) {
  MapWritten("a", 200);
  const pid_t pid = workload_.Pid();
  // Older kernels keep up to 64 faulted pages in a counter of the thread; dropping adds them.
  Do("dontneed 0 a 0 1");
  uint64_t before = procfs::ReadStatm(root_, pid)->resident_pages;
  for (const size_t pages : {1U, 8U, 20U, 100U}) {
    Do("dontneed 0 a " + std::to_string(pages) + " " + std::to_string(pages));
    const uint64_t after = procfs::ReadStatm(root_, pid)->resident_pages;
    EXPECT_LT(after, before) << pages;
    before = after;
  }
}

TEST_F(KernelTest, PagemapOfAnEndedProcess) {
  MapWritten("a", 1);
  const int child = Fork();
  const pid_t pid = workload_.Pid(child);
  const auto kept = procfs::Pagemap::Open(root_, pid);
  ASSERT_TRUE(kept);
  EXPECT_TRUE(kept->Alive());
  Do("kill " + std::to_string(child) + " zombie");
  EXPECT_FALSE(kept->Alive());
  // A zombie's file can be opened on some kernels, and reads nothing.
  const auto zombies = procfs::Pagemap::Open(root_, pid);
  EXPECT_FALSE(zombies && zombies->Alive());
  EXPECT_TRUE(zombies.has_value() || zombies.error().kind == ErrorKind::kGone);
  Do("reap " + std::to_string(child));
  const auto reaped = procfs::Pagemap::Open(root_, pid);
  ASSERT_FALSE(reaped.has_value());
  EXPECT_EQ(reaped.error().kind, ErrorKind::kGone);
}

TEST_F(KernelTest, PagemapOfAnotherImage) {
  MapWritten("a", 1);
  const int child = Fork();
  const auto kept = procfs::Pagemap::Open(root_, workload_.Pid(child));
  ASSERT_TRUE(kept);
  EXPECT_TRUE(kept->Alive());
  Do("exec " + std::to_string(child));
  EXPECT_FALSE(kept->Alive());
}

}  // namespace
}  // namespace cow::live
