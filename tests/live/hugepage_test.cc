// All kinds of huge pages: split by a write, mapped by single entries, made by khugepaged, and hugetlb pages.
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "tests/live/host.h"
#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr const char* kSplits = "cow_huge_page_splits_total";

// Only PAGEMAP_SCAN shows huge pages; without it splits are unknown.
void ExpectSplits(const Change& change, double splits) {
  if (change.Has(kSplits)) {
    EXPECT_EQ(change.Of(kSplits), splits);
  }
}
constexpr const char* kMappedHuge = "cow_huge_page_bytes{backing=anon,mapped=pmd}";

class HugePageTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (IsSkipped()) return;
    if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  }
  static size_t Window() { return HugePageBytes() / PageBytes(); }
};

TEST_F(HugePageTest, WriteByEitherSideSplitsItsOwn) {
  const int child = ForkOver("t", 4 * Window(), "huge");
  Sample before = Pass();
  if (!before.Has(kMappedHuge)) GTEST_SKIP() << KernelLacks("PAGEMAP_SCAN (Linux 6.7)");
  ASSERT_EQ(before.At(kMappedHuge), 8 * static_cast<double>(HugePageBytes()));
  for (const int writer : {0, child}) {
    SCOPED_TRACE(writer);
    const char* side = writer == 0 ? kParentBreaks : kChildBreaks;
    const size_t first = writer == 0 ? 10 : Window() + 20;
    Write(writer, "t", first, 1);
    Sample after = Pass();
    EXPECT_EQ(Change(before, after).Of(side), 1);
    EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 1);
    ExpectSplits(Change(before, after), 1);
    EXPECT_EQ(Change(before, after).Pages(kExposure), -1);
    EXPECT_EQ(Change(before, after).Of(kMappedHuge), -static_cast<double>(HugePageBytes()));
    EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
    EXPECT_EQ(Change(before, after).Pages(kUnattributed), 0);
    ExpectKernelsAccount(after, child);
    before = after;
  }
  // More pages of a huge page that is already split.
  Write(0, "t", 11, 30);
  Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 30);
  ExpectSplits(Change(before, after), 0);
  ExpectKernelsAccount(after, child);
  // The other side's pages are private by now: the kernel may copy them, but no fork shares them. Bit 56 describes the
  // whole folio and says "shared".
  before = after;
  Write(child, "t", 10, 31);
  after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
  ExpectKernelsAccount(after, child);
}

TEST_F(HugePageTest, BothSidesSplitTheSamePage) {
  const int child = ForkOver("t", 2 * Window(), "huge");
  const Sample before = Pass();
  Write(0, "t", 0, 100);
  Write(child, "t", 200, 100);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 100);
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 100);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -200);
  if (before.Has(kMappedHuge)) {
    ExpectSplits(Change(before, after), 2);
  }
  ExpectKernelsAccount(after, child);
  // The whole huge page: writes of the last holder copy no shared page.
  Write(0, "t", 0, 2 * Window());
  const Sample written = Pass();
  EXPECT_EQ(Change(after, written).Of(kParentBreaks), static_cast<double>(2 * Window() - 200));
  ExpectKernelsAccount(written, child);
  Do("kill " + std::to_string(child));
  const Sample alone = Pass();
  EXPECT_EQ(Change(written, alone).BreaksOfAllSides(), 0);
  EXPECT_EQ(alone.At(kExposure), 0);
}

TEST_F(HugePageTest, DroppedTailOfAHugePage) {
  const int child = ForkOver("t", 2 * Window(), "huge");
  const Sample before = Pass();
  Do("dontneed " + std::to_string(child) + " t 100 50");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("unmap")), 50);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -50);
  ExpectSplits(Change(before, after), 0);  // no process wrote
  ExpectKernelsAccount(after, child);
}

// The ledger exceeds its limit and drops frames: no record shows which of two huge pages is new.
TEST_F(HugePageTest, CollapseOverTheLedgersLimit) {
  collectors::EngineOptions options = DefaultOptions();
  options.ledger_bytes = 0;
  collectors::Engine engine(procfs::Root(), options);
  PassOf(engine, group());
  const int child = ForkOver("t", 4 * Window(), "huge");
  const std::string window = std::to_string(Window());
  Do("write " + std::to_string(child) + " t 0 2 " + std::to_string(2 * Window()));
  Do("write 0 t " + window + " 2 " + window);
  const Sample before = PassOf(engine, group());
  Do("madvise " + std::to_string(child) + " t 25 0 " + window);  // MADV_COLLAPSE
  const Sample after = PassOf(engine, group());
  const Change change(before, after);
  const auto shared_pages = static_cast<double>(Window() - 1);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("collapse")), shared_pages);
  EXPECT_EQ(change.UnsharedPages(), shared_pages);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  ExpectKernelsAccount(after, child);
  Do("kill " + std::to_string(child));
  const Sample alone = PassOf(engine, group());
  EXPECT_EQ(Change(after, alone).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(after, alone).UnsharedPages(), -Change(after, alone).Pages(kExposure));
}

