// Runs the readers on this machine's kernel and compares their values with memory that the test prepared.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/kpage.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/mountinfo.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/smaps.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/statm.h"
#include "collectors/procfs/status.h"
#include "collectors/procfs/system.h"
#include "tests/support/child_process.h"
#include "tests/support/privileges.h"

namespace cow::procfs {
namespace {

using test::ChildProcess;

// Private anonymous memory without huge pages.
class Memory {
 public:
  Memory(const PageGeometry& geometry, uint64_t pages, int protection = PROT_READ | PROT_WRITE)
      : page_bytes_(geometry.page_bytes), bytes_(pages * geometry.page_bytes) {
    void* address = mmap(nullptr, bytes_, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) return;  // NOLINT: the C macro casts
    madvise(address, bytes_, MADV_NOHUGEPAGE);
    bytes_start_ = static_cast<volatile char*>(address);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (IsMapped()) munmap(const_cast<char*>(bytes_start_), bytes_);
  }

  bool IsMapped() const { return bytes_start_ != nullptr; }
  void Write(uint64_t page) const {
    if (IsMapped()) bytes_start_[page * page_bytes_] = 1;
  }
  char Read(uint64_t page) const { return IsMapped() ? bytes_start_[page * page_bytes_] : '?'; }
  uint64_t Start() const { return reinterpret_cast<uintptr_t>(bytes_start_); }
  uint64_t End() const { return Start() + bytes_; }
  uint64_t FirstPage() const { return Start() / page_bytes_; }

 private:
  size_t page_bytes_;
  size_t bytes_;
  volatile char* bytes_start_ = nullptr;
};

class LiveTest : public testing::Test {
 protected:
  PageEntry EntryOf(pid_t pid, uint64_t page) const {
    const auto pagemap = Pagemap::Open(root_, pid);
    std::array<PageEntry, 1> entry{};
    if (!pagemap || !pagemap->Read(PageNumber(page), entry)) return {};
    return entry[0];
  }
  Pfn FrameOf(pid_t pid, uint64_t page) const { return EntryOf(pid, page).Frame(); }

  // Two pages that were only read share one frame, unless the kernel gives each its own. If frame numbers are hidden,
  // a page that is mapped once has its own frame.
  bool HasZeroPage() const {
    const Memory memory(geometry_, 2);
    for (const uint64_t page : {0U, 1U}) EXPECT_EQ(memory.Read(page), 0);
    const PageEntry entry = EntryOf(getpid(), memory.FirstPage());
    if (entry.Frame() == Pfn::None()) return !entry.IsMappedOnce();
    return entry.Frame() == FrameOf(getpid(), memory.FirstPage() + 1);
  }

  static uint64_t WordOf(const KpageFile& file, Pfn frame) {
    const std::array<Pfn, 1> frames{frame};
    std::array<uint64_t, 1> word{};
    uint64_t reads = 0;
    EXPECT_TRUE(file.Read(frames, word, reads));
    return word[0];
  }

  Root root_;
  PageGeometry geometry_ = ReadPageGeometry(root_).value();
};

TEST_F(LiveTest, StatStatmAndStatusAgree) {
  const auto stat = ReadStat(root_, getpid());
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->pid, getpid());
  EXPECT_EQ(stat->ppid, getppid());
  EXPECT_EQ(stat->comm, "procfs_test");
  EXPECT_EQ(stat->state, 'R');
  EXPECT_TRUE(stat->LayoutKnown());
  EXPECT_GT(stat->start_data, 0U);
  EXPECT_GT(stat->start_brk, 0U);
  EXPECT_FALSE(stat->IsKernelThread());

  const auto status = ReadStatus(root_, getpid());
  ASSERT_TRUE(status) << status.error().ToString();
  EXPECT_EQ(status->tgid, getpid());
  EXPECT_EQ(status->effective_uid, geteuid());
  ASSERT_TRUE(status->rss_anon_bytes);
  EXPECT_TRUE(status->rss_file_bytes);
  EXPECT_TRUE(status->effective_capabilities);

