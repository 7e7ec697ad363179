// All forms of descent: exec, vfork, reused pids, orphans, generations, other users, threads that outlive their leader,
// and relatives that are not visible.
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "collectors/procfs/root.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

using testing::Workload;

class LineageTest : public LiveTest {
 protected:
  static void Fill(Workload& workload, int id = Workload::kRoot) {
    workload.Map(id, "a", 500);
    workload.Do("write " + std::to_string(id) + " a 0 500");
  }
  static void Settle(Workload& workload, int id) {
    workload.Do("stack " + std::to_string(id) + " " + std::to_string(kIdleStackPages));
  }
};

// Addresses that fork copies and exec redraws: fields 26 to 28 and 45 to 47 of stat.
std::vector<std::string> Layout(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream words(line.substr(line.rfind(')') + 2));
  std::vector<std::string> fields(3);
  for (std::string word; words >> word;) fields.push_back(word);
  return {fields.at(26), fields.at(27), fields.at(28), fields.at(45), fields.at(46), fields.at(47)};
}

TEST_F(LineageTest, ExecOfItselfBeginsAFamily) {
  Fill(workload());
  const int child = ForkWarm();
  const Sample before = Pass();
  Do("reexec " + std::to_string(child));
  Do("name " + std::to_string(child) + " " + group());
  const Sample execed = Pass();
  EXPECT_EQ(execed.At("cow_processes"), 2);
  EXPECT_EQ(execed.At("cow_families"), 0);
  EXPECT_EQ(execed.At(kExposure), 0);
  EXPECT_EQ(execed.At(kUnmatched), 0);
  EXPECT_EQ(Change(before, execed).Pages(kAnonBreaks), 0);
  EXPECT_EQ(Change(before, execed).Pages(Unshared("exit")), before.Pages(kExposure));
  Fill(workload(), child);
  const int grandchild = ForkWarm(child);
  const Sample forked = Pass();
  EXPECT_EQ(forked.At("cow_families"), 1);
  EXPECT_EQ(forked.At("cow_processes"), 3);
  Write(child, "a", 0, 30);
  Write(grandchild, "a", 100, 20);
  Write(0, "a", 0, 500);
  const Sample after = Pass();
  EXPECT_EQ(Change(forked, after).Of(kParentBreaks), 30);
  EXPECT_EQ(Change(forked, after).Of(kChildBreaks), 20);
  EXPECT_EQ(Change(forked, after).Pages(kExposure), -50);
}

// Without ASLR an exec does not change the layout, and mappings lie at the parent's addresses.
TEST_F(LineageTest, ExecOfItselfWithEqualLayout) {
  const int before_personality = personality(0xffffffff);
  personality(static_cast<uint32_t>(before_personality) | ADDR_NO_RANDOMIZE);
  const std::string name = group() + "r";
  auto fixed = StartWorkload(name);
  personality(static_cast<uint32_t>(before_personality));
  Fill(*fixed);
  const int child = fixed->Fork().id;
  Settle(*fixed, 0);
  Settle(*fixed, child);
  const Sample before = Pass(name);
  EXPECT_EQ(before.At("cow_families"), 1);
  ASSERT_GE(before.Pages(kExposure), 500);
  fixed->Do("reexec " + std::to_string(child));
  fixed->Do("name " + std::to_string(child) + " " + name);
  ASSERT_EQ(Layout(fixed->Pid()), Layout(fixed->Pid(child))) << "nothing is tested";
  Fill(*fixed, child);
  ASSERT_EQ(fixed->Address(0, "a"), fixed->Address(child, "a")) << "nothing is tested";
  const Sample execed = Pass(name);
  EXPECT_EQ(execed.At("cow_processes"), 2);
  EXPECT_EQ(execed.At("cow_families"), 0);
  EXPECT_EQ(execed.At(kExposure), 0);
  EXPECT_EQ(execed.At(kUnmatched), 0);
  EXPECT_EQ(Change(before, execed).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, execed).Pages(kUnattributed), 0);
  EXPECT_EQ(Change(before, execed).Pages(Unshared("exit")), before.Pages(kExposure));
  EXPECT_EQ(execed.At("cow_forks_total"), 1);
  EXPECT_EQ(execed.At("cow_fork_break_bytes_count"), 1);
  // Its later forks belong to its own family.
  const int grandchild = fixed->Fork(child).id;
  Settle(*fixed, child);
  Settle(*fixed, grandchild);
  const Sample forked = Pass(name);
  EXPECT_EQ(forked.At("cow_families"), 1);
  EXPECT_EQ(forked.At("cow_forks_total"), 2);
  fixed->Do("write 0 a 0 200");
  fixed->Do("write " + std::to_string(child) + " a 0 30");
  fixed->Do("write " + std::to_string(grandchild) + " a 50 60");
  const Sample after = Pass(name);
  EXPECT_EQ(Change(forked, after).Of(kParentBreaks), 30);
  EXPECT_EQ(Change(forked, after).Of(kChildBreaks), 60);
  EXPECT_EQ(Change(forked, after).Pages(kExposure), -90);
}