// Pages of the new huge page are dropped before the next look, so it is no longer mapped as a huge page.
TEST_F(HugePageTest, CollapseOfWhichPartsAreGoneIsCollapse) {
  const int child = ForkOver("t", 2 * Window(), "huge");
  Write(child, "t", 0, 1);  // splits the huge page, so that there is something to collapse
  const Sample before = Pass();
  Do("madvise " + std::to_string(child) + " t 25 0 " + std::to_string(Window()));  // MADV_COLLAPSE
  Do("dontneed " + std::to_string(child) + " t 8 2");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("collapse")), static_cast<double>(Window() - 3));
  EXPECT_EQ(change.Pages(Unshared("unmap")), 2);
}

// The new huge page looks like one that khugepaged made.
TEST_F(HugePageTest, DroppedAndTouchedAgainAsAWholeIsCollapse) {
  const int child = ForkOver("t", 2 * Window(), "huge");
  const Sample before = Pass();
  Do("dontneed " + std::to_string(child) + " t 0 " + std::to_string(Window()));
  Write(child, "t", 0, 1);
  const Sample after = Pass();
  if (after.Has(kMappedHuge) && after.At(kMappedHuge) != before.At(kMappedHuge)) GTEST_SKIP() << "no huge page came";
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("collapse")), static_cast<double>(Window()));
  EXPECT_EQ(Change(before, after).Pages(kExposure), -static_cast<double>(Window()));
  ExpectKernelsAccount(after, child);
}

