// Tests the readers while a process ends. Every state must give "gone", never another error and never a value.

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/process_list.h"
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

class ProcessEndTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::WhyNoZombies(); !why.empty()) GTEST_SKIP() << why;
  }

  template <class T>
  static testing::AssertionResult IsGone(const Result<T>& result) {
    if (result) return testing::AssertionFailure() << "a value";
    if (result.error().kind != ErrorKind::kGone) return testing::AssertionFailure() << result.error().ToString();
    return testing::AssertionSuccess();
  }

  // Checks all readers that need an address space.
  void ExpectNoMemory(pid_t pid) const {
    const auto pagemap = Pagemap::Open(root_, pid);
    if (pagemap) {  // older kernels check only at read
      std::array<PageEntry, 1> entry{};
      EXPECT_TRUE(IsGone(pagemap->Read(StackPage(), entry)));
    } else {
      EXPECT_TRUE(IsGone(pagemap));
    }
    EXPECT_TRUE(IsGone(ReadMaps(root_, pid)));
    EXPECT_TRUE(IsGone(ReadSmaps(root_, pid)));
    EXPECT_TRUE(IsGone(ReadSmapsRollup(root_, pid)));
  }

  void ExpectDead(const Pagemap& pagemap) const {
    std::array<PageEntry, 512> entries{};
    EXPECT_TRUE(IsGone(pagemap.Read(StackPage(), entries)));
    EXPECT_TRUE(IsGone(pagemap.Read(geometry_.PageOf(0xffffffffff600000U), entries)));
    EXPECT_FALSE(pagemap.Alive());
    if (!scan_.available()) return;
    // An error or, on some kernels, success with no regions.
    std::vector<ScanRegion> regions;
    uint64_t calls = 0;
    const uint64_t start = StackPage().Address(geometry_.page_bytes);
    const ScanRequest request{start, start + geometry_.page_bytes, kScanPresent, kScanPresent};
    const auto scanned = scan_.Scan(pagemap, request, geometry_.huge_page_bytes, regions, calls, [] {});
    EXPECT_TRUE(scanned || IsGone(scanned));
    EXPECT_TRUE(regions.empty());
  }

  // A page mapped in this process and in each child.
  PageNumber StackPage() const { return geometry_.PageOf(reinterpret_cast<uintptr_t>(&mapped_here_)); }

  Root root_;
  PageGeometry geometry_ = ReadPageGeometry(root_).value();
  PagemapScan scan_ = PagemapScan::Probe(root_, geometry_);
  char mapped_here_ = 0;
};

TEST_F(ProcessEndTest, ReapedProcessIsGone) {
  ChildProcess child(test::Sleep);
  ASSERT_TRUE(child.AwaitReport());
  child.Kill();
  child.Reap();
  const pid_t pid = child.pid();
  ExpectNoMemory(pid);
  EXPECT_TRUE(IsGone(Pagemap::Open(root_, pid)));
  EXPECT_TRUE(IsGone(ReadStat(root_, pid)));
  EXPECT_TRUE(IsGone(ReadStatm(root_, pid)));
  EXPECT_TRUE(IsGone(ReadStatus(root_, pid)));
  EXPECT_TRUE(IsGone(ReadCgroups(root_, pid)));
  EXPECT_TRUE(IsGone(ReadKsmMergingPages(root_, pid)));
  EXPECT_TRUE(IsGone(ReadLink(root_, root_.ProcPath(pid, "exe"))));
}

TEST_F(ProcessEndTest, ZombieHasNoMemoryButAStat) {
  const ChildProcess child(test::Sleep);
  ASSERT_TRUE(child.AwaitReport());
  child.Kill();
  ASSERT_TRUE(child.AwaitZombie());
  ExpectNoMemory(child.pid());
  const auto stat = ReadStat(root_, child.pid());
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_TRUE(stat->IsZombie());
  EXPECT_FALSE(stat->LayoutKnown());
  const auto status = ReadStatus(root_, child.pid());
  ASSERT_TRUE(status) << status.error().ToString();
  EXPECT_FALSE(status->rss_anon_bytes);
  EXPECT_TRUE(ReadStatm(root_, child.pid()));
  EXPECT_TRUE(ReadCgroups(root_, child.pid()));
}

