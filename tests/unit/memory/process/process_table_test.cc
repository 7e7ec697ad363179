#include "collectors/memory/process/process_table.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/fixture_process.h"

namespace cow::memory {
namespace {

class ProcessTableTest : public testing::Test {
 protected:
  void Update(ProcessTable& table) {
    host_.Sync();
    ASSERT_TRUE(table.Update());
  }
  void Update() { Update(table_); }
  std::vector<pid_t> Pids(const ProcessTable& table) const {
    std::vector<pid_t> pids;
    for (const auto& [pid, process] : table.processes()) pids.push_back(pid);
    return pids;
  }
  const Process& At(pid_t pid) const { return *table_.processes().at(pid); }

  test::FixtureHost host_;
  ProcessTable table_{host_.Root(), 100};
};

TEST_F(ProcessTableTest, ReadsProcesses) {
  auto& process = host_.Add(10, 1, 77);
  process.comm = "redis-server";
  process.exe = "/usr/bin/redis-server";
  process.cgroup = "0::/system.slice/redis.service\n";
  process.MapPages(0x10000000, 3, 1000);
  process.minor_faults = 9;
  Update();
  ASSERT_EQ(Pids(table_), std::vector<pid_t>{10});
  EXPECT_EQ(At(10).pid, 10);
  EXPECT_EQ(At(10).start_ticks, 77U);
  EXPECT_EQ(At(10).stat.comm, "redis-server");
  EXPECT_EQ(At(10).stat.minor_faults, 9U);
  EXPECT_EQ(At(10).exe, "/usr/bin/redis-server");
  EXPECT_EQ(At(10).cgroups.NamingPath(), "/system.slice/redis.service");
  EXPECT_EQ(At(10).RssAnonBytes(), 3U * 4096);
  EXPECT_EQ(At(10).ResidentBytes(), 3U * 4096);
  EXPECT_TRUE(At(10).baseline);
  EXPECT_TRUE(At(10).layout);
  EXPECT_EQ(table_.pass(), 1U);
}

// The auxiliary vector of a program whose entry and stack are at these addresses.
std::vector<uint64_t> Vector(uint64_t entry, uint64_t random) {
  return {AT_HWCAP, 2, AT_ENTRY, entry, AT_RANDOM, random, AT_NULL, 0};
}

TEST_F(ProcessTableTest, LayoutThatStatHidesIsTakenFromAuxv) {
  auto& process = host_.Add(10);
  process.layout = 0;
  process.MapPages(0x10000000, 3, 1000);
  process.auxv = {AT_HWCAP, 2, AT_NULL, 0};
  Update();
  EXPECT_FALSE(At(10).layout) << "nothing in auxv is drawn by exec";
  process.auxv = Vector(0x400100, 0x7e003000);
  process.minor_faults += 7;
  Update();
  const auto layout = At(10).layout;
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->start_code, 0x400100U);
  EXPECT_EQ(layout->start_stack, 0x7e003000U);
  // A new mapping does not change the layout; another program does.
  process.MapPages(0x20000000, 3, 2000);
  Update();
  EXPECT_EQ(At(10).layout, layout);
  EXPECT_EQ(At(10).since_pass, 2U);
  process.minor_faults += 7;  // every exec faults
  process.auxv = Vector(0x400100, 0x7e005000);
  Update();
  EXPECT_NE(At(10).layout, layout);
  EXPECT_EQ(At(10).since_pass, 4U);
}

// stat shows the parent's layout and hides that of its child, which has become another user.
TEST_F(ProcessTableTest, LayoutsOfParentAndChildAreReadInOneWay) {
  ProcessTable table(host_.Root(), 100, ProcessTable::kMaxKeptFiles, LayoutSource::kAuxiliaryVector);
  host_.Add(10).auxv = Vector(0x400100, 0x7e003000);
  host_.Fork(10, 11, 200);
  host_.At(11).layout = 0;
  host_.Sync();
  ASSERT_TRUE(table.Update());
  ASSERT_TRUE(table.processes().at(10)->layout);
  EXPECT_EQ(table.processes().at(10)->layout, table.processes().at(11)->layout);
  host_.At(10).layout = 0;
  host_.At(10).minor_faults += 7;
  host_.Sync();
  ASSERT_TRUE(table.Update());
  EXPECT_EQ(table.processes().at(10)->since_pass, 1U) << "hiding a layout in stat is no exec";
}

class DenyExe : public procfs::Interposer {
 public:
  std::optional<Error> Before(procfs::Access access, const std::string& path) override {
    if (access != procfs::Access::kLink) return std::nullopt;
    return Error{ErrorKind::kDenied, path, EACCES, "denied"};
  }
};

TEST_F(ProcessTableTest, ProgramThatExeHidesIsTheFileAtItsEntry) {
  const procfs::Root root(host_.Root().procfs(), host_.Root().sysfs(), std::make_shared<DenyExe>());
  auto& process = host_.Add(10);
  process.MapArea(0x300000, 4, "/usr/lib/loaded-below.so", "r-xp").inode = 6;
  process.MapArea(0x400000, 4, "/usr/bin/app", "r-xp").inode = 7;
  process.auxv = Vector(0x400100, 0x7e003000);
  host_.Sync();
  EXPECT_EQ(ReadProgram(root, 10), "/usr/bin/app");
  for (const uint64_t entry : {uint64_t{0x2fffff}, uint64_t{0x404000}}) {
    process.auxv = Vector(entry, 0x7e003000);
    host_.Sync();
    EXPECT_EQ(ReadProgram(root, 10), "") << entry;
  }
  process.auxv.clear();
  host_.Sync();
  EXPECT_EQ(ReadProgram(root, 10), "");
}

TEST_F(ProcessTableTest, MemoryOfAnEndedLeaderIsReadFromALivingThread) {
  host_.Add(10).MapPages(0x10000000, 3, 1000);
  Update();
  const auto layout = At(10).layout;
  EXPECT_EQ(At(10).memory, procfs::TaskId(10));
  host_.EndLeader(10, 12);
  Update();
  ASSERT_EQ(Pids(table_), std::vector<pid_t>{10});
  EXPECT_EQ(At(10).memory, procfs::TaskId(10, 12));
  EXPECT_EQ(At(10).layout, layout);
  EXPECT_EQ(At(10).since_pass, 1U);
  EXPECT_EQ(At(10).RssAnonBytes(), 3U * 4096);
  // The last thread ends too.
  host_.At(10).thread = 0;
  host_.At(10).state = 'Z';
  Update();
  EXPECT_TRUE(table_.processes().empty());
}

TEST_F(ProcessTableTest, KernelThreadsAndZombiesAreNotKept) {
  host_.Add(2).flags = 0x208040;
  host_.Add(10);
  host_.Add(11).state = 'Z';
  Update();
  EXPECT_EQ(Pids(table_), std::vector<pid_t>{10});
  host_.At(10).state = 'Z';
  Update();
  EXPECT_TRUE(table_.processes().empty());
  EXPECT_TRUE(table_.unreadable().empty());
}

TEST_F(ProcessTableTest, LimitKeepsTheKnown) {
  ProcessTable table(host_.Root(), 2);
  host_.Add(20);
  host_.Add(30);
  Update(table);
  EXPECT_EQ(table.over_limit(), 0U);
  host_.Add(10);
  host_.Add(25);
  Update(table);
  EXPECT_EQ(Pids(table), (std::vector<pid_t>{20, 30}));
  EXPECT_EQ(table.over_limit(), 2U);
  host_.Exit(20);
  Update(table);
  EXPECT_EQ(Pids(table), (std::vector<pid_t>{10, 30}));
  EXPECT_EQ(table.over_limit(), 1U);
  // A process that the limit kept out before is baseline; a new process is not.
  host_.Add(40, 1, 300);
  table.SetMaxProcesses(10);
  Update(table);
  EXPECT_EQ(Pids(table), (std::vector<pid_t>{10, 25, 30, 40}));
  EXPECT_TRUE(table.processes().at(10)->baseline);
  EXPECT_TRUE(table.processes().at(25)->baseline);
  EXPECT_FALSE(table.processes().at(40)->baseline);
}

TEST_F(ProcessTableTest, ExecIsSeenByTheLayout) {
  host_.Add(10);
  Update();
  const auto before = table_.processes().at(10);
  host_.Exec(10, 0x900000).exe = "/bin/other";
  Update();
  EXPECT_EQ(table_.processes().at(10), before);
  EXPECT_FALSE(At(10).baseline);
  EXPECT_EQ(At(10).since_pass, 2U);
  EXPECT_EQ(At(10).exe, "/bin/other");
  EXPECT_EQ(At(10).layout->start_code, 0x900000U);
  Update();
  EXPECT_EQ(At(10).since_pass, 2U);
}

TEST_F(ProcessTableTest, ReusedPidIsAnotherProcess) {
  host_.Add(10, 1, 100);
  Update();
  const auto before = table_.processes().at(10);
  host_.Add(10, 1, 200);
  Update();
  EXPECT_NE(table_.processes().at(10), before);
  EXPECT_FALSE(At(10).baseline);
  EXPECT_EQ(before->start_ticks, 100U);
}

TEST_F(ProcessTableTest, HiddenLayoutIsEmpty) {
  host_.Add(10).layout = 0;
  Update();
  EXPECT_FALSE(At(10).layout);
}

TEST_F(ProcessTableTest, ErrorsOfOneProcessCostThatOneOnly) {
  host_.Add(10);
  host_.Add(11);
  host_.Add(12);
  host_.stats_of_its_own[11] = "nonsense";
  host_.Sync();
  host_.tree().Remove("proc/12/status");
  ASSERT_TRUE(table_.Update());
  EXPECT_EQ(Pids(table_), std::vector<pid_t>{10});
  EXPECT_EQ(table_.unreadable(), (std::map<ErrorKind, size_t>{{ErrorKind::kMalformed, 1}, {ErrorKind::kGone, 1}}));
}

TEST_F(ProcessTableTest, ListThatCannotBeReadLeavesTheTable) {
  host_.Add(10);
  Update();
  host_.tree().Remove("proc");
  EXPECT_FALSE(table_.Update());
  EXPECT_EQ(Pids(table_), std::vector<pid_t>{10});
  EXPECT_EQ(table_.pass(), 1U);
}

TEST_F(ProcessTableTest, UpdateThatIsEndedAnywhereIsCompletedByTheNext) {
  for (const pid_t pid : {10, 20, 30, 40}) host_.Add(pid);
  host_.stats_of_its_own[30] = "nonsense";
  host_.Sync();
  int steps = 0;
  for (bool completed = false; !completed; ++steps) {
    SCOPED_TRACE(steps);
    ProcessTable table(host_.Root(), 2);
    int left = steps;
    completed = table.Update([&left] { return left-- != 0; }).value();
    if (!completed) {
      EXPECT_EQ(table.over_limit(), 0U);
      EXPECT_TRUE(table.unreadable().empty());
      EXPECT_TRUE(table.Update().value());
    }
    EXPECT_EQ(Pids(table), (std::vector<pid_t>{10, 20}));
    EXPECT_EQ(table.over_limit(), 2U);
    for (const auto& [pid, process] : table.processes()) EXPECT_TRUE(process->baseline) << pid;
  }
  EXPECT_GT(steps, 5);
}

TEST_F(ProcessTableTest, ParentMustBeOlder) {
  host_.Add(10, 1, 500);
  host_.Add(11, 10, 400);  // the parent's pid was reused
  host_.Add(12, 10, 500);
  Update();
  EXPECT_FALSE(At(11).IsChildOf(At(10)));
  EXPECT_TRUE(At(12).IsChildOf(At(10)));
  EXPECT_FALSE(At(10).IsChildOf(At(12)));
}

// Removing it would count as its end; the scanner counts it as unread.
TEST_F(ProcessTableTest, KnownProcessThatCannotBeReadStays) {
  host_.Add(10);
  host_.Add(11);
  Update();
  const auto known = table_.processes().at(10);
  host_.stats_of_its_own[10] = "nonsense\n";
  host_.Sync();
  ASSERT_TRUE(table_.Update());
  ASSERT_TRUE(table_.processes().contains(10));
  EXPECT_EQ(table_.processes().at(10), known);
  ASSERT_TRUE(known->unread);
  EXPECT_EQ(known->unread->kind, ErrorKind::kMalformed);
  EXPECT_TRUE(table_.unreadable().empty());
  host_.stats_of_its_own.clear();
  host_.Sync();
  ASSERT_TRUE(table_.Update());
  EXPECT_EQ(table_.processes().at(10), known);
  EXPECT_FALSE(known->unread);
}

// Counts opens and reads below the directories of processes, by file.
class CountingInterposer : public procfs::Interposer {
 public:
  std::optional<Error> Before(procfs::Access access, const std::string& path) override {
    const std::string file = path.substr(path.rfind('/') + 1);
    if (file != "proc") ++counts[(access == procfs::Access::kRead ? "read " : "open ") + file];
    return std::nullopt;
  }
  std::map<std::string, int> counts;
};

class SteadyTableTest : public ProcessTableTest {
 protected:
  SteadyTableTest() {
    for (pid_t pid = 8; pid < 16; ++pid) host_.Add(pid).MapPages(0x10000000, 3, 1000);
  }
  using Counts = std::map<std::string, int>;

