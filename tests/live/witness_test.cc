// Compares the exporter's values with the kernel's own: copies on write (delayacct), sums over page tables (smaps) and
// merged pages (ksm). If both count the same pages, they must be equal; otherwise the difference is fixed.
#include <fcntl.h>
#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/procfs/ksm.h"
#include "collectors/procfs/root.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

constexpr const char* kCopies = "cow_kernel_copies_total";
constexpr const char* kUnseenForks = "cow_unseen_forks_total";
constexpr const char* kUncreditedParent = "cow_delayacct_uncredited_copies_total{reason=parent}";
constexpr const char* kLost = "cow_delayacct_lost_records_total";

// A number in a kernel file; the destructor restores it.
class KernelSetting {
 public:
  KernelSetting(std::string path, const std::string& value) : path_(std::move(path)) {
    std::ifstream(path_) >> saved_;
    Set(value);
  }
  ~KernelSetting() {
    if (!saved_.empty()) Set(saved_);
  }
  KernelSetting(const KernelSetting&) = delete;
  KernelSetting& operator=(const KernelSetting&) = delete;

  void Set(const std::string& value) { std::ofstream(path_) << value; }

 private:
  std::string path_;
  std::string saved_;
};

// Call it before the workload starts: only tasks that start later are accounted.
struct DelayAccounting {
  static constexpr const char* kPath = "/proc/sys/kernel/task_delayacct";
  KernelSetting setting{kPath, "1"};
};

bool IsEmulated() {
  std::ifstream file("/proc/cpuinfo");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  return text.find("QEMU") != std::string::npos;
}

// The kernel does not count a copy that took no time (delayacct_end). An emulated clock may stand still for long and
// lose most copies, so the count is only a lower bound there.
double FewestCopies(double copies) { return IsEmulated() ? 0 : copies; }

class CopiesTest : private DelayAccounting, public LiveTest {
 protected:
  explicit CopiesTest(std::chrono::minutes full_every = DefaultFullEvery()) : LiveTest(full_every, {"delayacct"}) {}

  void SetUp() override {
    LiveTest::SetUp();
    // Stay on one CPU: even the last holder copies a page that another CPU still has in its batch of new pages.
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    ASSERT_EQ(sched_setaffinity(workload().Pid(), sizeof(one), &one), 0);
    if (!IsSkipped() && Pass().At("cow_exporter_capability{feature=delayacct}") == 0) {
      if (!std::filesystem::exists(DelayAccounting::kPath)) GTEST_SKIP() << KernelLacks("accounting of delays");
      GTEST_SKIP() << test::MissingPrivilege(test::kTaskReports);
    }
  }

  // Maps memory of the root, writes to it and forks a child; both have executed a command since.
  std::string ForkOver(const std::string& name, size_t pages) {
    workload().Map(0, name, pages);
    Do("write 0 " + name + " 0 " + std::to_string(pages));
    return ForkWarm();
  }
  std::string ForkWarm() {
    const int child = Fork();
    Idle(0);
    Idle(child);
    return std::to_string(child);
  }

  // The kernel may be moving a page now, for any process; it is judged once it has arrived.
  Sample SettledPass(const Sample& before) {
    double unstable = before.At("cow_scan_unstable_pages_total");
    Sample after = Pass();
    for (int i = 0; i < 10 && (after.At("cow_scan_unstable_pages_total") > unstable ||
                               after.At("cow_unresolved_bytes") > before.At("cow_unresolved_bytes"));
         ++i) {
      unstable = after.At("cow_scan_unstable_pages_total");
      after = Pass();
    }
    return after;
  }

  // Checks breaks and copies since `before`, and that no record was lost.
  void ExpectBoth(const Sample& before, double breaks, double copies) {
    const Sample after = SettledPass(before);
    const Change change(before, after);
    EXPECT_EQ(change.BreaksOfAllSides(), breaks);
    EXPECT_LE(change.Of(kCopies), copies);
    EXPECT_GE(change.Of(kCopies), FewestCopies(copies));
    EXPECT_EQ(change.Of(kLost), 0);
  }
};

TEST_F(CopiesTest, ParentsBreaksAreCopies) {
  ForkOver("a", 1000);
  const Sample before = Pass();
  Do("write 0 a 10 123");
  ExpectBoth(before, 123, 123);
}

TEST_F(CopiesTest, ChildsBreaksAreCopies) {
  const std::string child = ForkOver("a", 1000);
  const Sample before = Pass();
  Do("write " + child + " a 0 77 3");
  ExpectBoth(before, 77, 77);
}

