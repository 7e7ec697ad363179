#include "collectors/memory/scan/scanner.h"
#include "collectors/memory/scan/family_scan.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "collectors/memory/scan/family_scan.h"
#include "tests/support/fixture_process.h"

namespace cow::memory {
namespace {

constexpr uint64_t kHeap = 0x10000000;
constexpr uint64_t kFar = 0x20000000;

// Adds up reports.
class Sums {
 public:
  void Add(const WindowReport& view) {
    windows.push_back(view.window.number());
    EXPECT_LE(view.read_at, first_read.value()) << "it is as old as the first page that was read for it";
    exposure += static_cast<int64_t>(view.sharing->exposure_pages);
    unresolved += view.sharing->unresolved_pages;
    for (const Verdict& verdict : view.judgement->verdicts) Count(verdict);
    for (const MemberWindow& member : view.members) {
      ksm += member.ksm_pages;
      maybe_ksm += member.maybe_ksm_pages;
      for (const Segment& segment : member.segments) {
        AddTally(all, segment.tally);
        AddTally(by_path[segment.mapping->vma.path], segment.tally);
        AddTally(by_pid[member.member->process->pid], segment.tally);
      }
    }
  }
  void Add(const UnchangedWindow& unchanged_window) {
    unchanged.push_back(unchanged_window.window.number());
    EXPECT_LE(unchanged_window.read_at, first_read.value());
  }
  void Add(const MovedReport& report) {
    for (const Verdict& verdict : report.judgement->verdicts) Count(verdict);
    most_at_once = std::max(most_at_once, report.judgement->verdicts.size());
  }
  void Add(const FamilyReport& view) {
    exposure += view.moved.exposure_pages;
    unmatched = view.moved.unmatched_pages;
    modes = view.modes;
    unwalked = view.unwalked;
    ++families;
  }
  void Add(const NothingYet&) {}
  void Add(const Interrupted&) {}
  // Between two steps.
  bool Continue() {
    if (between) between();
    first_read.reset();
    return !abandon;
  }
  // Amid a step.
  bool MayGoOn() {
    if (!first_read) first_read = std::chrono::system_clock::now();
    return true;
  }

  std::vector<uint64_t> windows;
  std::vector<uint64_t> unchanged;
  SegmentTally all;
  std::map<std::string, SegmentTally> by_path;
  std::map<pid_t, SegmentTally> by_pid;
  int64_t exposure = 0;
  uint64_t unresolved = 0;
  uint64_t unmatched = 0;
  uint64_t ksm = 0;
  uint64_t maybe_ksm = 0;
  uint64_t breaks = 0;
  uint64_t unshared = 0;
  size_t most_at_once = 0;  // verdicts about moved pages
  std::array<bool, kModes> modes{};
  Unwalked unwalked;
  int families = 0;
  std::optional<std::chrono::system_clock::time_point> first_read;  // of the window, if anything is read
  bool abandon = false;
  std::function<void()> between;

 private:
  void Count(const Verdict& verdict) {
    if (verdict.kind == Verdict::Kind::kBreak) breaks += verdict.pages;
    if (verdict.kind == Verdict::Kind::kUnshared) unshared += verdict.pages;
  }
  static void AddTally(SegmentTally& sum, const SegmentTally& tally) {
    sum.anon += tally.anon;
    sum.anon_shared += tally.anon_shared;
    sum.anon_multiple += tally.anon_multiple;
    sum.zero_base += tally.zero_base;
    sum.zero_huge += tally.zero_huge;
    sum.cache_once += tally.cache_once;
    sum.cache_more += tally.cache_more;
    sum.swapped += tally.swapped;
    sum.huge_pmd += tally.huge_pmd;
  }
};

class ScannerTest : public testing::Test {
 protected:
  void Start() {
    host_.Sync();
    scanner_ = std::make_unique<Scanner>(host_.Root(), procfs::PageGeometry(), 1, kernel_);
    table_ = std::make_unique<ProcessTable>(host_.Root(), 1000);
    families_ = std::make_unique<Lineage>(procfs::PageGeometry(), scanner_->zero_frame());
  }
  // Goes on with the family's scan, or begins one. False if `sums` ended it, and it rests then.
  bool ScanFamily(Family& family, const PassOptions& options, Sums& sums) {
    std::unique_ptr<FamilyScan>& scan = scans_[&family];
    if (scan != nullptr && scan->IsOutdated()) {
      scan->GiveUp();
      scan.reset();
    }
    if (scan == nullptr) scan = scanner_->Begin(family, options);
    while (!scan->done()) {
      if (!sums.Continue()) return false;
      const ScanStep step = scan->Next(scanner_->worker(), [&sums] { return sums.MayGoOn(); });
      std::visit([&sums](const auto& report) { sums.Add(report); }, step);
    }
    scan.reset();
    return true;
  }
  // Membership, then a scan of every family.
  Sums Pass(const std::function<void()>& before_scan = {}) {
    host_.Sync();
    return PassAsItIs(before_scan);
  }
  Sums PassAsItIs(const std::function<void()>& before_scan = {}) {
    EXPECT_TRUE(table_->Update());
    families_->Update(*table_, scanner_->probe());
    if (before_scan) before_scan();
    scanner_->BeginPass();
    Sums sums;
    for (const auto& family : families_->families()) {
      EXPECT_TRUE(ScanFamily(*family, PassOptions{.show_all = true}, sums));
      families_->Settle(*family);
    }
    return sums;
  }
  const Member* MemberOf(pid_t pid) const {
    for (const auto& family : families_->families()) {
      for (const auto& member : family->members) {
        if (member->process->pid == pid) return member.get();
      }
    }
    return nullptr;
  }
  void AddPair() {
    host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    host_.Fork(100, 101);
  }