  Counts UpdateAndCount(ProcessTable& table) {
    counter_->counts.clear();
    host_.Sync();
    EXPECT_TRUE(table.Update());
    return counter_->counts;
  }
  Counts UpdateAndCount() { return UpdateAndCount(steady_); }
  const Process& Of(pid_t pid) const { return *steady_.processes().at(pid); }

  std::shared_ptr<CountingInterposer> counter_ = std::make_shared<CountingInterposer>();
  procfs::Root root_{host_.Root().procfs(), host_.Root().sysfs(), counter_};
  ProcessTable steady_{root_, 100};
};

TEST_F(SteadyTableTest, IdleProcessIsTwoReads) {
  for (int i = 0; i < 2; ++i) UpdateAndCount();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(UpdateAndCount(), (Counts{{"read stat", 8}, {"read statm", 8}}));
  EXPECT_EQ(steady_.kept_files(), 16U);
}

TEST_F(SteadyTableTest, PageGivenUpWithoutAFaultIsSeenAtOnce) {
  for (int i = 0; i < 2; ++i) UpdateAndCount();
  for (int pages = 2; pages >= 0; --pages) {
    host_.At(10).Drop(0x10000000 + static_cast<uint64_t>(pages) * 4096);
    EXPECT_EQ(UpdateAndCount(), (Counts{{"read stat", 8}, {"read statm", 8}, {"open status", 1}, {"read status", 2}}));
    EXPECT_EQ(Of(10).RssAnonBytes(), static_cast<uint64_t>(pages) * 4096);
  }
}

// statm excludes swap: a page given up there shows in status only.
TEST_F(SteadyTableTest, StatusOfASwappedProcessIsReadEachTime) {
  host_.At(10).SwapOut(0x10000000, 7);
  UpdateAndCount();
  UpdateAndCount();
  EXPECT_EQ(UpdateAndCount().at("open status"), 1);
  host_.At(10).Drop(0x10000000);
  UpdateAndCount();
  EXPECT_EQ(Of(10).status.swap_bytes, 0U);
  EXPECT_FALSE(UpdateAndCount().contains("open status"));
}

TEST_F(SteadyTableTest, FaultsAndNamesAreSeenAtOnce) {
  UpdateAndCount();
  host_.At(10).MapPages(0x20000000, 5, 2000);
  host_.At(10).minor_faults += 5;
  host_.At(11).comm = "renamed";
  EXPECT_GE(UpdateAndCount().at("open status"), 1);
  EXPECT_EQ(Of(10).RssAnonBytes(), 8U * 4096);
  EXPECT_EQ(Of(10).stat.minor_faults, 5U);
  EXPECT_EQ(Of(11).stat.comm, "renamed");
}

TEST_F(SteadyTableTest, VersionTellsOfThoseThatComeGoAndExec) {
  UpdateAndCount();
  const uint64_t first = steady_.version();
  UpdateAndCount();
  EXPECT_EQ(steady_.version(), first);
  uint64_t before = first;
  for (const auto& change :
       std::vector<std::function<void()>>{[&] { host_.Add(40); }, [&] { host_.Exit(40); },
                                          [&] { host_.Exec(10, 0x900000); }, [&] { host_.Add(11, 1, 300); }}) {
    change();
    UpdateAndCount();
    EXPECT_GT(steady_.version(), before);
    before = steady_.version();
  }
}

TEST_F(SteadyTableTest, MoreProcessesThanDescriptors) {
  ProcessTable table(root_, 100, 5);
  for (int i = 0; i < 4; ++i) {
    UpdateAndCount(table);
    EXPECT_EQ(table.processes().size(), 8U);
    EXPECT_LE(table.kept_files(), 5U);
  }
  EXPECT_EQ(table.kept_files(), 5U);
  // The descriptors of an ended process become free.
  for (pid_t pid = 8; pid < 12; ++pid) host_.Exit(pid);
  for (int i = 0; i < 2; ++i) UpdateAndCount(table);
  EXPECT_EQ(table.processes().size(), 4U);
  EXPECT_EQ(table.kept_files(), 5U);
  for (pid_t pid = 12; pid < 16; ++pid) host_.Exit(pid);
  UpdateAndCount(table);
  EXPECT_EQ(table.kept_files(), 0U);
}

// Each update must recognize them, but they get at most a quarter of the descriptors.
TEST_F(SteadyTableTest, KernelThreadsLeaveDescriptorsToProcesses) {
  for (pid_t pid = 2; pid < 8; ++pid) host_.Add(pid).flags = 0x208040;
  ProcessTable table(root_, 100, 16);
  for (int i = 0; i < 2; ++i) UpdateAndCount(table);
  EXPECT_EQ(table.kept_files(), 16U);
  const Counts counts = UpdateAndCount(table);
  EXPECT_EQ(counts.at("open stat"), 4) << "two of six kernel threads, two of eight processes";
  EXPECT_EQ(counts.at("open statm"), 2);
}

}  // namespace
}  // namespace cow::memory