TEST_F(CopiesTest, SeveralMembersBreaksAreCopies) {
  const std::string first = ForkOver("a", 1000);
  const std::string second = ForkWarm();
  const std::string third = ForkWarm();
  const Sample before = Pass();
  Do("write " + first + " a 0 100");
  Do("write " + second + " a 50 100");
  Do("write 0 a 100 100");
  Do("write " + third + " a 150 100");
  // Only the second child shared pages 150 to 199: the others have copies by then, or the original.
  ExpectBoth(before, 400, 400);
}

TEST_F(CopiesTest, ScatteredWritesAreCopies) {
  const std::string child = ForkOver("a", 4000);
  const Sample before = Pass();
  std::vector<int> pages(4000);
  for (int i = 0; i < 4000; ++i) pages[static_cast<size_t>(i)] = i;
  std::mt19937 random(20);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same pages in every run
  std::shuffle(pages.begin(), pages.end(), random);
  // No page is written by both: the second writer would be its last holder.
  for (int i = 0; i < 300; ++i) {
    const std::string page = std::to_string(pages[static_cast<size_t>(i)]);
    Do("write " + (i % 3 == 0 ? std::string("0") : child) + " a " + page + " 1");
  }
  ExpectBoth(before, 300, 300);
}

TEST_F(CopiesTest, CopiesWhileItWasOffAreNotCounted) {
  const std::string child = ForkOver("a", 1000);
  const collectors::EngineOptions on = DefaultOptions(DefaultFullEvery(), {"delayacct"});
  const collectors::EngineOptions off = DefaultOptions();
  collectors::Engine engine(procfs::Root(), on);
  const Sample before = PassOf(engine, group());
  Do("write " + child + " a 0 100");
  const Sample counted = PassOf(engine, group());
  EXPECT_LE(Change(before, counted).Of(kCopies), 100);
  EXPECT_GE(Change(before, counted).Of(kCopies), FewestCopies(100));
  engine.Reconfigure(off);
  Do("write " + child + " a 100 50");
  EXPECT_FALSE(PassOf(engine, group()).Has(kCopies));
  Do("write " + child + " a 150 40");
  engine.Reconfigure(on);
  const Sample again = PassOf(engine, group());
  EXPECT_EQ(Change(counted, again).Of(kCopies), 0);
  EXPECT_GE(Change(counted, again).Of(kUncreditedParent), 0);
  Do("write " + child + " a 200 30");
  const Sample after = PassOf(engine, group());
  EXPECT_LE(Change(again, after).Of(kCopies), 30);
  EXPECT_GE(Change(again, after).Of(kCopies), FewestCopies(30));
}

TEST_F(CopiesTest, CopiesOfAThreadThatEndedAreCounted) {
  const std::string child = ForkOver("a", 1000);
  Do("threadwrite " + child + " a 0 1");
  Idle(0);
  const Sample before = Pass();
  Do("threadwrite " + child + " a 100 40");
  Do("write " + child + " a 200 30");
  const Sample between = Pass();
  ExpectBoth(before, 70, 70);
  Do("threadwrite " + child + " a 300 20");
  Do("write " + child + " a 400 10");
  Do("threads " + child + " 8");
  Do("threadwrite " + child + " a 500 5");
  Do("kill " + child);
  const Sample after = Pass();
  // The breaks ended with the child. Its record has the copies; starting threads made some of them.
  EXPECT_GE(Change(between, after).Of(kCopies), FewestCopies(35));
  const Sample later = Pass();
  EXPECT_EQ(Change(after, later).Of(kCopies), 0) << "the records of its threads are not counted again";
}

// Copies that are not breaks, and breaks that are not copies.

TEST_F(CopiesTest, FirstWriteToTheZeroPageIsACopyButNoBreak) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  const std::string child = ForkOver("a", 10);
  workload().Map(std::stoi(child), "z", 100);
  Do("read " + child + " z 0 100");
  Idle(std::stoi(child));
  const Sample before = Pass();
  Do("write " + child + " z 0 60");
  ExpectBoth(before, 0, 60);
}

TEST_F(CopiesTest, WriteToAReadFilePageIsACopyButNoBreak) {
  const std::string path = std::filesystem::temp_directory_path() / ("witness" + std::to_string(getpid()));
  std::ofstream(path) << std::string(50 * PageBytes(), 'x');
  const std::string child = ForkOver("a", 10);
  Do("mapfile " + child + " f " + path + " 50 private");
  Do("read " + child + " f 0 20");
  Idle(std::stoi(child));
  const Sample before = Pass();
  Do("write " + child + " f 0 20");
  ExpectBoth(before, 0, 20);
  std::filesystem::remove(path);
}