  test::FixtureHost host_;
  std::optional<KernelFacts> kernel_;  // empty: the fixture's
  std::unique_ptr<Scanner> scanner_;
  std::unique_ptr<ProcessTable> table_;
  std::unique_ptr<Lineage> families_;
  std::map<Family*, std::unique_ptr<FamilyScan>> scans_;
};

TEST_F(ScannerTest, CapabilitiesOfAFixture) {
  AddPair();
  Start();
  const Capabilities& can = scanner_->capabilities();
  EXPECT_TRUE(can.frames);
  EXPECT_TRUE(can.kpageflags);
  EXPECT_TRUE(can.kpagecount);
  EXPECT_TRUE(can.exclusive_marks);
  EXPECT_FALSE(can.pagemap_scan);
  EXPECT_FALSE(can.sees_every_process);
  EXPECT_EQ(scanner_->zero_frame(), Pfn(test::kFixtureZeroFrame));
}

// No kcmp in a fixture: as where it is denied.
TEST_F(ScannerTest, OneAddressSpaceIsKnownByItsStack) {
  constexpr uint64_t kStack = test::kFixtureStack - 2 * test::kFixturePageBytes;
  AddPair();
  host_.At(100).MapPages(kStack, 3, 3000, "[stack]");
  host_.At(101).MapPages(kStack, 3, 4000, "[stack]");
  Start();
  ASSERT_TRUE(table_->Update());
  const auto same = [this] {
    host_.Sync();
    return scanner_->probe().SameMemory(*table_->processes().at(100), *table_->processes().at(101));
  };
  EXPECT_EQ(same(), false) << "each has its own";
  for (uint64_t i = 0; i < 3; ++i) host_.At(101).SetPage(kStack + i * test::kFixturePageBytes, 3000 + i);
  EXPECT_EQ(same(), false) << "shared by fork: mapped twice";
  for (uint64_t i = 0; i < 3; ++i) {
    for (const pid_t pid : {100, 101}) {
      host_.At(pid).SetEntry(kStack + i * test::kFixturePageBytes,
                             procfs::kPagemapPresent | procfs::kPagemapMappedOnce | (3000 + i));
    }
  }
  EXPECT_EQ(same(), true) << "mapped once, and in both";
  for (const pid_t pid : {100, 101}) host_.At(pid).entries.clear();
  EXPECT_EQ(same(), std::nullopt);
}

TEST_F(ScannerTest, CapabilitiesAreWhatTheKernelWasFoundToTell) {
  AddPair();
  kernel_ = KernelFacts();
  kernel_->words = {ExclusiveMarks::kNone, false, false};
  Start();
  Capabilities can = scanner_->capabilities();
  EXPECT_FALSE(can.frames || can.exclusive_marks || can.folio_marks || can.merged_flag || can.page_mapcounts);
  EXPECT_TRUE(can.kpageflags);
  EXPECT_TRUE(can.kpagecount);
  kernel_ = KernelFacts::AsDocumented();
  kernel_->words.marks = ExclusiveMarks::kOfTheFolio;
  Start();
  can = scanner_->capabilities();
  EXPECT_TRUE(can.frames && can.exclusive_marks && can.merged_flag && can.page_mapcounts);
  EXPECT_FALSE(can.folio_marks);
}

// Nothing was found to mean anything but that a page is there: sizes are known, and no verdict is made.
TEST_F(ScannerTest, WithoutKindsNothingIsCompared) {
  AddPair();
  kernel_ = KernelFacts();
  Start();
  const Sums sums = Pass();
  EXPECT_TRUE(sums.modes[static_cast<size_t>(Mode::kNoFrames)]);
}

// Linux 6.12: every anonymous page has KSM's flag.
TEST_F(ScannerTest, UselessMergedFlagIsReplacedByTheProcesssCount) {
  AddPair();
  host_.all_have_ksm_flag = true;
  kernel_ = KernelFacts::AsDocumented();
  kernel_->words.merged_flag = false;
  Start();
  Sums sums = Pass();
  EXPECT_EQ(sums.exposure, 8);
  EXPECT_EQ(sums.ksm + sums.maybe_ksm + sums.unresolved, 0U);
  host_.At(101).SetPage(kHeap, 2000);
  EXPECT_EQ(Pass().breaks, 1U);
  // Somebody else's pages are merged.
  host_.tree().WriteFile("sys/kernel/mm/ksm/pages_shared", "3\n");
  sums = Pass();
  EXPECT_EQ(sums.exposure, 7);
  EXPECT_EQ(sums.maybe_ksm, 0U);
  // Its own: which can't be told.
  host_.At(100).ksm_pages = 3;
  sums = Pass();
  EXPECT_EQ(sums.breaks + sums.unshared, 0U);
  EXPECT_EQ(sums.exposure, 0);
  EXPECT_EQ(sums.ksm, 0U);
  EXPECT_EQ(sums.maybe_ksm, 14U) << "a page mapped once is nobody else's, whoever merged it";
  EXPECT_EQ(sums.unresolved, 14U);
  // A child that inherited merged pages is not counted as having some.
  host_.At(100).ksm_pages = 0;
  EXPECT_EQ(Pass().maybe_ksm, 14U);
  host_.tree().WriteFile("sys/kernel/mm/ksm/pages_shared", "0\n");
  sums = Pass();
  EXPECT_EQ(sums.exposure, 7);
  EXPECT_EQ(sums.unresolved, 0U);
}

// CONFIG_NO_PAGE_MAPCOUNT: a huge page that is shared in part looks shared in all of it.
TEST_F(ScannerTest, LargeFoliosCountedAsAWholeAreJudgedByFrames) {
  constexpr uint64_t kFolio = 4096;
  kernel_ = KernelFacts::AsDocumented();
  kernel_->words.page_counts = kernel_->page_mapcounts = false;
  host_.Add(100).MapPages(kHeap, 8, kFolio, "[heap]");
  host_.Fork(100, 101);
  for (uint64_t page = 0; page < 8; ++page) host_.large_folio_frames.insert(kFolio + page);
  Start();
  EXPECT_EQ(Pass().exposure, 8);
  for (uint64_t page = 0; page < 3; ++page) host_.At(101).SetPage(kHeap + page * 4096, 9000 + page);
  for (uint64_t page = 0; page < 3; ++page) host_.unseen_mappers[kFolio + page] = 1;  // as the average counts
  Sums sums = Pass();
  EXPECT_EQ(sums.breaks, 3U);
  EXPECT_EQ(sums.exposure, 5);
  EXPECT_EQ(sums.unmatched, 0U);
  host_.Fork(100, 102);
  EXPECT_EQ(Pass().exposure, 13);
  host_.Exit(101);
  sums = Pass();
  EXPECT_EQ(sums.breaks, 0U);
  EXPECT_EQ(sums.exposure, 8);
  EXPECT_EQ(sums.unmatched, 0U);
  EXPECT_FALSE(scanner_->capabilities().page_mapcounts);
}

TEST_F(ScannerTest, PairSharesAndBreaks) {
  AddPair();
  Start();
  Sums sums = Pass();
  EXPECT_EQ(sums.windows, std::vector<uint64_t>{kHeap >> 21});
  EXPECT_EQ(sums.exposure, 8);
  EXPECT_EQ(sums.all.anon, 16U);
  EXPECT_EQ(sums.all.anon_shared, 16U);
  EXPECT_TRUE(sums.modes[static_cast<size_t>(Mode::kFull)]);
  host_.At(101).SetPage(kHeap, 2000);
  sums = Pass();
  EXPECT_EQ(sums.breaks, 1U);
  EXPECT_EQ(sums.exposure, 7);
  EXPECT_EQ(sums.by_pid[101].anon_shared, 7U);
  EXPECT_EQ(scanner_->Counters().windows_read_again, 1U);
  EXPECT_EQ(scanner_->Counters().unstable_pages, 0U);
}

TEST_F(ScannerTest, PagesReadAreCounted) {
  AddPair();
  Start();
  Pass();
  const ScanCounters before = scanner_->Counters();
  Pass();
  EXPECT_EQ(scanner_->Counters().pagemap_pages - before.pagemap_pages, 16U);
  EXPECT_EQ(scanner_->Counters().pagemap_reads - before.pagemap_reads, 2U);
  EXPECT_EQ(scanner_->Counters().scan_calls, 0U);
}

TEST_F(ScannerTest, MappingsCrossWindows) {
  const uint64_t start = kHeap + 0x200000 - uint64_t{2} * 4096;  // two pages before the end of a window
  host_.Add(100).MapPages(start, 516, 1000, "[heap]");
  host_.At(100).MapPages(start + uint64_t{516} * 4096, 4, 3000);
  host_.Fork(100, 101);
  Start();
  Sums sums = Pass();
  EXPECT_EQ(sums.windows, (std::vector<uint64_t>{kHeap >> 21, (kHeap >> 21) + 1, (kHeap >> 21) + 2}));
  EXPECT_EQ(sums.exposure, 520);
  EXPECT_EQ(sums.by_path["[heap]"].anon, 1032U);
  EXPECT_EQ(sums.by_path[""].anon, 8U);
  for (const uint64_t page : {0U, 1U, 2U, 513U, 514U, 515U, 519U})
    host_.At(101).SetPage(start + page * 4096, 9000 + page);
  sums = Pass();
  EXPECT_EQ(sums.breaks, 7U);
  EXPECT_EQ(sums.exposure, 513);
}

TEST_F(ScannerTest, MembersThatCannotBeReadCostOnlyThemselves) {
  AddPair();
  host_.Fork(100, 102);
  host_.Fork(100, 103);
  host_.Fork(100, 104);
  host_.maps_of_its_own[102] = "nonsense\n";
  host_.maps_of_its_own[103] = "";
  Start();
  const Sums sums = Pass([&] { host_.EndAddressSpace(104); });
  EXPECT_EQ(sums.exposure, 8);
  ASSERT_TRUE(MemberOf(102)->access.unread);
  EXPECT_EQ(MemberOf(102)->access.unread->kind, ErrorKind::kMalformed);
  ASSERT_TRUE(MemberOf(103)->access.unread);
  EXPECT_EQ(MemberOf(103)->access.unread->kind, ErrorKind::kGone);
  ASSERT_TRUE(MemberOf(104)->access.unread);
  EXPECT_EQ(MemberOf(104)->access.unread->kind, ErrorKind::kGone);
  EXPECT_FALSE(MemberOf(100)->access.unread);
  EXPECT_FALSE(MemberOf(101)->access.unread);
  EXPECT_EQ(sums.breaks, 0U);
}

TEST_F(ScannerTest, AMemberThatIsTooLargeIsTriedAgainAfterGrowingPauses) {
  AddPair();
  host_.Fork(100, 102);
  std::string text;
  for (int i = 0; i <= 131072; ++i) {
    std::array<char, 64> line{};
    std::snprintf(line.data(), line.size(), "%x-%x rw-p 0 0:0 0\n", 0x1000 + i * 0x1000, 0x1800 + i * 0x1000);
    text += line.data();
  }
  host_.maps_of_its_own[102] = text;
  Start();
  EXPECT_EQ(Pass().exposure, 8);
  ASSERT_TRUE(MemberOf(102)->access.unread);
  EXPECT_EQ(MemberOf(102)->access.unread->kind, ErrorKind::kTooLarge);
  // With 1, 2, 4, … passes between.
  std::vector<int> tried{1};
  uint32_t pause = MemberOf(102)->access.next_pause;
  for (int pass = 2; pass <= 11; ++pass) {
    EXPECT_EQ(Pass().exposure, 8);
    if (std::exchange(pause, MemberOf(102)->access.next_pause) != pause) tried.push_back(pass);
    EXPECT_EQ(MemberOf(102)->access.unread->kind, ErrorKind::kTooLarge);
  }
  EXPECT_EQ(tried, (std::vector<int>{1, 3, 6, 11}));
  host_.maps_of_its_own.clear();
  for (int pass = 12; pass <= 19; ++pass) {
    Pass();
    EXPECT_TRUE(MemberOf(102)->access.unread) << pass;
  }
  EXPECT_EQ(Pass().exposure, 16);
  EXPECT_FALSE(MemberOf(102)->access.unread);
}

// Root is denied nothing: for a while, be somebody else.
class AsNobody {
 public:
  AsNobody() : before_(geteuid()) {
    if (before_ == 0 && seteuid(65534) != 0) std::abort();
  }
  ~AsNobody() {
    if (seteuid(before_) != 0) std::abort();
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  uid_t before_;
};

TEST_F(ScannerTest, DeniedMemberIsNoted) {
  AddPair();
  Start();
  host_.Sync();
  std::filesystem::permissions(host_.tree().Path("proc/101/pagemap"), std::filesystem::perms::none);
  using std::filesystem::perms;
  std::filesystem::permissions(host_.tree().Path(""), perms::owner_all | perms::group_exec | perms::group_read |
                                                          perms::others_exec | perms::others_read);
  const AsNobody nobody;
  const Sums sums = PassAsItIs();
  ASSERT_NE(MemberOf(101), nullptr);
  ASSERT_TRUE(MemberOf(101)->access.unread);
  EXPECT_EQ(MemberOf(101)->access.unread->kind, ErrorKind::kDenied);
  EXPECT_TRUE(sums.modes[static_cast<size_t>(Mode::kNone)]);
  EXPECT_TRUE(sums.modes[static_cast<size_t>(Mode::kFull)]);
}

TEST_F(ScannerTest, MemberThatIsReadAgainLostNothing) {
  AddPair();
  Start();
  Pass();
  host_.maps_of_its_own[101] = "nonsense\n";
  Sums sums = Pass();
  EXPECT_EQ(sums.breaks + sums.unshared, 0U);
  host_.maps_of_its_own.clear();
  sums = Pass();
  EXPECT_EQ(sums.breaks + sums.unshared, 0U);
  EXPECT_EQ(sums.exposure, 8);
  EXPECT_FALSE(MemberOf(101)->access.unread);
}

TEST_F(ScannerTest, ExitUnsharesInTheNextPass) {
  AddPair();
  Start();
  Pass();
  host_.Exit(101);
  const Sums sums = Pass();
  EXPECT_EQ(sums.unshared, 8U);
  EXPECT_EQ(sums.breaks, 0U);
  EXPECT_EQ(sums.exposure, 0);
  EXPECT_EQ(sums.all.anon, 8U);
}

TEST_F(ScannerTest, PrivateFileMapping) {
  auto& process = host_.Add(100);
  auto& area = process.MapArea(kFar, 4, "/usr/lib/x.so");
  area.device = "08:01";
  area.inode = 5;
  process.SetPage(kFar, 1000);
  process.SetFilePage(kFar + 4096, 900, true);
  process.SetFilePage(kFar + 8192, 901, false);
  Start();
  const Sums sums = Pass();
  EXPECT_EQ(sums.all.anon, 1U);
  EXPECT_EQ(sums.all.cache_once, 1U);
  EXPECT_EQ(sums.all.cache_more, 1U);
  EXPECT_EQ(sums.all.zero_huge, 0U);
  EXPECT_EQ(sums.all.Present(), 3U);
}

TEST_F(ScannerTest, ZeroPages) {
  auto& process = host_.Add(100);
  process.MapArea(kFar, 512);
  process.SetPage(kFar, test::kFixtureZeroFrame);
  process.SetFilePage(kFar + 4096, 900, false);  // only the huge zero page looks like a file in anonymous memory
  Start();
  const Sums sums = Pass();
  EXPECT_EQ(sums.all.zero_base, 1U);
  EXPECT_EQ(sums.all.zero_huge, 1U);
  EXPECT_EQ(sums.all.anon, 0U);
}

TEST_F(ScannerTest, SwapIsCountedButMarkersAreNot) {
  AddPair();
  host_.At(101).SwapOut(kHeap, 9);
  host_.At(101).SetEntry(kHeap + 4096, procfs::kPagemapSwapped | 30);
  host_.At(101).SetEntry(kHeap + 8192, procfs::kPagemapSwapped | procfs::kPagemapGuard | 31);
  Start();
  Sums sums = Pass();
  EXPECT_EQ(sums.by_pid[101].swapped, 1U);
  EXPECT_EQ(sums.by_pid[101].anon, 5U);
}

TEST_F(ScannerTest, HugetlbIsRead) {
  auto& process = host_.Add(100);
  process.MapPages(0x40000000, 512, 8192, "/anon_hugepage (deleted)");
  process.areas[0x40000000].inode = 5;
  Start();
  const Sums sums = Pass();
  EXPECT_EQ(sums.all.anon, 512U);
  EXPECT_EQ(sums.all.huge_pmd, 0U);
}

TEST_F(ScannerTest, VsyscallIsNotRead) {
  AddPair();
  host_.Sync();
  host_.maps_of_its_own[100] =
      "10000000-10008000 rw-p 00000000 00:00 0    [heap]\n"
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0    [vsyscall]\n";
  Start();
  const Sums sums = Pass();
  EXPECT_EQ(sums.windows.size(), 1U);
  EXPECT_EQ(sums.exposure, 8);
  EXPECT_FALSE(MemberOf(100)->access.unread);
}

TEST_F(ScannerTest, MergedPagesAreNotShared) {
  AddPair();
  for (uint64_t frame = 1000; frame < 1003; ++frame) host_.ksm_frames.insert(frame);
  host_.At(100).ksm_pages = 3;
  host_.tree().WriteFile("sys/kernel/mm/ksm/pages_shared", "3\n");
  Start();
  const Sums sums = Pass();
  EXPECT_EQ(sums.exposure, 5);
  EXPECT_EQ(sums.ksm, 6U);
  EXPECT_EQ(sums.unmatched, 0U);
}

TEST_F(ScannerTest, MovedPagesGoByFrame) {
  AddPair();
  Start();
  Pass();
  auto& child = host_.At(101);
  child.Drop(kHeap);
  child.MapPages(kFar, 1, 1000);
  Sums sums = Pass();
  EXPECT_EQ(sums.exposure, 8);
  EXPECT_EQ(sums.unshared + sums.breaks, 0U);
  child.SetPage(kFar, 2000);
  sums = Pass();
  EXPECT_EQ(sums.breaks, 1U);
}

TEST_F(ScannerTest, SharedWithTheUnseen) {
  host_.Add(100).MapPages(kHeap, 4, 1000);
  host_.unseen_mappers = {{1000, 1}, {1001, 2}};
  Start();
  EXPECT_EQ(Pass().unmatched, 2U);
}

TEST_F(ScannerTest, AbandonedPassGoesOnNextTime) {
  AddPair();
  Start();
  Pass();
  host_.At(101).SetPage(kHeap, 2000);
  host_.Sync();
  ASSERT_TRUE(table_->Update());
  families_->Update(*table_, scanner_->probe());
  Sums abandoned;
  abandoned.abandon = true;
  EXPECT_FALSE(ScanFamily(*families_->families().front(), PassOptions{}, abandoned));
  EXPECT_EQ(abandoned.families, 0);
  EXPECT_EQ(Pass().breaks, 1U);
}

// A child moved what it shares with its parent and broke some of it, so that the end of the pass has most to do.
class PassEndTest : public ScannerTest {
 protected:
  static constexpr size_t kPages = 20'000;
  static constexpr size_t kBroken = 10'000;

