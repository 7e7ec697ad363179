// Large folios smaller than a huge page (mTHP): mapped page by page, counted as one folio.
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "collectors/procfs/kpage.h"
#include "collectors/procfs/pagemap.h"
#include "tests/live/host.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

constexpr size_t kFolioPages = 16;

class MthpTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (IsSkipped()) return;
    if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
    const std::string setting = "/sys/kernel/mm/transparent_hugepage/hugepages-" +
                                std::to_string(kFolioPages * PageBytes() / 1024) + "kB/enabled";
    if (!std::ifstream(setting)) GTEST_SKIP() << KernelLacks("large folios below a huge page (Linux 6.8)");
    path_ = setting;
    before_ = ReadHostFile(path_);
    setting_ = std::make_unique<HostSetting>(path_, "madvise");
  }
  void TearDown() override {
    if (setting_ == nullptr) return;
    setting_.reset();
    EXPECT_EQ(ReadHostFile(path_), before_) << "the host's setting is as it was";
  }

  // Maps whole folios that are no huge pages, and writes to them. False if the kernel made none.
  bool MapFolios(size_t pages) {
    workload().Map(0, "m", pages, "huge");
    Write(0, "m", 0, pages);
    return FoliosOf(pages) == pages / kFolioPages;
  }
  size_t FoliosOf(size_t pages) {
    size_t folios = 0;
    for (const uint64_t entry : ReadPagemap(workload().Pid(), workload().Address(0, "m"), pages)) {
      const uint64_t flags = test::WordOfPage("/proc/kpageflags", entry & procfs::kPagemapFrameMask);
      folios += (flags & procfs::kFrameCompoundHead) != 0 ? 1 : 0;
    }
    return folios;
  }

  static constexpr size_t kPages = 20 * kFolioPages;

 private:
  std::string path_;
  std::string before_;
  std::unique_ptr<HostSetting> setting_;
};

TEST_F(MthpTest, WritesOfBothSidesAreCountedByPage) {
  if (!MapFolios(kPages)) GTEST_SKIP() << "no large folios were to be had";
  const int child = ForkWarm(0);
  Sample before = Pass();
  Write(child, "m", 0, 3);
  Write(child, "m", 5 * kFolioPages, kFolioPages);  // a whole folio
  Write(0, "m", 7 * kFolioPages + 1, 2);
  Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 3 + kFolioPages);
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 2);
  EXPECT_EQ(Change(before, after).Of(kUnknownBreaks), 0);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -(5.0 + kFolioPages));
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
  EXPECT_EQ(Change(before, after).Pages(kUnattributed), 0);
  ExpectKernelsAccount(after, child);
  // The other side's pages of the folio are private by now, even if the kernel copies them.
  before = after;
  Write(0, "m", 0, 3);
  after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
  ExpectKernelsAccount(after, child);
}

TEST_F(MthpTest, FirstLookGuessesAtNothing) {
  if (!MapFolios(kPages)) GTEST_SKIP() << "no large folios were to be had";
  Idle(0);
  const Sample before = Pass();
  const int child = ForkWarm(0);
  Write(child, "m", 0, 10);
  Write(0, "m", 100, 20);
  const Sample after = Pass();
  const Change change(before, after);
  // Some kernels lose marks page by page. Pages without proof of a break are unattributed.
  EXPECT_EQ(change.Of(kUnknownBreaks), 0);
  EXPECT_GE(change.BreaksOfAllSides() + change.Pages(kUnattributed), 30);
  EXPECT_LE(change.Of(kChildBreaks), 10 + 60) << "with pages of the stack and libc's data";
  EXPECT_LE(change.Of(kParentBreaks), 20 + 60);
  EXPECT_EQ(after.Pages(kExposure) - before.Pages(kExposure),
            static_cast<double>(CountAnonymousMemory({workload().Pid(), workload().Pid(child)}).exposure_pages));
  ExpectKernelsAccount(after, child);
}

TEST_F(MthpTest, DroppedPartOfAFolio) {
  if (!MapFolios(kPages)) GTEST_SKIP() << "no large folios were to be had";
  const int child = ForkWarm(0);
  const Sample before = Pass();
  Do("dontneed " + std::to_string(child) + " m 4 8");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("unmap")), 8);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -8);
  ExpectKernelsAccount(after, child);
  Do("kill " + std::to_string(child));
  const Sample alone = Pass();
  EXPECT_EQ(Change(after, alone).BreaksOfAllSides(), 0);
  EXPECT_EQ(alone.At(kExposure), 0);
}

}  // namespace
}  // namespace cow::live