TEST_F(CopiesTest, DroppedAndTouchedAgainIsABreakButNoCopy) {
  const std::string child = ForkOver("a", 1000);
  const Sample before = Pass();
  Do("dontneed " + child + " a 0 50");
  Do("write " + child + " a 0 50");
  ExpectBoth(before, 50, 0);
}

TEST_F(CopiesTest, LastHolderCopiesNothingAndBreaksNothing) {
  const std::string child = ForkOver("a", 1000);
  const Sample shared = Pass();
  Do("kill " + child);
  Idle(0);
  const Sample before = Pass();
  Do("write 0 a 0 1000");
  ExpectBoth(before, 0, 0);
}

TEST_F(CopiesTest, WriteToAnUnreadFilePageIsNeither) {
  const std::string path = std::filesystem::temp_directory_path() / ("witness" + std::to_string(getpid()));
  std::ofstream(path) << std::string(50 * PageBytes(), 'x');
  const std::string child = ForkOver("a", 10);
  Do("mapfile " + child + " f " + path + " 50 private");
  Idle(std::stoi(child));
  const Sample before = Pass();
  Do("write " + child + " f 0 20");
  ExpectBoth(before, 0, 0);
  std::filesystem::remove(path);
}

// The writer gets the faults: no signal of the family moves, and only a full pass finds the breaks.
class OutsideCopiesTest : public CopiesTest {
 protected:
  OutsideCopiesTest() : CopiesTest(std::chrono::minutes(0)) {}
};

TEST_F(OutsideCopiesTest, WriteFromOutsideIsABreakHereAndTheWritersCopy) {
  const std::string child = ForkOver("a", 1000);
  const uintptr_t address = workload().Address(std::stoi(child), "a");
  const Sample before = Pass();
  std::string text(30 * PageBytes(), 'x');
  const iovec local{text.data(), text.size()};
  const iovec remote{reinterpret_cast<void*>(address), text.size()};  // NOLINT(performance-no-int-to-ptr)
  ASSERT_EQ(process_vm_writev(workload().Pid(std::stoi(child)), &local, 1, &remote, 1, 0),
            static_cast<ssize_t>(text.size()));
  ExpectBoth(before, 30, 0);
}

// Both count base pages of transparent huge pages.
TEST_F(CopiesTest, BreaksInHugePagesAreCopies) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const uint64_t window = HugePageBytes() / PageBytes();
  workload().Map(0, "t", 4 * window, "huge");
  Do("write 0 t 0 " + std::to_string(4 * window));
  const std::string child = ForkWarm();
  const Sample before = Pass();
  Do("write " + child + " t 100 700");
  ExpectBoth(before, 700, 700);
}

TEST_F(CopiesTest, HugetlbPageIsOneCopyAndManyBreaks) {
  const KernelSetting pool("/proc/sys/vm/nr_hugepages", "8");
  const uint64_t window = HugePageBytes() / PageBytes();
  try {
    workload().Map(0, "h", 2 * window, "hugetlb");
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << "no huge pages to be had: " << error.what();
  }
  Do("write 0 h 0 " + std::to_string(2 * window));
  const std::string child = ForkWarm();
  const Sample before = Pass();
  Do("write " + child + " h 0 1");
  ExpectBoth(before, static_cast<double>(window), 1);
}

// Children that no pass has seen.

TEST_F(CopiesTest, ChildThatNoPassSawIsCounted) {
  ForkOver("a", 1000);
  const auto live_and_die = [this](int pages) {
    const int child = Fork();
    Idle(child);
    Do("write " + std::to_string(child) + " a 0 " + std::to_string(pages));
    Do("kill " + std::to_string(child));
  };
  live_and_die(10);
  const Sample before = Pass();
  live_and_die(10);
  const Sample between = Pass();
  live_and_die(60);
  const Sample after = Pass();
  const Change base(before, between);
  const Change more(between, after);
  EXPECT_EQ(base.Of(kUnseenForks), 1);
  EXPECT_EQ(more.Of(kUnseenForks), 1);
  // Other activity of the member may add or remove a page.
  if (!IsEmulated()) {
    EXPECT_NEAR(more.Of(kCopies) - base.Of(kCopies), 50, 3);
  }
  EXPECT_EQ(more.BreaksOfAllSides(), base.BreaksOfAllSides());
  EXPECT_EQ(more.Of("cow_forks_total"), 0) << "page tables know nothing of it";
  std::printf("a fork that no pass saw: %.0f copies besides the 10 asked for, %.0f breaks seen\n",
              base.Of(kCopies) - 10, base.BreaksOfAllSides());
}