  const auto statm = ReadStatm(root_, getpid());
  ASSERT_TRUE(statm) << statm.error().ToString();
  EXPECT_EQ(statm->size_pages * geometry_.page_bytes, ReadStat(root_, getpid())->virtual_bytes);
  EXPECT_GT(statm->resident_pages, statm->shared_pages);
}

TEST_F(LiveTest, MapsAndSmapsShowAMapping) {
  const Memory memory(geometry_, 16);
  for (uint64_t page = 0; page < 5; ++page) memory.Write(page);
  const auto vmas = ReadMaps(root_, getpid());
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  const auto vma = std::find_if(vmas->begin(), vmas->end(),
                                [&](const Vma& v) { return v.start <= memory.Start() && memory.End() <= v.end; });
  ASSERT_NE(vma, vmas->end());
  EXPECT_TRUE(vma->readable && vma->writable && !vma->executable && !vma->shared);
  EXPECT_TRUE(std::any_of(vmas->begin(), vmas->end(), [](const Vma& v) { return v.path == "[stack]"; }));

  const auto areas = ReadSmaps(root_, getpid());
  ASSERT_TRUE(areas) << areas.error().ToString();
  const auto area = std::find_if(areas->begin(), areas->end(), [&](const SmapsVma& v) {
    return v.vma.start <= memory.Start() && memory.End() <= v.vma.end;
  });
  ASSERT_NE(area, areas->end());
  EXPECT_GE(area->rss_bytes, 5 * geometry_.page_bytes);

  const auto rollup = ReadSmapsRollup(root_, getpid());
  ASSERT_TRUE(rollup) << rollup.error().ToString();
  EXPECT_GE(rollup->rss_bytes, area->rss_bytes);
  EXPECT_GE(rollup->anonymous_bytes, 5 * geometry_.page_bytes);
}

TEST_F(LiveTest, CgroupAndMountinfoAreReadable) {
  EXPECT_TRUE(ReadCgroups(root_, getpid()));
  auto mounts = MountinfoReader::OpenSelf(root_);
  ASSERT_TRUE(mounts) << mounts.error().ToString();
  bool has_proc = false;
  for (auto mount = mounts->Next(); mount && *mount != nullptr; mount = mounts->Next()) {
    has_proc = has_proc || (*mount)->filesystem_type == "proc";
  }
  EXPECT_TRUE(has_proc);
}

TEST_F(LiveTest, PagemapShowsWrittenReadAndUntouchedPages) {
  const Memory memory(geometry_, 16);
  for (const uint64_t page : {0U, 2U, 4U}) memory.Write(page);
  EXPECT_EQ(memory.Read(6), 0);
  const auto pagemap = Pagemap::Open(root_, getpid());
  ASSERT_TRUE(pagemap) << pagemap.error().ToString();
  EXPECT_TRUE(pagemap->Alive());
  std::array<PageEntry, 16> entries{};
  ASSERT_TRUE(pagemap->Read(PageNumber(memory.FirstPage()), entries));
  const bool has_zero_page = HasZeroPage();
  for (uint64_t page = 0; page < entries.size(); ++page) {
    const bool written = page == 0 || page == 2 || page == 4;
    EXPECT_EQ(entries[page].IsPresent(), written || page == 6) << page;
    EXPECT_EQ(entries[page].IsMappedOnce(), written || (page == 6 && !has_zero_page)) << page;
    EXPECT_FALSE(entries[page].IsFile()) << page;
    EXPECT_FALSE(entries[page].IsRealSwap());
  }
}

TEST_F(LiveTest, PagesOutsideOfUserSpaceAreZero) {
  const auto pagemap = Pagemap::Open(root_, getpid());
  ASSERT_TRUE(pagemap);
  std::array<PageEntry, 512> entries{};
  for (const uint64_t page :
       {0xffffffffff600000U / geometry_.page_bytes, (uint64_t{1} << 63U) / geometry_.page_bytes, ~uint64_t{0}}) {
    entries.fill(PageEntry(99));
    const auto read = pagemap->Read(PageNumber(page), entries);
    ASSERT_TRUE(read) << read.error().ToString();
    EXPECT_EQ(std::count(entries.begin(), entries.end(), PageEntry()), 512) << page;
  }
  // The last pages of user space and some above, which the kernel answers with a short read.
  for (const uint64_t bits : {47U, 48U, 52U, 56U}) {
    EXPECT_TRUE(pagemap->Read(PageNumber((uint64_t{1} << bits) / geometry_.page_bytes - 256), entries)) << bits;
  }
}

TEST_F(LiveTest, ZeroPageIsWhatAReadFaultShows) {
  if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  const auto zero_frame = FindZeroPageFrame(root_, geometry_);
  ASSERT_TRUE(zero_frame);
  EXPECT_EQ(*zero_frame != kNoZeroPage, HasZeroPage());
  if (!HasZeroPage()) GTEST_SKIP() << "missing kernel feature: zero page";
  EXPECT_EQ(FindZeroPageFrame(root_, geometry_), zero_frame);
  const Memory memory(geometry_, 2);
  EXPECT_EQ(memory.Read(0), 0);
  memory.Write(1);
  EXPECT_EQ(FrameOf(getpid(), memory.FirstPage()), *zero_frame);
  EXPECT_NE(FrameOf(getpid(), memory.FirstPage() + 1), *zero_frame);
  const auto flags = KpageFile::OpenFlags(root_);
  ASSERT_TRUE(flags) << flags.error().ToString();
  EXPECT_NE(WordOf(*flags, *zero_frame) & kFrameZeroPage, 0U);
}

TEST_F(LiveTest, KpageFilesShowACopy) {
  if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  const auto flags = KpageFile::OpenFlags(root_);
  const auto counts = KpageFile::OpenCounts(root_);
  ASSERT_TRUE(flags && counts);
  const Memory memory(geometry_, 1);
  memory.Write(0);
  const uint64_t page = memory.FirstPage();
  const Pfn frame = FrameOf(getpid(), page);
  EXPECT_NE(WordOf(*flags, frame) & kFrameAnon, 0U);
  EXPECT_NE(WordOf(*flags, frame) & kFrameAnonExclusive, 0U);
  EXPECT_EQ(WordOf(*counts, frame), 1U);

  const ChildProcess child([&](const ChildProcess::Steps& steps) {
    steps.Report();
    if (!steps.AwaitGo()) return 1;
    memory.Write(0);
    steps.Report();
    steps.AwaitGo();
    return 0;
  });
  ASSERT_TRUE(child.AwaitReport());
  EXPECT_EQ(FrameOf(child.pid(), page), frame);
  EXPECT_EQ(WordOf(*counts, frame), 2U);
  EXPECT_EQ(WordOf(*flags, frame) & kFrameAnonExclusive, 0U);
  EXPECT_FALSE(EntryOf(child.pid(), page).IsMappedOnce());

  ASSERT_TRUE(child.Go());
  ASSERT_TRUE(child.AwaitReport());
  const Pfn copy = FrameOf(child.pid(), page);
  EXPECT_NE(copy, frame);
  EXPECT_EQ(FrameOf(getpid(), page), frame);
  EXPECT_EQ(WordOf(*counts, frame), 1U);
  EXPECT_EQ(WordOf(*counts, copy), 1U);
  EXPECT_EQ(WordOf(*flags, frame) & kFrameAnonExclusive, 0U);  // the holder of the original
  EXPECT_NE(WordOf(*flags, copy) & kFrameAnonExclusive, 0U);   // the writer's copy
}

class LiveScanTest : public LiveTest {
 protected:
  void SetUp() override {
    if (!scan_.available()) GTEST_SKIP() << "missing kernel feature: PAGEMAP_SCAN (Linux 6.7)";
    auto pagemap = Pagemap::Open(root_, getpid());
    ASSERT_TRUE(pagemap) << pagemap.error().ToString();
    pagemap_.emplace(std::move(*pagemap));
  }