TEST_F(LineageTest, VforkSharesItAll) {
  const int child = ForkOver("a", 500);
  const Sample before = Pass();
  const pid_t vforked = std::stoi(workload().Do("vfork " + std::to_string(child)));
  const Sample during = Pass();
  EXPECT_EQ(during.At("cow_processes"), 3);
  EXPECT_EQ(during.At("cow_forks_total"), before.At("cow_forks_total"));
  EXPECT_EQ(Change(before, during).Pages(kExposure), 0);
  EXPECT_LE(Change(before, during).Pages(kFootprint), 1);
  ExpectNoVerdict(Change(before, during));
  kill(vforked, SIGKILL);
  Write(child, "a", 0, 25);
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_processes"), 2);
  EXPECT_EQ(Change(during, after).Of(kChildBreaks), 25);
  EXPECT_EQ(Change(during, after).Pages(kExposure), -25);
  EXPECT_EQ(Change(during, after).UnsharedPages(), 0);
}

// Writes one byte to each page of a mapping, in this process' memory.
void WriteOutside(pid_t pid, uintptr_t address, size_t pages) {
  char byte = 'o';
  for (size_t page = 0; page < pages; ++page) {
    const iovec from{&byte, 1};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): another process' memory
    const iovec to{reinterpret_cast<void*>(address + page * PageBytes()), 1};
    ASSERT_EQ(process_vm_writev(pid, &from, 1, &to, 1, 0), 1);
  }
}

TEST_F(LineageTest, SiblingInTheSameMemoryCountsItOnce) {
  const int child = ForkOver("a", 500);
  const Sample before = Pass();
  const pid_t sibling = std::stoi(workload().Do("sharesibling " + std::to_string(child)));
  Idle(child);
  const Sample during = Pass();
  EXPECT_EQ(during.At("cow_processes"), 3);
  EXPECT_EQ(during.At("cow_forks_total"), before.At("cow_forks_total"));
  EXPECT_LE(std::abs(Change(before, during).Pages(kExposure)), 5) << "the child's stack";
  EXPECT_LE(Change(before, during).Pages(kFootprint), 5);
  WriteOutside(sibling, workload().Address(child, "a"), 25);
  const Sample after = Pass();
  EXPECT_EQ(Change(during, after).Of(kChildBreaks), 25);
  EXPECT_EQ(Change(during, after).Pages(kExposure), -25);
  kill(sibling, SIGKILL);
}