TEST_F(CopiesTest, ThreadsOfAChildThatNoPassSawAreCountedOnce) {
  ForkOver("a", 1000);
  const auto live_and_die = [this](int pages) {
    const int child = Fork();
    const std::string id = std::to_string(child);
    Idle(child);
    Do("threadwrite " + id + " a 0 " + std::to_string(pages));
    Do("threads " + id + " 8");
    Do("threadwrite " + id + " a 500 " + std::to_string(pages));
    Do("kill " + id);
  };
  live_and_die(10);
  const Sample before = Pass();
  live_and_die(10);
  const Sample between = Pass();
  live_and_die(60);
  const Sample after = Pass();
  EXPECT_EQ(Change(between, after).Of(kUnseenForks), 1);
  // Threads make a varying number of copies themselves; a record counted twice would add 50.
  if (!IsEmulated()) {
    EXPECT_NEAR(Change(between, after).Of(kCopies) - Change(before, between).Of(kCopies), 100, 5);
  }
}

TEST_F(CopiesTest, UnseenChildOfAnUnseenChildIsCounted) {
  ForkOver("a", 1000);
  const Sample before = Pass();
  const int child = Fork();
  const int grandchild = Fork(child);
  Do("write " + std::to_string(grandchild) + " a 0 100");
  Do("kill " + std::to_string(grandchild));
  Do("kill " + std::to_string(child));
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kUnseenForks), 2);
  EXPECT_GE(Change(before, after).Of(kCopies), FewestCopies(100));
}

TEST_F(CopiesTest, ChildOfALivingChildThatIsSeenLaterIsCountedThen) {
  ForkOver("a", 1000);
  const Sample before = Pass();
  const int child = Fork();
  const int grandchild = Fork(child);
  Do("write " + std::to_string(grandchild) + " a 0 100");
  Do("kill " + std::to_string(grandchild));
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kUnseenForks), 1);
  EXPECT_GE(Change(before, after).Of(kCopies), FewestCopies(100));
}

// The parent had ended before it: the record names another parent.
TEST_F(CopiesTest, OrphanThatNoPassSawIsNotGuessedAt) {
  ForkOver("a", 1000);
  const Sample before = Pass();
  const int child = Fork();
  const int grandchild = Fork(child);
  Do("kill " + std::to_string(child));
  Do("write " + std::to_string(grandchild) + " a 0 100");
  Do("kill " + std::to_string(grandchild));
  Pass();  // this pass may not have seen the reaper
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kUnseenForks), 1);
  EXPECT_GE(Change(before, after).Of(kUncreditedParent), FewestCopies(100));
}

class SmapsTest : public LiveTest {
 protected:
  SmapsTest() : LiveTest(std::chrono::minutes(0), {"smaps"}) {}

  // The kernel counts a page as private while it moves it: repeat a pass that met one.
  Sample SettledPass() {
    Sample sample = Pass();
    for (int i = 0; i < 10 && std::abs(sample.At(Field("pss_anon")) - sample.At("cow_footprint_bytes")) > kRounding;
         ++i) {
      sample = Pass();
    }
    return sample;
  }

  // The kernel rounds each process' share down to whole kilobytes.
  static constexpr double kRounding = 2048;

  static std::string Field(const std::string& name) { return "cow_smaps_bytes{field=" + name + "}"; }
};