  std::vector<ScanRegion> Scan(const ScanRequest& request, uint64_t slice_bytes) {
    std::vector<ScanRegion> regions;
    calls_ = 0;
    rests_ = 0;
    const auto scanned = scan_.Scan(*pagemap_, request, slice_bytes, regions, calls_, [this] { ++rests_; });
    EXPECT_TRUE(scanned) << scanned.error().ToString();
    return regions;
  }

  PagemapScan scan_ = PagemapScan::Probe(root_, geometry_);
  std::optional<Pagemap> pagemap_;
  uint64_t calls_ = 0;
  uint64_t rests_ = 0;
};

TEST_F(LiveScanTest, ProbeFindsTheCategories) {
  EXPECT_TRUE(scan_.Supports(kScanPresent | kScanSwapped | kScanZeroPage | kScanHuge));
  EXPECT_FALSE(scan_.Supports(uint64_t{1} << 40));
}

TEST_F(LiveScanTest, FindsPopulatedRangesAndHoles) {
  const Memory memory(geometry_, 64);
  const auto address = [&](uint64_t page) { return memory.Start() + page * geometry_.page_bytes; };
  for (uint64_t page = 3; page < 10; ++page) memory.Write(page);
  for (uint64_t page = 10; page < 12; ++page) EXPECT_EQ(memory.Read(page), 0);
  memory.Write(63);
  const uint64_t categories = kScanPresent | kScanZeroPage;
  const ScanRequest request{memory.Start(), memory.End(), kScanPresent, categories};
  std::vector<ScanRegion> expected{{address(3), address(10), kScanPresent},
                                   {address(10), address(12), categories},
                                   {address(63), memory.End(), kScanPresent}};
  if (!HasZeroPage()) {  // pages that were read look like written ones
    expected[0].end = address(12);
    expected.erase(expected.begin() + 1);
  }
  for (const uint64_t slice_pages : {1000U, 64U, 5U, 1U}) {
    const auto regions = Scan(request, slice_pages * geometry_.page_bytes);
    ASSERT_EQ(regions.size(), expected.size()) << slice_pages;
    for (size_t i = 0; i < regions.size(); ++i) {
      EXPECT_EQ(regions[i].start, expected[i].start) << i;
      EXPECT_EQ(regions[i].end, expected[i].end) << i;
      EXPECT_EQ(regions[i].categories, expected[i].categories) << i;
    }
    EXPECT_EQ(calls_, (64 + slice_pages - 1) / slice_pages);
    EXPECT_EQ(rests_, calls_ - 1);
  }
  EXPECT_TRUE(Scan({address(12), address(63), kScanPresent, categories}, 1 << 30).empty());
  EXPECT_TRUE(Scan({memory.Start(), memory.Start(), kScanPresent, categories}, 4096).empty());
  EXPECT_EQ(calls_, 0U);
}

TEST_F(LiveScanTest, ContinuesWhenTheVectorIsFull) {
  constexpr uint64_t kRegions = 2000;
  const Memory memory(geometry_, 2 * kRegions);
  for (uint64_t i = 0; i < kRegions; ++i) memory.Write(2 * i);
  const auto regions = Scan({memory.Start(), memory.End(), kScanPresent, kScanPresent}, uint64_t{1} << 40);
  ASSERT_EQ(regions.size(), kRegions);
  for (uint64_t i = 0; i < kRegions; ++i) {
    EXPECT_EQ(regions[i].start, memory.Start() + 2 * i * geometry_.page_bytes);
    EXPECT_EQ(regions[i].end, regions[i].start + geometry_.page_bytes);
  }
  EXPECT_GT(calls_, 1U);
  EXPECT_LT(calls_, kRegions / 100);
}

TEST_F(LiveScanTest, HugeReservationCostsFewCalls) {
  const Memory memory(geometry_, (uint64_t{1} << 40) / geometry_.page_bytes, PROT_NONE);
  if (!memory.IsMapped()) GTEST_SKIP() << "no address space for 1 TiB";
  EXPECT_TRUE(Scan({memory.Start(), memory.End(), kScanPresent, kScanPresent}, uint64_t{1} << 38).empty());
  EXPECT_LE(calls_, 4U);
}

TEST_F(LiveScanTest, VsyscallAreaIsEmpty) {
  EXPECT_TRUE(Scan({0xffffffffff600000U, 0xffffffffff601000U, kScanPresent, kScanPresent}, 1 << 20).empty());
  EXPECT_EQ(calls_, 0U);
}

// Another user without capabilities sees neither the memory nor the layout.
TEST_F(LiveTest, OtherUsersAreDenied) {
  if (geteuid() != 0) GTEST_SKIP() << test::MissingPrivilege(test::kOtherUsers);
  constexpr uid_t kNobody = 65534;
  ChildProcess child([this](const ChildProcess::Steps&) {
    if (setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0) return 1;
    const pid_t pid = getppid();
    const auto denied = [](const auto& result) { return !result && result.error().kind == ErrorKind::kDenied; };
    if (!denied(Pagemap::Open(root_, pid))) return 2;
    if (!denied(ReadMaps(root_, pid))) return 3;
    if (!denied(ReadSmaps(root_, pid))) return 4;
    if (!denied(ReadSmapsRollup(root_, pid))) return 5;
    if (!denied(KpageFile::OpenFlags(root_)) || !denied(KpageFile::OpenCounts(root_))) return 6;
    const auto stat = ReadStat(root_, pid);
    if (!stat || stat->LayoutKnown()) return 7;
    if (!ReadStatus(root_, pid) || !ReadStatm(root_, pid)) return 8;
    if (SeesEveryProcess(root_)) return 9;
    if (FindZeroPageFrame(root_, geometry_)) return 10;
    return 0;
  });
  EXPECT_EQ(child.Reap(), 0);
}

}  // namespace
}  // namespace cow::procfs