// khugepaged replaces shared pages by a huge page of one process, without a fault or a copy on write.
TEST_F(HugePageTest, CollapseByKhugepagedIsCollapse) {
  constexpr int kSeconds = 20;
  const std::string directory = "/sys/kernel/mm/transparent_hugepage/khugepaged/";
  const size_t pages = 2 * Window();
  const int child = ForkOver("a", pages, "aligned");
  // khugepaged ignores ranges with all 512 pages shared.
  Do("write " + std::to_string(child) + " a 0 2 " + std::to_string(Window()));
  const Sample before = Pass();
  if (before.Has(kMappedHuge) && before.At(kMappedHuge) != 0) GTEST_SKIP() << "huge pages come unasked";
  const HurriedThread thread("khugepaged");
  const HostSetting scan(directory + "scan_sleep_millisecs", "10");
  const HostSetting allocate(directory + "alloc_sleep_millisecs", "10");
  const HostSetting together(directory + "pages_to_scan", "65536");
  const HostSetting shared(directory + "max_ptes_shared", "511");
  Do("madvise " + std::to_string(child) + " a 14 0 " + std::to_string(pages));  // MADV_HUGEPAGE
  const uint64_t address = workload().Address(child, "a");
  const pid_t pid = workload().Pid(child);
  const auto is_collapsed = [&] {
    const auto entries = ReadPagemap(pid, address, pages);
    constexpr uint64_t kFrame = (uint64_t{1} << 55) - 1;
    bool collapsed = true;
    for (size_t page = 1; page < pages; ++page) {
      const bool follows = (entries[page] & kFrame) == (entries[page - 1] & kFrame) + 1;
      collapsed = collapsed && (follows || page % Window() == 0);
    }
    return collapsed;
  };
  // Passes continue during this.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kSeconds);
  while (!is_collapsed() && std::chrono::steady_clock::now() < end) {
    Pass();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (!is_collapsed()) GTEST_SKIP() << "khugepaged did nothing";
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  const auto shared_pages = static_cast<double>(pages - 2);
  EXPECT_EQ(change.Pages(Unshared("collapse")), shared_pages);
  EXPECT_EQ(change.UnsharedPages(), shared_pages);
  EXPECT_EQ(change.Pages(kExposure), -shared_pages);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  ExpectKernelsAccount(after, child);
  // A write to it breaks nothing.
  Write(child, "a", 0, 100);
  Write(0, "a", 300, 100);
  const Sample written = Pass();
  ExpectNoVerdict(Change(after, written));
  ExpectSplits(Change(after, written), 0);
}

class HugetlbTest : public LiveTest {};

// Fork shares a private hugetlb page like any other page; a write copies it whole.
TEST_F(HugetlbTest, WritesCopyWholePages) {
  const size_t window = HugePageBytes() / PageBytes();
  const HostSetting reserve("/proc/sys/vm/nr_hugepages", "16");
  if (reserve.Number() < 16) GTEST_SKIP() << "no free huge pages";
  workload().Map(0, "h", 4 * window, "hugetlb");
  Write(0, "h", 0, 4 * window);
  const Sample alone = Pass();
  const int child = ForkWarm();
  const Sample before = Pass();
  const auto huge_page = static_cast<double>(window);
  EXPECT_EQ(alone.Pages("cow_resident_bytes{backing=hugetlb,sharing=private}"), 4 * huge_page);
  EXPECT_EQ(before.Pages("cow_resident_bytes{backing=hugetlb,sharing=shared}"), 8 * huge_page);
  EXPECT_EQ(before.Pages("cow_resident_bytes{backing=hugetlb,sharing=private}"), 0);
  EXPECT_GE(before.Pages(kExposure), 4 * huge_page);
  Write(child, "h", 5, 1);
  const Sample written = Pass();
  EXPECT_EQ(Change(before, written).Of(kChildBreaks), huge_page) << "in base pages";
  EXPECT_EQ(Change(before, written).Pages(kAnonBreaks), huge_page);
  EXPECT_EQ(Change(before, written).Pages(kExposure), -huge_page);
  EXPECT_EQ(Change(before, written).Pages(kFootprint), huge_page);
  ExpectSplits(Change(before, written), 0);
  EXPECT_EQ(Change(before, written).UnsharedPages(), 0);
  EXPECT_EQ(written.Pages("cow_resident_bytes{backing=hugetlb,sharing=private}"), 2 * huge_page);
  Write(0, "h", window, 1);
  const Sample after = Pass();
  EXPECT_EQ(Change(written, after).Of(kParentBreaks), huge_page);
  EXPECT_EQ(Change(written, after).Pages(kExposure), -huge_page);
  Do("kill " + std::to_string(child));
  EXPECT_EQ(Change(after, Pass()).BreaksOfAllSides(), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
}

// The kernel's internal mounts of hugetlbfs are not in mountinfo.
TEST_F(HugetlbTest, SharedMemfdAndSystemVArePageCache) {
  const size_t window = HugePageBytes() / PageBytes();
  const HostSetting reserve("/proc/sys/vm/nr_hugepages", "16");
  if (reserve.Number() < 16) GTEST_SKIP() << "no free huge pages";
  const Sample before = Pass();
  size_t mapped = 0;
  for (const std::string& command : {"memfd 0 m " + std::to_string(2 * window) + " shared hugetlb",
                                     "shm 0 s " + std::to_string(2 * window) + " hugetlb"}) {
    SCOPED_TRACE(command);
    Do(command);
    Write(0, std::string_view(command).substr(0, 1) == "m" ? "m" : "s", 0, 2 * window);
    mapped += 2 * window;
    const Sample one = Pass();
    EXPECT_EQ(one.Pages("cow_resident_bytes{backing=hugetlb,sharing=private}") +
                  one.Pages("cow_resident_bytes{backing=hugetlb,sharing=shared}"),
              static_cast<double>(mapped));
    EXPECT_LE(Change(before, one).Pages(kFootprint), 8) << "its stack, at most";
    EXPECT_EQ(Change(before, one).Pages("cow_resident_bytes{backing=shmem,sharing=private}"), 0);
  }
  const int child = ForkWarm();
  const Sample forked = Pass();
  for (const int id : {0, child}) {  // fork leaves the page tables of shared mappings to page faults
    for (const char* name : {"m", "s"}) Write(id, name, 0, 2 * window);
  }
  const Sample written = Pass();
  ExpectNoVerdict(Change(forked, written));
  EXPECT_EQ(written.Pages("cow_resident_bytes{backing=hugetlb,sharing=private}") +
                written.Pages("cow_resident_bytes{backing=hugetlb,sharing=shared}"),
            static_cast<double>(2 * mapped));
  EXPECT_EQ(Change(forked, written).Pages(kFootprint), 0);
  EXPECT_EQ(written.Pages(kFootprint),
            static_cast<double>(CountAnonymousMemory({workload().Pid(), workload().Pid(child)}).footprint_pages));
}

TEST_F(HugetlbTest, PrivateMemfdIsCopiedByWholePages) {
  const size_t window = HugePageBytes() / PageBytes();
  const auto huge_page = static_cast<double>(window);
  const HostSetting reserve("/proc/sys/vm/nr_hugepages", "16");
  if (reserve.Number() < 16) GTEST_SKIP() << "no free huge pages";
  Idle(0);
  const Sample before = Pass();
  Do("memfd 0 m " + std::to_string(2 * window) + " private hugetlb");
  Write(0, "m", 0, 2 * window);
  const Sample one = Pass();
  EXPECT_EQ(Change(before, one).Pages(kFootprint), 2 * huge_page);
  EXPECT_EQ(one.Pages("cow_resident_bytes{backing=hugetlb,sharing=private}"), 2 * huge_page);
  const int child = ForkWarm();
  const Sample forked = Pass();
  Write(child, "m", 5, 1);
  const Sample written = Pass();
  EXPECT_EQ(Change(forked, written).Of(kChildBreaks), huge_page);
  EXPECT_EQ(Change(forked, written).Pages(kExposure), -huge_page);
  EXPECT_EQ(Change(forked, written).Pages(kFootprint), huge_page);
  EXPECT_EQ(Change(forked, written).UnsharedPages(), 0);
}

}  // namespace
}  // namespace cow::live