// An exporter that starts later sees two processes with one memory, but not the process that made them.
TEST_F(LineageTest, ProcessesInTheSameMemoryWhoseCreatorIsGone) {
  const int child = ForkOver("a", 500);
  const Sample alone = Pass();
  std::vector<pid_t> heirs;
  heirs.reserve(2);
  for (int i = 0; i < 2; ++i) heirs.push_back(std::stoi(workload().Do("share " + std::to_string(child))));
  const uintptr_t address = workload().Address(child, "a");
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_processes"), 4);
  Do("kill " + std::to_string(child));
  const Sample gone = Pass();
  EXPECT_EQ(gone.At("cow_processes"), 3);
  EXPECT_EQ(gone.At("cow_forks_total"), alone.At("cow_forks_total"));
  EXPECT_EQ(Change(before, gone).Pages(kExposure), 0) << "the memory lives on";
  ExpectNoVerdict(Change(before, gone));
  collectors::Engine later(procfs::Root(), DefaultOptions());
  const Sample first = PassOf(later, group());
  EXPECT_EQ(first.At("cow_processes"), 3);
  EXPECT_EQ(first.At(kExposure), gone.At(kExposure));
  EXPECT_EQ(first.At(kFootprint), gone.At(kFootprint));
  WriteOutside(heirs[0], address, 25);
  WriteOutside(heirs[1], address, 30);
  const Sample after = Pass();
  EXPECT_EQ(Change(gone, after).Of(kChildBreaks), 30);
  EXPECT_EQ(Change(gone, after).Pages(kExposure), -30);
  const Sample second = PassOf(later, group());
  EXPECT_EQ(Change(first, second).Of(kChildBreaks), 30);
  EXPECT_EQ(Change(first, second).Pages(kExposure), -30);
  kill(heirs[0], SIGKILL);
  while (!ReadAreas(heirs[0]).empty()) {  // a pass that meets its end reports it as gone
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(Change(after, Pass()).UnsharedPages(), 0);
  for (const pid_t heir : heirs) kill(heir, SIGKILL);
}

class RelayoutTest : public LineageTest, public ::testing::WithParamInterface<const char*> {
 protected:
  // False if the kernel has no PR_SET_MM_MAP.
  bool Relayout(int id) {
    const std::vector<std::string> before = Layout(workload().Pid(id));
    try {
      Do("relayout " + std::to_string(id) + " " + GetParam() + " 8192");
    } catch (const std::exception&) {
      return false;
    }
    EXPECT_NE(Layout(workload().Pid(id)), before);
    return true;
  }
};

TEST_P(RelayoutTest, IsNoExec) {
  const int child = ForkOver("a", 500);
  for (const int id : {0, child}) {
    SCOPED_TRACE(id);
    const Sample before = Pass();
    if (!Relayout(id)) GTEST_SKIP() << KernelLacks("PR_SET_MM_MAP");
    Idle(0);
    Idle(child);
    const Sample relaid = Pass();
    EXPECT_EQ(relaid.At("cow_processes"), 2);
    EXPECT_EQ(relaid.At("cow_families"), 1);
    EXPECT_EQ(relaid.At("cow_forks_total"), before.At("cow_forks_total"));
    EXPECT_LE(std::abs(Change(before, relaid).Pages(kExposure)), 5) << "the stack";
    EXPECT_EQ(Change(before, relaid).Pages(kAnonBreaks), 0);
    EXPECT_LE(Change(before, relaid).UnsharedPages(), 0);
    Write(0, "a", id == 0 ? 0 : 200, 20);
    Write(child, "a", id == 0 ? 50 : 250, 30);
    const Sample after = Pass();
    EXPECT_EQ(Change(relaid, after).Of(kParentBreaks), 20);
    EXPECT_EQ(Change(relaid, after).Of(kChildBreaks), 30);
    EXPECT_EQ(Change(relaid, after).Pages(kExposure), -50);
  }
  // An exec still ends it.
  const Sample before = Pass();
  Do("exec " + std::to_string(child));
  const Sample execed = Pass();
  EXPECT_EQ(execed.At("cow_families"), 0);
  EXPECT_EQ(execed.At(kExposure), 0);
  EXPECT_GE(Change(before, execed).Pages(Unshared("exit")), 400);
}

// No pass has seen them with one layout.
TEST_P(RelayoutTest, BeforeTheFirstLook) {
  const int child = ForkOver("a", 500);
  if (!Relayout(child)) GTEST_SKIP() << KernelLacks("PR_SET_MM_MAP");
  Idle(child);
  const Sample first = Pass();
  EXPECT_EQ(first.At("cow_processes"), 2);
  EXPECT_EQ(first.At("cow_families"), 1);
  EXPECT_GE(first.Pages(kExposure), 500);
  Write(child, "a", 0, 30);
  const Sample after = Pass();
  EXPECT_EQ(Change(first, after).Of(kChildBreaks), 30);
  EXPECT_EQ(Change(first, after).Pages(kExposure), -30);
}

TEST_P(RelayoutTest, OfAProcessWithoutRelatives) {
  Fill(workload());
  const Sample before = Pass();
  if (!Relayout(0)) GTEST_SKIP() << KernelLacks("PR_SET_MM_MAP");
  const int child = ForkWarm();
  const Sample first = Pass();
  EXPECT_EQ(first.At("cow_families"), 1);
  EXPECT_EQ(Change(before, first).Of("cow_forks_total"), 1);
  Write(child, "a", 0, 30);
  EXPECT_EQ(Change(first, Pass()).Of(kChildBreaks), 30);
}

// The process executes another program; its memory lives on in the process that shares it.
TEST_P(RelayoutTest, ExecWhileAnotherProcessHasTheMemory) {
  const int child = ForkOver("a", 500);
  const pid_t heir = std::stoi(workload().Do("share " + std::to_string(child)));
  if (!Relayout(child)) GTEST_SKIP() << KernelLacks("PR_SET_MM_MAP");
  Idle(child);
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_processes"), 3);
  const uintptr_t address = workload().Address(child, "a");
  Do("exec " + std::to_string(child));
  const Sample execed = Pass();
  EXPECT_EQ(execed.At("cow_families"), 1);
  EXPECT_EQ(execed.At("cow_processes"), 2);
  EXPECT_GE(execed.Pages(kExposure), 500);
  EXPECT_LE(std::abs(Change(before, execed).Pages(kExposure)), 10) << "the way to the exec";
  WriteOutside(heir, address, 25);
  const Sample written = Pass();
  if (DefaultFullEvery().count() ==
      0) {  // else the heir waits for its turn: a write from outside moves none of its signals
    EXPECT_EQ(Change(execed, written).Of(kChildBreaks), 25);
  }
  kill(heir, SIGKILL);
}

INSTANTIATE_TEST_SUITE_P(Fields, RelayoutTest, ::testing::Values("code", "stack"),
                         [](const auto& test) { return std::string(test.param); });

// Start times have the resolution of a clock tick: within one tick, two processes with one pid look equal.
void LetATickPass() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

TEST_F(LineageTest, ReusedPidOfASibling) {
  const int first = ForkOver("a", 500);
  const pid_t pid = workload().Pid(first);
  Pass();
  Write(first, "a", 0, 100);
  const Sample before = Pass();
  Do("kill " + std::to_string(first));
  Idle(0);
  LetATickPass();
  int second = 0;
  try {
    second = std::stoi(workload().Do("forkat 0 " + std::to_string(pid)));
  } catch (const std::exception& error) {
    GTEST_SKIP() << test::MissingPrivilege(test::kPids) << ": " << error.what();
  }
  ASSERT_EQ(workload().Pid(second), pid);
  Idle(0);
  Idle(second);
  const Sample reused = Pass();
  EXPECT_EQ(reused.At("cow_processes"), 2);
  EXPECT_EQ(reused.At("cow_families"), 1);
  EXPECT_EQ(reused.At("cow_forks_total"), 2);
  EXPECT_EQ(reused.At("cow_fork_break_bytes_count"), 1);
  EXPECT_EQ(Change(before, reused).Pages(kAnonBreaks), 0);
  EXPECT_GE(Change(before, reused).Pages(kExposure), 90) << "the second child shares what the first had copied";
  Write(second, "a", 0, 60);
  const Sample after = Pass();
  EXPECT_EQ(Change(reused, after).Of(kChildBreaks), 60);
  EXPECT_EQ(Change(reused, after).Pages(kExposure), -60);
}

TEST_F(LineageTest, ReusedPidOfAStranger) {
  const int child = ForkOver("a", 500);
  const pid_t pid = workload().Pid(child);
  const std::string name = group() + "s";
  auto stranger = StartWorkload(name);
  Fill(*stranger);
  const Sample before = Pass();
  const Sample strangers_before = Pass(name);
  Do("kill " + std::to_string(child));
  LetATickPass();
  int taken = 0;
  try {
    taken = std::stoi(stranger->Do("forkat 0 " + std::to_string(pid)));
  } catch (const std::exception& error) {
    GTEST_SKIP() << test::MissingPrivilege(test::kPids) << ": " << error.what();
  }
  Settle(*stranger, 0);
  Settle(*stranger, taken);
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_processes"), 1);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("exit")), before.Pages(kExposure));
  EXPECT_EQ(after.At("cow_forks_total"), 1);
  const Sample strangers = Pass(name);
  EXPECT_EQ(strangers.At("cow_processes"), 2);
  EXPECT_EQ(strangers.At("cow_forks_total"), 1);
  EXPECT_GE(strangers.Pages(kExposure), 500);
  EXPECT_EQ(Change(strangers_before, strangers).Pages(kAnonBreaks), 0);
  stranger->Do("write " + std::to_string(taken) + " a 0 35");
  EXPECT_EQ(Change(strangers, Pass(name)).Of(kChildBreaks), 35);
}

// The first process ends: the oldest survivor counts as the parent from now on.
TEST_F(LineageTest, RootDiesAndItsChildrenGoOn) {
  const std::string name = group() + "d";
  const int root = Fork();
  Do("reexec " + std::to_string(root));
  Do("name " + std::to_string(root) + " " + name);
  Fill(workload(), root);
  const int elder = ForkWarm(root);
  const int younger = ForkWarm(root);
  const Sample before = Pass(name);
  EXPECT_EQ(before.At("cow_processes"), 3);
  Do("kill " + std::to_string(root));
  const Sample orphaned = Pass(name);
  EXPECT_EQ(orphaned.At("cow_processes"), 2);
  EXPECT_EQ(orphaned.At("cow_families"), 1);
  EXPECT_EQ(Change(before, orphaned).BreaksOfAllSides(), 0);
  EXPECT_GE(orphaned.Pages(kExposure), 500);
  Write(elder, "a", 0, 40);
  Write(younger, "a", 100, 30);
  const Sample after = Pass(name);
  EXPECT_EQ(Change(orphaned, after).Of(kParentBreaks), 40);
  EXPECT_EQ(Change(orphaned, after).Of(kChildBreaks), 30);
  EXPECT_EQ(Change(orphaned, after).Pages(kExposure), -70);
  EXPECT_EQ(Change(orphaned, after).UnsharedPages(), 0);
}

// Each generation forks the next one and ends, like a server that replaces itself.
TEST_F(LineageTest, GenerationsFollowEachOther) {
  int parent = ForkOver("a", 500);
  Sample before = Pass();
  for (int generation = 0; generation < 5; ++generation) {
    SCOPED_TRACE(generation);
    const int child = ForkWarm(parent);
    const Sample forked = Pass();
    EXPECT_EQ(Change(before, forked).Of("cow_forks_total"), 1);
    const auto first = static_cast<size_t>(generation) * 50;
    Write(child, "a", first, 20);
    Write(parent, "a", first + 20, 10);
    const Sample written = Pass();
    EXPECT_EQ(Change(forked, written).Of(kChildBreaks), 30);
    EXPECT_EQ(Change(forked, written).Of(kParentBreaks), 0) << "the family's root is another";
    EXPECT_EQ(Change(forked, written).Pages(kExposure), -30);
    Do("kill " + std::to_string(parent));
    const Sample ended = Pass();
    EXPECT_EQ(Change(written, ended).BreaksOfAllSides(), 0);
    parent = child;
    before = ended;
  }
  // The last one still shares everything with the root except what it and its ancestors had copied before their forks.
  Write(0, "a", 0, 500);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 500 - 5 * 20);
}