  void SetUp() override {
    host_.Add(100).MapPages(kHeap, kPages, 10'000, "[heap]");
    host_.Fork(100, 101);
    Start();
    Pass();
    auto& child = host_.At(101);
    for (size_t page = 0; page < kPages; ++page) child.Drop(kHeap + page * test::kFixturePageBytes);
    child.MapPages(kFar, kPages, 10'000);
    EXPECT_EQ(Pass().exposure, static_cast<int64_t>(kPages));
    for (size_t page = 0; page < kBroken; ++page)
      child.SetPage(kFar + page * 2 * test::kFixturePageBytes, 50'000 + page);
    host_.Sync();
    ASSERT_TRUE(table_->Update());
    families_->Update(*table_, scanner_->probe());
    scanner_->BeginPass();
  }
  Family& family() { return *families_->families().front(); }
  // Makes so many steps of the scan. True if the scan ended.
  bool Scan(Sums& sums, int steps) {
    sums.between = [&sums, steps]() mutable { sums.abandon = steps-- == 0; };
    return ScanFamily(family(), PassOptions{.show_all = true}, sums);
  }
};

TEST_F(PassEndTest, RestsAfterEachStep) {
  Sums sums;
  int rests_at_the_end = 0;
  while (!Scan(sums, 1)) {
    ASSERT_TRUE(family().being_scanned);
    if (scans_[&family()]->IsHalfDone()) ++rests_at_the_end;
  }
  EXPECT_GE(rests_at_the_end, 10);
  EXPECT_LE(sums.most_at_once, 8192U);
  EXPECT_EQ(sums.breaks, kBroken);
  EXPECT_EQ(sums.exposure, static_cast<int64_t>(kPages - kBroken));
  EXPECT_EQ(sums.unmatched, 0U);
}

TEST_F(PassEndTest, IsMadeWhereTheScanIsGivenUp) {
  Sums sums;
  do {
    ASSERT_FALSE(Scan(sums, 1));
  } while (!scans_[&family()]->IsHalfDone());
  const uint64_t breaks_before = sums.breaks;
  scans_[&family()]->GiveUp();
  scans_.clear();
  const Sums next = Pass();
  EXPECT_EQ(breaks_before + next.breaks, kBroken) << "verdicts of the end that was not shown";
  EXPECT_EQ(next.exposure, static_cast<int64_t>(kPages - kBroken));
  EXPECT_EQ(Pass().breaks, 0U);
}

TEST_F(PassEndTest, MemberThatEndsMeanwhileIsSettledByTheNextPass) {
  Sums sums;
  do {
    ASSERT_FALSE(Scan(sums, 1));
  } while (!scans_[&family()]->IsHalfDone());
  host_.Exit(101);
  host_.Sync();
  ASSERT_TRUE(table_->Update());
  families_->Update(*table_, scanner_->probe());
  ASSERT_TRUE(Scan(sums, 1'000'000));
  families_->Settle(family());
  EXPECT_EQ(sums.breaks, kBroken);
  const Sums next = Pass();
  EXPECT_EQ(next.breaks, 0U);
  EXPECT_EQ(next.unshared, kPages - kBroken);
  EXPECT_EQ(next.exposure, 0);
  EXPECT_TRUE(family().ended.empty());
}

TEST_F(ScannerTest, WithoutFrameFilesNoFramesAreKnown) {
  AddPair();
  host_.tree().Remove("proc/kpageflags");
  host_.tree().Remove("proc/kpagecount");
  Scanner scanner(host_.Root(), procfs::PageGeometry());
  EXPECT_FALSE(scanner.capabilities().frames);
  EXPECT_FALSE(scanner.capabilities().kpageflags);
  EXPECT_FALSE(scanner.capabilities().exclusive_marks);
}

TEST_F(ScannerTest, LifeBreaksAreThoseBetweenAChildAndItsParent) {
  AddPair();
  Start();
  Pass();
  host_.Fork(100, 102, 300);
  Pass();
  host_.At(102).SetPage(kHeap, 2000);         // its own
  host_.At(100).SetPage(kHeap + 4096, 2001);  // its parent's
  host_.At(101).SetPage(kHeap + 8192, 2002);  // a stranger's
  Pass();
  EXPECT_EQ(MemberOf(102)->life.family_break_pages, 2U);
  EXPECT_EQ(MemberOf(102)->life.broken_pages, 0U) << "nobody asked for it";
}

TEST_F(ScannerTest, RelativesAreRecognisedByAFrame) {
  AddPair();
  host_.Add(200, 1, 300).MapPages(kHeap, 8, 5000, "[heap]");
  host_.Fork(100, 102).ppid = 1;
  host_.Sync();
  Start();
  Pass();
  const auto process = [&](pid_t pid) -> const Process& { return *table_->processes().at(pid); };
  EXPECT_TRUE(scanner_->probe().ShareFrame(process(100), process(101)));
  EXPECT_FALSE(scanner_->probe().ShareFrame(process(100), process(200)));
  EXPECT_EQ(families_->families().size(), 2U);
}

TEST_F(ScannerTest, ZeroAndMergedFramesMakeNoRelatives) {
  for (const pid_t pid : {100, 200}) {
    auto& process = host_.Add(pid);
    process.MapPages(kHeap, 2, 1000);
    process.SetPage(kHeap, test::kFixtureZeroFrame);
  }
  host_.ksm_frames.insert(1001);
  Start();
  Pass();
  EXPECT_FALSE(scanner_->probe().ShareFrame(*table_->processes().at(100), *table_->processes().at(200)));
  EXPECT_EQ(families_->families().size(), 2U);
}

TEST_F(ScannerTest, LayoutIsRandomUnlessSwitchedOff) {
  host_.Add(100);
  host_.Add(101).personality = "00040000\n";
  host_.Sync();
  Start();
  Pass();
  EXPECT_TRUE(scanner_->probe().LayoutIsRandom(*table_->processes().at(100)));
  EXPECT_FALSE(scanner_->probe().LayoutIsRandom(*table_->processes().at(101)));
  host_.tree().WriteFile("proc/sys/kernel/randomize_va_space", "0\n");
  Start();
  Pass();
  EXPECT_FALSE(scanner_->probe().LayoutIsRandom(*table_->processes().at(100)));
}

TEST_F(ScannerTest, KindOfAVerdictIsItsMappings) {
  AddPair();
  host_.At(100).MapPages(kFar, 1, 1100);
  Start();
  Pass();
  const Family& family = *families_->families().front();
  Verdict verdict;
  verdict.slot = MemberOf(100)->slot;
  verdict.page = PageNumber(kHeap / 4096);
  EXPECT_EQ(KindOfVerdict(family, verdict, procfs::PageGeometry()), MappingKind::kHeap);
  verdict.page = PageNumber(kFar / 4096);
  EXPECT_EQ(KindOfVerdict(family, verdict, procfs::PageGeometry()), MappingKind::kAnon);
  verdict.slot = MemberIndex(99);
  EXPECT_EQ(KindOfVerdict(family, verdict, procfs::PageGeometry()), MappingKind::kAnon);
}

TEST_F(ScannerTest, FamilyIsDueWhenSomethingMoved) {
  AddPair();
  const auto vmstat = [this](int swapped_in) {
    host_.tree().WriteFile("proc/vmstat", "pswpin " + std::to_string(swapped_in) + "\npswpout 0\n");
  };
  vmstat(0);
  Start();
  Pass();
  Pass();
  const auto due = [this](std::chrono::milliseconds full_every) {
    host_.Sync();
    EXPECT_TRUE(table_->Update());
    families_->Update(*table_, scanner_->probe());
    scanner_->BeginPass();
    return scanner_->IsDue(*families_->families().front(), {.full_every = full_every});
  };
  const auto read = [this] {
    Sums sums;
    EXPECT_TRUE(ScanFamily(*families_->families().front(), PassOptions{.full_every = std::chrono::hours(1)}, sums));
    families_->Settle(*families_->families().front());
  };
  read();
  EXPECT_FALSE(due(std::chrono::hours(1)));
  EXPECT_TRUE(due(std::chrono::milliseconds(0)));
  host_.At(101).minor_faults = 5;
  EXPECT_TRUE(due(std::chrono::hours(1)));
  read();
  EXPECT_FALSE(due(std::chrono::hours(1)));
  host_.At(100).Drop(kHeap);
  EXPECT_TRUE(due(std::chrono::hours(1)));
  read();
  vmstat(1);
  EXPECT_TRUE(due(std::chrono::hours(1)));
  read();
  EXPECT_FALSE(due(std::chrono::hours(1)));
  // KSM merges without any other sign.
  host_.At(101).ksm_pages = 1;
  EXPECT_FALSE(due(std::chrono::hours(1))) << "nothing is merged on the host";
  host_.tree().WriteFile("sys/kernel/mm/ksm/pages_shared", "1\n");
  EXPECT_TRUE(due(std::chrono::hours(1)));
  host_.At(101).ksm_pages = 0;
  EXPECT_FALSE(due(std::chrono::hours(1)));
  // A page on its way arrives without any sign.
  const uint64_t address = kHeap + test::kFixturePageBytes;
  const uint64_t entry = host_.At(101).entries.at(address / test::kFixturePageBytes);
  host_.At(101).SetEntry(address, procfs::kPagemapSwapped | uint64_t{1000} << 5 | 30);
  host_.At(101).minor_faults = 6;
  EXPECT_TRUE(due(std::chrono::hours(1)));
  read();
  EXPECT_TRUE(due(std::chrono::hours(1)));
  host_.At(101).SetEntry(address, entry);
  EXPECT_TRUE(due(std::chrono::hours(1)));
  read();
  EXPECT_FALSE(due(std::chrono::hours(1)));
  host_.Fork(100, 102);
  EXPECT_TRUE(due(std::chrono::hours(1)));
  read();
  host_.Exit(102);
  EXPECT_TRUE(due(std::chrono::hours(1)));
}

// Members whose signals did not move are not read.
class IncrementalScanTest : public ScannerTest {
 protected:
  static constexpr uint64_t kPageBytes = test::kFixturePageBytes;
  static constexpr auto kFullEvery = std::chrono::hours(1);

  // A root and three children that share eight pages, seen by two passes.
  void StartFamily() {
    host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\npgmigrate_success 0\n");
    host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    for (const pid_t child : {101, 102, 103}) host_.Fork(100, child);
    Start();
    Scan();
    Scan();
    EXPECT_EQ(Scan().pages_read, 0U);
  }

  struct Result {
    Sums sums;
    uint64_t pages_read = 0;
    uint64_t reads = 0;
  };
  Result Scan() {
    host_.Sync();
    scanner_->forks().BeforeUpdate();
    EXPECT_TRUE(table_->Update());
    scanner_->forks().AfterUpdate(*table_);
    families_->Update(*table_, scanner_->probe());
    scanner_->BeginPass();
    const PassOptions options{.full_every = kFullEvery};
    const ScanCounters before = scanner_->Counters();
    Result result;
    for (const auto& family : families_->families()) {
      if (!scanner_->IsDue(*family, options)) continue;
      EXPECT_TRUE(ScanFamily(*family, options, result.sums));
      families_->Settle(*family);
    }
    result.pages_read = scanner_->Counters().pagemap_pages - before.pagemap_pages;
    result.reads = scanner_->Counters().pagemap_reads - before.pagemap_reads;
    return result;
  }
  void Touch(pid_t pid) { ++host_.At(pid).minor_faults; }
};

TEST_F(IncrementalScanTest, UnchangedWindowsAreNotShown) {
  StartFamily();
  Touch(102);
  const Result result = Scan();
  EXPECT_EQ(result.pages_read, 8U) << "the one whose signals moved, and nobody else";
  EXPECT_TRUE(result.sums.windows.empty());
  EXPECT_EQ(result.sums.unchanged, std::vector<uint64_t>{kHeap >> 21});
  EXPECT_EQ(result.sums.families, 1);
}

TEST_F(IncrementalScanTest, OneOtherHolderIsAskedForThePage) {
  StartFamily();
  host_.At(102).SetPage(kHeap + 3 * kPageBytes, 2000);
  Touch(102);
  const Result result = Scan();
  EXPECT_EQ(result.sums.breaks, 1U);
  EXPECT_EQ(result.sums.exposure, 8 * 3 - 1);
  EXPECT_EQ(result.sums.all.anon, 32U) << "members that were not read are shown as they were";
  EXPECT_EQ(result.sums.by_pid.at(101).anon_shared, 8U);
  EXPECT_EQ(result.sums.by_pid.at(102).anon_shared, 7U);
  EXPECT_EQ(result.pages_read, 8U + 1U);
  EXPECT_EQ(result.reads, 2U);
}

TEST_F(IncrementalScanTest, FramesThatMovedTogetherAreNoBreaks) {
  StartFamily();
  for (const pid_t pid : {100, 101, 102, 103}) host_.At(pid).SetPage(kHeap, 3000);
  host_.forked_frames.insert(3000);
  host_.At(102).SetPage(kHeap + kPageBytes, 2000);
  Touch(102);
  const Result result = Scan();
  EXPECT_EQ(result.sums.breaks, 1U);
  EXPECT_EQ(result.sums.unshared, 0U);
  EXPECT_EQ(result.sums.exposure, 8 * 3 - 1);
  EXPECT_GE(result.pages_read, 8U * 4U) << "what is remembered was not so: everybody is read";
  // And from then on they are known.
  host_.At(103).SetPage(kHeap, 2001);
  Touch(103);
  EXPECT_EQ(Scan().sums.breaks, 1U);
}

// A partner's page changed without any signal of the partner: the page that is left to one is mapped once.
TEST_F(IncrementalScanTest, PageMappedOnceIsNotTakenForShared) {
  StartFamily();
  for (const pid_t pid : {100, 101, 103}) {
    host_.At(pid).SetPage(kHeap, 5000 + static_cast<uint64_t>(pid));
  }
  host_.At(102).SetPage(kHeap + kPageBytes, 2000);
  Touch(102);
  const Result result = Scan();
  EXPECT_EQ(result.sums.breaks, 3U + 1U);
  EXPECT_EQ(result.sums.exposure, 6 * 3 + 2);
}

TEST_F(IncrementalScanTest, ExitTellsOfThoseWhoStay) {
  StartFamily();
  host_.At(101).SetPage(kHeap, 2000);
  Touch(101);
  Scan();
  host_.Exit(103);
  Result result = Scan();
  EXPECT_EQ(result.sums.unshared, 0U);
  EXPECT_EQ(result.sums.exposure, 7 * 2 + 1);
  EXPECT_EQ(result.sums.all.anon, 24U);
  EXPECT_EQ(result.pages_read, 0U) << "others still share all of it";
  host_.Exit(102);
  result = Scan();
  EXPECT_EQ(result.sums.unshared, 1U);
  EXPECT_EQ(result.sums.exposure, 7);
}

TEST_F(IncrementalScanTest, NewcomerIsComparedWithItsParent) {
  host_.GrantAllRights();
  StartFamily();
  host_.At(101).MapPages(kFar, 4, 4000, "");
  Touch(101);
  Scan();
  host_.Fork(101, 104, 300);
  host_.At(104).SetPage(kFar, 4100);
  host_.At(104).SetPage(kHeap, 4101);
  const Result result = Scan();
  EXPECT_EQ(result.sums.breaks, 2U);
  EXPECT_EQ(result.sums.exposure, 8 * 4 - 1 + 3);
  EXPECT_EQ(result.sums.unmatched, 0U);
}

// The pages that a member which is not read is remembered by are not all it has: its sums are no other's.
TEST_F(IncrementalScanTest, SumsOfAMemberAreItsOwn) {
  StartFamily();
  host_.At(100).MapPages(kHeap + 8 * kPageBytes, 4, 6000, "");
  Touch(100);
  Scan();
  host_.At(101).Drop(kHeap + 7 * kPageBytes);
  Touch(101);
  Scan();
  host_.At(103).SetPage(kHeap + 6 * kPageBytes, 2000);
  Touch(103);
  const Result result = Scan();
  EXPECT_EQ(result.sums.by_pid.at(100).anon, 12U);
  EXPECT_EQ(result.sums.by_pid.at(101).anon, 7U);
  EXPECT_EQ(result.sums.by_pid.at(102).anon, 8U);
  EXPECT_EQ(result.sums.by_pid.at(103).anon, 8U);
  EXPECT_EQ(result.sums.breaks, 1U);
}

TEST_F(IncrementalScanTest, EverybodyIsReadWhereTheHostSwapped) {
  StartFamily();
  host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 7\npgmigrate_success 0\n");
  EXPECT_EQ(Scan().pages_read, 32U);
  EXPECT_EQ(Scan().pages_read, 0U);
}

}  // namespace
}  // namespace cow::memory