TEST_F(SmapsTest, KernelsSumsFollowTheBreaks) {
  // Pages of a newly built program file are dirty until they are written back.
  const int program = open(("/proc/" + std::to_string(workload().Pid(0)) + "/exe").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(fsync(program), 0);
  close(program);
  workload().Map(0, "a", 1000);
  Do("write 0 a 0 1000");
  const int child = Fork();
  const std::string id = std::to_string(child);
  Do("write " + id + " a 999 1");  // maps the program pages that this command needs
  Idle(0);
  Idle(child);
  const Sample before = SettledPass();
  Do("write " + id + " a 0 100");
  const Sample after = SettledPass();
  const Change change(before, after);
  // 100 pages had two holders. Now the parent holds them alone, and the child has copies.
  EXPECT_EQ(change.Pages(Field("private_dirty")), 200);
  EXPECT_EQ(change.Pages(Field("shared_dirty")), -200);
  EXPECT_EQ(change.Pages(Field("rss")), 0);
  EXPECT_EQ(change.Pages(Field("anonymous")), 0);
  EXPECT_NEAR(change.Of(Field("pss_anon")), 100 * static_cast<double>(PageBytes()), kRounding);
  EXPECT_EQ(change.BreaksOfAllSides(), 100);
  EXPECT_EQ(after.At(Field("anonymous")), after.At("cow_resident_bytes{backing=anon,sharing=private}") +
                                              after.At("cow_resident_bytes{backing=anon,sharing=shared}"));
  EXPECT_NEAR(after.At(Field("pss_anon")), after.At("cow_footprint_bytes"), kRounding);
  EXPECT_EQ(after.At("cow_smaps_skipped_processes{reason=max_rss}"), 0);
  EXPECT_EQ(after.At("cow_smaps_skipped_processes{reason=unreadable}"), 0);
}

// Nothing is merged at the begin and at the end.
class Ksm {
 public:
  static bool Exists() { return std::filesystem::exists("/sys/kernel/mm/ksm/run"); }
  Ksm() = default;
  ~Ksm() { Unmerge(); }
  Ksm(const Ksm&) = delete;
  Ksm& operator=(const Ksm&) = delete;

  void Merge() { run_.Set("1"); }    // at full speed
  void Unmerge() { run_.Set("2"); }  // returns when all pages are unmerged

  // Waits until `pages` pages of the process are merged; returns how many are.
  static uint64_t AwaitMerged(pid_t pid, uint64_t pages) {
    uint64_t merged = 0;
    for (int i = 0; i < 1000; ++i) {
      const auto stat = procfs::ReadKsmStat(procfs::Root(), pid);
      merged = stat ? stat->merging_pages.value_or(0) : 0;
      if (merged == pages) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return merged;
  }

 private:
  KernelSetting pages_{"/sys/kernel/mm/ksm/pages_to_scan", "100000"};
  KernelSetting sleep_{"/sys/kernel/mm/ksm/sleep_millisecs", "10"};
  KernelSetting run_{"/sys/kernel/mm/ksm/run", "2"};
};

class KsmTest : public LiveTest {
 protected:
  KsmTest() : LiveTest(DefaultFullEvery(), {"ksm"}) {}
};

TEST_F(KsmTest, MergedPagesAreTheKernels) {
  if (!Ksm::Exists()) GTEST_SKIP() << KernelLacks("KSM");
  Ksm ksm;
  workload().Map(0, "a", 200);
  Do("write 0 a 0 200");
  Do("madvise 0 a 12 0 200");  // MADV_MERGEABLE
  const Sample before = Pass();
  ASSERT_TRUE(before.Has("cow_ksm_bytes"));
  EXPECT_EQ(before.At("cow_ksm_bytes"), 0);
  ksm.Merge();
  ASSERT_EQ(Ksm::AwaitMerged(workload().Pid(0), 200), 200U);
  const Sample merged = Pass();
  EXPECT_EQ(merged.Pages("cow_ksm_bytes"), 200);
  EXPECT_GE(merged.Pages("cow_ksm_tracked_bytes"), 200);
  if (merged.Has("cow_ksm_profit_bytes")) {  // since Linux 6.2
    EXPECT_GT(merged.At("cow_ksm_profit_bytes"), 0);
    EXPECT_LT(merged.Pages("cow_ksm_profit_bytes"), 200);
  }
  ksm.Unmerge();
  EXPECT_EQ(Pass().At("cow_ksm_bytes"), 0);
}

TEST_F(CopiesTest, WriteToAMergedPageIsACopyButNoBreak) {
  if (!Ksm::Exists()) GTEST_SKIP() << KernelLacks("KSM");
  ForkOver("a", 10);
  workload().Map(0, "k", 200);
  Do("write 0 k 0 200");
  Do("madvise 0 k 12 0 200");
  Ksm ksm;
  ksm.Merge();
  ASSERT_EQ(Ksm::AwaitMerged(workload().Pid(0), 200), 200U);
  Do("madvise 0 k 13 100 100");  // MADV_UNMERGEABLE: split before the sample
  ASSERT_EQ(Ksm::AwaitMerged(workload().Pid(0), 100), 100U);
  Idle(0);
  const Sample before = Pass();
  Do("write 0 k 0 40");
  ExpectBoth(before, 0, 40);
}

}  // namespace
}  // namespace cow::live