TEST_F(LineageTest, ChildThatDroppedRoot) {
  const int child = ForkOver("a", 500);
  const int second = ForkWarm();
  Do("setuid " + std::to_string(child) + " 65534");
  Idle(child);
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_group_mode{mode=full}"), 1);
  Do("setuid " + std::to_string(second) + " 65533");
  Idle(second);
  const Sample dropped = Pass();
  EXPECT_EQ(Change(before, dropped).Pages(kAnonBreaks), 0);
  Write(child, "a", 0, 40);
  Write(0, "a", 100, 30);
  Write(second, "a", 200, 20);
  const Sample after = Pass();
  EXPECT_EQ(Change(dropped, after).Of(kChildBreaks), 60);
  EXPECT_EQ(Change(dropped, after).Of(kParentBreaks), 30);
  EXPECT_EQ(Change(dropped, after).Pages(kExposure), -90);
  EXPECT_EQ(after.At(kUnmatched), 0);
}

// A second exporter sees only the child's PID namespace; the parent is outside of it.
TEST_F(LineageTest, ParentThatCantBeSeen) {
  const std::string directory = ::testing::TempDir() + "/cow_live_proc" + std::to_string(getpid());
  std::filesystem::create_directories(directory);
  workload().Map(0, "a", 500);
  Write(0, "a", 0, 500);
  int child = 0;
  try {
    child = std::stoi(workload().Do("forkns 0 " + directory));
  } catch (const std::exception& error) {
    GTEST_SKIP() << test::MissingPrivilege(test::kPidNamespace) << ": " << error.what();
  }
  Idle(0);
  Idle(child);
  // An exporter that sees both treats them like any family.
  const Sample all = Pass();
  EXPECT_EQ(all.At("cow_processes"), 2);
  EXPECT_EQ(all.At("cow_families"), 1);
  EXPECT_EQ(all.At(kUnmatched), 0);

  const std::string root = "/proc/" + std::to_string(workload().Pid(child)) + "/root" + directory;
  collectors::Engine inside(procfs::Root(root), DefaultOptions());
  const Sample before = PassOf(inside, group());
  ASSERT_EQ(before.At("cow_exporter_capability{feature=frames}"), 1);
  EXPECT_EQ(before.At("cow_processes"), 1);
  EXPECT_EQ(before.At("cow_families"), 0);
  EXPECT_EQ(before.At(kExposure), 0) << "what is saved is not known without the other";
  EXPECT_EQ(before.Pages(kUnmatched), all.Pages(kExposure));
  EXPECT_EQ(before.Pages("cow_shared_bytes"), all.Pages(kExposure));
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(before.Pages(kUnmatched), static_cast<double>(memory.exposure_pages));
  // Its writes look like fresh pages; the sharing is known.
  Write(child, "a", 0, 60);
  Write(0, "a", 100, 50);
  const Sample after = PassOf(inside, group());
  EXPECT_EQ(after.BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(kUnmatched), -110);
  EXPECT_EQ(Change(before, after).Pages("cow_resident_bytes{backing=anon,sharing=private}"), 110);
  EXPECT_EQ(after.At(kUnattributed), 0);
  EXPECT_EQ(Change(all, Pass()).BreaksOfAllSides(), 110);
  // A child of the child: the unseen process shares their common pages too.
  const int grandchild = ForkWarm(child);
  const Sample forked = PassOf(inside, group());
  EXPECT_EQ(forked.At("cow_processes"), 2);
  EXPECT_GE(forked.Pages(kExposure), 500);
  Write(grandchild, "a", 200, 15);
  const Sample written = PassOf(inside, group());
  EXPECT_EQ(Change(forked, written).Of(kChildBreaks), 15);
  EXPECT_EQ(Change(forked, written).Pages(kExposure), -15);
  std::filesystem::remove(directory);
}

}  // namespace
}  // namespace cow::live