TEST_F(ProcessEndTest, DescriptorEndsWithExit) {
  ChildProcess child(test::Sleep);
  ASSERT_TRUE(child.AwaitReport());
  const auto pagemap = Pagemap::Open(root_, child.pid());
  ASSERT_TRUE(pagemap) << pagemap.error().ToString();
  EXPECT_TRUE(pagemap->Alive());
  child.Kill();
  ASSERT_TRUE(child.AwaitZombie());
  ExpectDead(*pagemap);
  child.Reap();
  ExpectDead(*pagemap);
}

TEST_F(ProcessEndTest, DescriptorEndsWithExec) {
  const ChildProcess child([](const ChildProcess::Steps& steps) {
    steps.Report();
    steps.AwaitGo();
    execl("/bin/sleep", "sleep", "1000", nullptr);
    return 1;
  });
  ASSERT_TRUE(child.AwaitReport());
  const auto pagemap = Pagemap::Open(root_, child.pid());
  ASSERT_TRUE(pagemap) << pagemap.error().ToString();
  EXPECT_TRUE(pagemap->Alive());
  ASSERT_TRUE(child.Go());
  ASSERT_TRUE(child.AwaitClose());  // exec closes it after replacing the memory
  ExpectDead(*pagemap);

  const auto reopened = Pagemap::Open(root_, child.pid());
  ASSERT_TRUE(reopened) << reopened.error().ToString();
  const auto vmas = ReadMaps(root_, child.pid());
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  EXPECT_TRUE(reopened->Alive());
}

TEST_F(ProcessEndTest, ZombieLeaderHidesTheMemoryOfItsThreads) {
  const ChildProcess child([](const ChildProcess::Steps& steps) {
    std::thread([&steps] {
      steps.Report();
      steps.AwaitGo();
      _exit(0);
    }).detach();
    syscall(SYS_exit, 0);  // ends only this thread
    return 1;
  });
  ASSERT_TRUE(child.AwaitReport());
  const pid_t pid = child.pid();
  for (int i = 0; i < 1000 && !ReadStat(root_, pid)->IsZombie(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const auto stat = ReadStat(root_, pid);
  ASSERT_TRUE(stat) << stat.error().ToString();
  ASSERT_TRUE(stat->IsZombie());
  EXPECT_EQ(stat->num_threads, 2);
  ExpectNoMemory(pid);

  const auto pids = ListProcesses(root_);
  ASSERT_TRUE(pids);
  EXPECT_TRUE(std::binary_search(pids->begin(), pids->end(), pid));
  const Root tasks(root_.ProcPath(pid, "task"));
  const auto threads = ListProcesses(tasks);
  ASSERT_TRUE(threads) << threads.error().ToString();
  const auto thread = std::find_if(threads->begin(), threads->end(), [pid](pid_t tid) { return tid != pid; });
  ASSERT_NE(thread, threads->end());
  const auto vmas = ReadMaps(tasks, *thread);
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  EXPECT_FALSE(vmas->empty());
}

// Readers return values or "gone" at every moment of many short lives.
TEST_F(ProcessEndTest, NothingButGoneWhileProcessesEnd) {
  const auto fine = [](const auto& result) { return result || result.error().kind == ErrorKind::kGone; };
  for (int i = 0; i < 50; ++i) {
    ChildProcess child([](const ChildProcess::Steps&) { return 0; });
    const pid_t pid = child.pid();
    for (int round = 0; round < 10; ++round) {
      EXPECT_TRUE(fine(ReadStat(root_, pid)));
      EXPECT_TRUE(fine(ReadMaps(root_, pid)));
      EXPECT_TRUE(fine(ReadSmapsRollup(root_, pid)));
      const auto pagemap = Pagemap::Open(root_, pid);
      EXPECT_TRUE(fine(pagemap));
      std::array<PageEntry, 16> entries{};
      EXPECT_TRUE(!pagemap || fine(pagemap->Read(StackPage(), entries)));
    }
    child.Reap();
  }
}

}  // namespace
}  // namespace cow::procfs
