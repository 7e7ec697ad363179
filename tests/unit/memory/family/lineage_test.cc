#include "collectors/memory/family/lineage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <compare>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fixture_process.h"

namespace cow::memory {
namespace {

using Pids = std::vector<pid_t>;

class FakeProbe : public FrameProbe {
 public:
  explicit FakeProbe(procfs::Root root) : root_(std::move(root)) {}

  bool ShareFrame(const Process& a, const Process& b) override {
    ++comparisons;
    return sharing.contains(std::minmax(a.pid, b.pid));
  }
  std::optional<std::strong_ordering> CompareMemory(const Process& a, const Process& b) override {
    ++orders;
    if (!kernel_tells) return std::nullopt;
    return MemoryOf(a.pid) <=> MemoryOf(b.pid);
  }
  std::optional<bool> SameMemory(const Process& a, const Process& b) override {
    ++comparisons_of_memory;
    return MemoryOf(a.pid) == MemoryOf(b.pid);
  }
  std::optional<bool> HasPagemap(const Process& process, const procfs::Pagemap& pagemap) override {
    return pagemap_of.contains(process.pid) && pagemap_of.at(process.pid) == pagemap.path();
  }
  Result<procfs::Pagemap> OpenPagemap(const Process& process) override {
    return procfs::Pagemap::Open(root_, process.pid);
  }
  bool LayoutIsRandom(const Process& /*process*/) override { return random; }

  std::set<std::pair<pid_t, pid_t>> sharing;
  std::map<pid_t, pid_t> same_memory;       // a process, and the one whose memory it has
  std::map<pid_t, std::string> pagemap_of;  // a process whose layout changed, and the page table that is still its own
  bool kernel_tells = true;
  bool random = true;
  int comparisons = 0;
  int orders = 0;
  int comparisons_of_memory = 0;

 private:
  pid_t MemoryOf(pid_t pid) const {
    const auto other = same_memory.find(pid);
    return other == same_memory.end() ? pid : other->second;
  }

  procfs::Root root_;
};

class FamiliesTest : public testing::Test {
 protected:
  void Update() {
    host_.Sync();
    ASSERT_TRUE(table_.Update());
    families_.Update(table_, probe_);
  }
  // What a pass over every family does for membership.
  void SettleAll() {
    ended_.clear();
    for (const auto& family : families_.families()) {
      family->ledger.BeginPass();
      Judgement judgement;
      MovedSharing moved;
      const FrameFacts unknown;
      family->ledger.FinishPass(unknown, judgement, moved).MakeAll();
      for (const auto& member : families_.Settle(*family)) ended_.push_back(member->process->pid);
    }
  }
  void Pass() {
    Update();
    SettleAll();
  }
  void PassUnchanged() {
    ASSERT_TRUE(table_.Update());
    families_.Update(table_, probe_);
    SettleAll();
  }
  const Family* FamilyOf(pid_t pid) const {
    for (const auto& family : families_.families()) {
      for (const auto& member : family->members) {
        if (member->process->pid == pid) return family.get();
      }
    }
    return nullptr;
  }
  const Member* MemberOf(pid_t pid) const {
    const Family* family = FamilyOf(pid);
    if (family == nullptr) return nullptr;
    const auto found = std::find_if(family->members.begin(), family->members.end(),
                                    [pid](const auto& member) { return member->process->pid == pid; });
    return found->get();
  }
  Pids MembersWith(pid_t pid) const {
    Pids pids;
    if (const Family* family = FamilyOf(pid)) {
      for (const auto& member : family->members) pids.push_back(member->process->pid);
    }
    return pids;
  }

  test::FixtureHost host_;
  FakeProbe probe_{host_.Root()};
  ProcessTable table_{host_.Root(), 1000};
  Lineage families_{procfs::PageGeometry(), Pfn::None()};
  Pids ended_;
};

TEST_F(FamiliesTest, ChildJoinsByLayoutAndParent) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  EXPECT_EQ(MembersWith(11), (Pids{10, 11}));
  EXPECT_EQ(FamilyOf(11)->root()->process->pid, 10);
  EXPECT_EQ(MemberOf(11)->parent, MemberOf(10)->slot);
  EXPECT_EQ(MemberOf(10)->parent, Verdict::kNobody);
  EXPECT_EQ(probe_.comparisons, 0);
  EXPECT_TRUE(MemberOf(10)->access.pagemap);
  EXPECT_TRUE(MemberOf(11)->access.pagemap);
}

TEST_F(FamiliesTest, ChildOfAnotherProgramIsAlone) {
  host_.Add(10);
  host_.Fork(10, 11).layout = 0x800000;
  Pass();
  EXPECT_EQ(MembersWith(11), Pids{11});
  EXPECT_EQ(families_.families().size(), 2U);
  EXPECT_FALSE(MemberOf(10)->access.pagemap);
}

TEST_F(FamiliesTest, SiblingsOfADeadParentJoinByFrames) {
  host_.Add(11, 1, 100);
  host_.Add(12, 1, 110);
  host_.Add(13, 1, 120);
  probe_.sharing = {{11, 12}, {11, 13}, {12, 13}};
  Pass();
  EXPECT_EQ(MembersWith(11), (Pids{11, 12, 13}));
  EXPECT_EQ(MemberOf(12)->parent, Verdict::kNobody);
}

TEST_F(FamiliesTest, UnrelatedRunsOfOneProgramStayApart) {
  probe_.random = false;
  host_.Add(10);
  host_.Add(20);
  Pass();
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MembersWith(20), Pids{20});
  EXPECT_GT(probe_.comparisons, 0);
}

TEST_F(FamiliesTest, ChildThatRanTheSameProgramWithoutRandomLayoutStaysApart) {
  probe_.random = false;
  host_.Add(10);
  host_.Add(11, 10, 200);
  Pass();
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MembersWith(11), Pids{11});
}

TEST_F(FamiliesTest, ChildWithoutRandomLayoutJoinsByFrames) {
  probe_.random = false;
  host_.Add(10);
  host_.Add(11, 10, 200);
  probe_.sharing = {{10, 11}};
  Pass();
  EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
}

TEST_F(FamiliesTest, HiddenLayoutsAreNeverEqual) {
  host_.Add(10).layout = 0;
  host_.Fork(10, 11);
  host_.Add(12).layout = 0;
  probe_.sharing = {{10, 11}, {10, 12}, {11, 12}};
  Pass();
  EXPECT_EQ(families_.families().size(), 3U);
  EXPECT_EQ(MembersWith(11), Pids{11});
}

TEST_F(FamiliesTest, ExecLeavesTheFamily) {
  host_.Add(10);
  host_.Fork(10, 11);
  host_.Fork(10, 12);
  Pass();
  host_.Exec(12, 0x900000);
  Update();
  EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
  EXPECT_EQ(MembersWith(12), Pids{12});
  ASSERT_EQ(FamilyOf(10)->ended.size(), 1U);
  EXPECT_TRUE(FamilyOf(10)->ended.front()->life.ended);
  SettleAll();
  EXPECT_EQ(ended_, Pids{12});
  EXPECT_TRUE(FamilyOf(10)->ended.empty());
  Pass();
  EXPECT_EQ(MembersWith(12), Pids{12});
}

// Where it belongs now is not known before the next update: not to its old parent as another fork.
TEST_F(FamiliesTest, ExecAfterTheTableReadItIsPlacedLater) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  const uint64_t forks = FamilyOf(10)->forks;
  host_.EndAddressSpace(11);
  Update();
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MembersWith(11), Pids{});
  EXPECT_EQ(FamilyOf(10)->forks, forks);
  SettleAll();
  EXPECT_EQ(ended_, Pids{11});
  host_.Exec(11, 0x900000);
  Pass();
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MembersWith(11), Pids{11});
}

TEST_F(FamiliesTest, ExecOfTheSameProgramIsSeenByTheDeadDescriptor) {
  probe_.random = false;
  probe_.sharing = {{10, 11}};
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  EXPECT_EQ(MembersWith(11), (Pids{10, 11}));
  host_.EndAddressSpace(11);
  probe_.sharing.clear();
  Pass();
  EXPECT_EQ(ended_, Pids{11});
  EXPECT_EQ(MembersWith(11), Pids{11});
}

TEST_F(FamiliesTest, ExecOfTheRootLeavesItsChildren) {
  host_.Add(10);
  host_.Fork(10, 11);
  host_.Fork(10, 12);
  Pass();
  const uint64_t family = FamilyOf(11)->id;
  host_.Exec(10, 0x900000);
  Pass();
  EXPECT_EQ(MembersWith(11), (Pids{11, 12}));
  EXPECT_EQ(FamilyOf(11)->id, family);
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MemberOf(11)->parent, Verdict::kNobody);
}

TEST_F(FamiliesTest, ReusedPidIsAnotherMember) {
  host_.Add(10);
  host_.Fork(10, 11, 200);
  Pass();
  const MemberIndex slot = MemberOf(11)->slot;
  host_.Exit(11);
  host_.Fork(10, 11, 300);
  Update();
  EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
  EXPECT_NE(MemberOf(11)->slot, slot);
  EXPECT_EQ(MemberOf(11)->process->start_ticks, 300U);
  ASSERT_EQ(FamilyOf(10)->ended.size(), 1U);
  EXPECT_EQ(FamilyOf(10)->ended.front()->process->start_ticks, 200U);
  EXPECT_EQ(FamilyOf(10)->forks, 1U);
}

TEST_F(FamiliesTest, ReusedPidOfAStrangerIsNoMember) {
  host_.Add(10);
  host_.Fork(10, 11, 200);
  Pass();
  host_.Exit(11);
  host_.Add(11, 1, 300).layout = 0x900000;
  Pass();
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MembersWith(11), Pids{11});
  EXPECT_EQ(ended_, Pids{11});
}

TEST_F(FamiliesTest, VforkedChildCountsOnceUntilItExecs) {
  host_.Add(10);
  Pass();
  host_.Fork(10, 11);
  probe_.same_memory = {{11, 10}};
  for (int pass = 0; pass < 2; ++pass) {
    Pass();
    EXPECT_EQ(MembersWith(10), Pids{10});
    ASSERT_EQ(FamilyOf(10)->aliases.size(), 1U);
    EXPECT_EQ(FamilyOf(10)->aliases.front().process->pid, 11);
    EXPECT_EQ(FamilyOf(11), nullptr);
    EXPECT_EQ(FamilyOf(10)->forks, 0U);
  }
  host_.Exec(11, 0x900000);
  probe_.same_memory.clear();
  Pass();
  EXPECT_TRUE(FamilyOf(10)->aliases.empty());
  EXPECT_EQ(MembersWith(11), Pids{11});
  EXPECT_EQ(families_.families().size(), 2U);
}

TEST_F(FamiliesTest, VforkedChildOfAWorkerStaysAnAlias) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  host_.Fork(11, 12, 300);
  probe_.same_memory = {{12, 11}};
  for (int pass = 0; pass < 2; ++pass) {
    Pass();
    EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
    EXPECT_EQ(FamilyOf(10)->aliases.size(), 1U);
  }
}

TEST_F(FamiliesTest, AliasTakesThePlaceOfADeadProcess) {
  host_.Add(10);
  host_.Fork(10, 11);
  host_.Fork(10, 12);
  probe_.same_memory = {{11, 10}, {12, 10}};
  Pass();
  const uint64_t family = FamilyOf(10)->id;
  EXPECT_EQ(FamilyOf(10)->aliases.size(), 2U);
  host_.Exit(10);
  Pass();
  ASSERT_EQ(MembersWith(11), Pids{11});
  EXPECT_EQ(FamilyOf(11)->id, family);
  ASSERT_EQ(FamilyOf(11)->aliases.size(), 1U);
  EXPECT_EQ(FamilyOf(11)->aliases.front().process->pid, 12);
  EXPECT_EQ(families_.families().size(), 1U);
  EXPECT_TRUE(ended_.empty());
}

TEST_F(FamiliesTest, AliasOfAMemberTakesItsSlot) {
  host_.Add(10);
  host_.Fork(10, 11, 200);
  host_.Fork(11, 12, 300);
  probe_.same_memory = {{12, 11}};
  Pass();
  ASSERT_EQ(MembersWith(10), (Pids{10, 11}));
  const MemberIndex slot = MemberOf(11)->slot;
  probe_.pagemap_of[12] = MemberOf(11)->access.pagemap->path();
  host_.Fork(10, 13, 250);
  // Its descriptor still reads: the memory lives on.
  std::filesystem::rename(host_.tree().Path("proc/11/pagemap"), host_.tree().Path("pagemap"));
  host_.Exit(11);
  Pass();
  EXPECT_EQ(MembersWith(10), (Pids{10, 13, 12}));
  EXPECT_EQ(MemberOf(12)->slot, slot);
  EXPECT_FALSE(MemberOf(12)->reads.signals);
  EXPECT_TRUE(ended_.empty());
}

// Its parent is not the process that made it, and a common frame would say no more than that they are relatives.
TEST_F(FamiliesTest, SiblingInTheSameMemoryIsAnAlias) {
  host_.Add(10);
  host_.Fork(10, 11, 200);
  host_.Fork(10, 12, 210);
  host_.Fork(10, 13, 220);
  probe_.same_memory = {{13, 11}};
  for (const bool kernel_tells : {true, false}) {
    probe_.kernel_tells = kernel_tells;
    Lineage families{procfs::PageGeometry(), Pfn::None()};
    host_.Sync();
    ASSERT_TRUE(table_.Update());
    families.Update(table_, probe_);
    ASSERT_EQ(families.families().size(), 1U);
    const Family& family = *families.families().front();
    EXPECT_EQ(family.members.size(), 3U);
    ASSERT_EQ(family.aliases.size(), 1U);
    EXPECT_EQ(family.aliases.front().process->pid, 13);
    EXPECT_EQ(family.FindSlot(family.aliases.front().slot)->process->pid, 11);
  }
}

// The number of comparisons grows as n log n.
TEST_F(FamiliesTest, OneInTheSameMemoryIsFoundInFewSteps) {
  host_.Add(10);
  for (pid_t pid = 11; pid < 211; ++pid) host_.Fork(10, pid, 200 + static_cast<uint64_t>(pid));
  probe_.same_memory = {{210, 57}};
  Pass();
  EXPECT_EQ(FamilyOf(10)->members.size(), 200U);
  ASSERT_EQ(FamilyOf(10)->aliases.size(), 1U);
  EXPECT_EQ(FamilyOf(10)->FindSlot(FamilyOf(10)->aliases.front().slot)->process->pid, 57);
  EXPECT_LT(probe_.orders, 200 * 9);
  EXPECT_EQ(probe_.comparisons_of_memory, 0);
}

TEST_F(FamiliesTest, ChangedLayoutIsNoExecWhileTheDescriptorIsTheProcesss) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  const auto joined = MemberOf(11)->slot;
  probe_.pagemap_of[11] = MemberOf(11)->access.pagemap->path();
  host_.At(11).stack = 0x7d000000;
  host_.At(11).layout = 0x500000;
  Pass();
  EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
  EXPECT_EQ(MemberOf(11)->slot, joined);
  EXPECT_TRUE(ended_.empty());
  // The descriptor reads because somebody else has that memory: the process has another one.
  probe_.pagemap_of.clear();
  host_.At(11).layout = 0x600000;
  Pass();
  EXPECT_EQ(MembersWith(10), Pids{10});
  EXPECT_EQ(MembersWith(11), Pids{11});
  EXPECT_EQ(ended_, Pids{11});
}

TEST_F(FamiliesTest, LayoutThatResemblesTheOldOneIsNoExecWhereLayoutsAreRandom) {
  for (const bool random : {true, false}) {
    probe_.random = random;
    host_.Add(random ? 10 : 20);
    const pid_t pid = random ? 10 : 20;
    Pass();
    const uint64_t family = FamilyOf(pid)->id;
    host_.At(pid).stack = test::kFixtureStack - host_.At(pid).layout;
    host_.At(pid).layout += 0x1000;
    Pass();
    EXPECT_EQ(FamilyOf(pid)->id == family, random);
    EXPECT_EQ(table_.processes().at(pid)->baseline, random);
  }
}

TEST_F(FamiliesTest, RelativeWithAnotherLayoutJoinsByFrames) {
  host_.Add(10);
  auto& child = host_.Fork(10, 11);
  child.stack = test::kFixtureStack - child.layout;
  child.layout += 0x1000;
  auto& orphan = host_.Fork(10, 12, 300);
  orphan.ppid = 1;
  orphan.stack = child.stack;
  orphan.layout += 0x2000;
  host_.Add(20, 1, 400).stack = child.stack;
  host_.At(20).layout += 0x3000;
  probe_.sharing = {{10, 11}, {10, 12}, {11, 12}};
  Pass();
  EXPECT_EQ(MembersWith(10), (Pids{10, 11, 12}));
  EXPECT_EQ(MembersWith(20), Pids{20});
}

TEST_F(FamiliesTest, OldestSurvivorFollowsTheRoot) {
  host_.Add(10, 1, 100);
  host_.Fork(10, 11, 250);
  host_.Fork(10, 12, 240);
  Pass();
  const uint64_t family = FamilyOf(10)->id;
  host_.Exit(10);
  Pass();
  EXPECT_EQ(MembersWith(11), (Pids{12, 11}));
  EXPECT_EQ(FamilyOf(11)->id, family);
  EXPECT_EQ(MemberOf(11)->parent, Verdict::kNobody);
  EXPECT_EQ(ended_, Pids{10});
}

TEST_F(FamiliesTest, ChildOfTheSameTickIsNotTheRoot) {
  host_.Add(300, 1, 100);
  Pass();
  host_.Fork(300, 20, 100);
  Pass();
  EXPECT_EQ(MembersWith(20), (Pids{300, 20}));
}

TEST_F(FamiliesTest, ParentAndChildOfOneTickWithReversedPids) {
  host_.Add(300, 1, 100);
  host_.Fork(300, 20, 100);
  Pass();
  EXPECT_EQ(MembersWith(20), (Pids{300, 20}));
}

TEST_F(FamiliesTest, ParentThatJoinsItsChildIsItsParent) {
  probe_.sharing = {{20, 300}};
  host_.Add(300, 1, 100);
  host_.Fork(300, 20, 100);
  Pass();
  ASSERT_EQ(MembersWith(20), (Pids{300, 20}));
  EXPECT_EQ(MemberOf(20)->parent, MemberOf(300)->slot);
}

TEST_F(FamiliesTest, ChildFoundLaterIsTheForkAndNotItsParent) {
  probe_.random = false;
  host_.Add(5).layout = 0x900000;
  Pass();
  host_.Add(10, 1, 200);
  host_.Fork(10, 11, 300);
  Pass();
  EXPECT_EQ(MembersWith(11), Pids{11});
  probe_.sharing = {{10, 11}};
  for (int pass = 0; pass < 5 && FamilyOf(10) != FamilyOf(11); ++pass) PassUnchanged();
  ASSERT_EQ(MembersWith(10), (Pids{10, 11}));
  EXPECT_EQ(MemberOf(11)->parent, MemberOf(10)->slot);
  EXPECT_TRUE(MemberOf(11)->life.forked);
  EXPECT_FALSE(MemberOf(10)->life.forked);
  EXPECT_EQ(FamilyOf(10)->forks, 1U);
}

TEST_F(FamiliesTest, RelativesFoundLaterJoin) {
  probe_.random = false;
  host_.Add(10);
  host_.Add(20);
  Pass();
  EXPECT_EQ(families_.families().size(), 2U);
  for (const auto& family : families_.families()) family->members.front()->life.broken_pages = 7;
  probe_.sharing = {{10, 20}};
  int passes = 0;
  for (; passes < 5 && families_.families().size() == 2; ++passes) Pass();
  EXPECT_EQ(MembersWith(10), (Pids{10, 20}));
  EXPECT_EQ(families_.families().size(), 1U);
  EXPECT_LT(passes, 5);
  for (const pid_t pid : {10, 20}) EXPECT_EQ(MemberOf(pid)->life.broken_pages, 7U);
}

TEST_F(FamiliesTest, StrangersAreComparedEverLessOften) {
  probe_.random = false;
  host_.Add(10);
  host_.Add(20);
  Pass();
  for (int pass = 0; pass < 100; ++pass) PassUnchanged();
  EXPECT_LT(probe_.comparisons, 20);
  const int before = probe_.comparisons;
  for (int pass = 0; pass < 200; ++pass) PassUnchanged();
  EXPECT_GT(probe_.comparisons, before);
}

TEST_F(FamiliesTest, SlotIsReusedAfterItsHolderIsSettled) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  const MemberIndex slot = MemberOf(11)->slot;
  host_.Exit(11);
  host_.Fork(10, 12);
  Pass();
  EXPECT_NE(MemberOf(12)->slot, slot);
  host_.Fork(10, 13);
  Pass();
  EXPECT_EQ(MemberOf(13)->slot, slot);
}

TEST_F(FamiliesTest, ReusedSlotOfTheParentIsNoParent) {
  host_.Add(10);
  host_.Fork(10, 11, 200);
  host_.Fork(11, 12, 300);
  Pass();
  EXPECT_EQ(MemberOf(12)->parent, MemberOf(11)->slot);
  host_.Exit(11);
  Pass();
  host_.Fork(10, 13, 400);
  Pass();
  EXPECT_EQ(MemberOf(12)->parent, Verdict::kNobody);
}

TEST_F(FamiliesTest, ForksAreCountedSinceTheFirstLook) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  EXPECT_EQ(FamilyOf(10)->forks, 0U);
  EXPECT_FALSE(MemberOf(11)->life.forked);
  host_.Fork(10, 12, 300);
  Update();
  EXPECT_EQ(FamilyOf(10)->forks, 1U);
  EXPECT_TRUE(MemberOf(12)->life.forked);
  EXPECT_TRUE(MemberOf(12)->reads.first_look);
  EXPECT_FALSE(MemberOf(11)->reads.first_look);
  SettleAll();
  EXPECT_FALSE(MemberOf(12)->reads.first_look);
}

TEST_F(FamiliesTest, NewProgramIsNoFork) {
  host_.Add(10);
  Pass();
  host_.Add(20, 10, 300).layout = 0x900000;
  Pass();
  EXPECT_EQ(FamilyOf(20)->forks, 0U);
  EXPECT_FALSE(MemberOf(20)->life.forked);
}

TEST_F(FamiliesTest, LastMemberLosesItsDescriptorAndAnEmptyFamilyGoes) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  host_.Exit(11);
  Pass();
  EXPECT_FALSE(MemberOf(10)->access.pagemap);
  host_.Exit(10);
  Pass();
  EXPECT_EQ(ended_, Pids{10});
  Update();
  EXPECT_TRUE(families_.families().empty());
}

TEST_F(FamiliesTest, DeniedPagemapIsNoted) {
  host_.Add(10);
  host_.Fork(10, 11);
  host_.Sync();
  host_.tree().Remove("proc/11/pagemap");
  ASSERT_TRUE(table_.Update());
  families_.Update(table_, probe_);
  EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
  ASSERT_TRUE(MemberOf(11)->access.unread);
  EXPECT_EQ(MemberOf(11)->access.unread->kind, ErrorKind::kGone);
}

// Processes that came, went and executed since an update that was completed.
class ChangedHost {
 public:
  ChangedHost() {
    host_.Add(10);
    host_.Fork(10, 11, 200);
    host_.Fork(11, 12, 300);
    host_.Fork(10, 13, 400);
    host_.Fork(10, 15, 410);
    host_.Add(20, 1, 500).layout = 0x900000;
    host_.Add(30, 1, 500).layout = 0xb00000;
    probe_.same_memory = {{15, 10}, {16, 11}};
    Update(~0);
    Settle();
    host_.Exit(12);
    host_.Exec(13, 0xa00000);
    host_.Exec(30, 0xc00000);
    host_.Fork(10, 14, 600);
    host_.Fork(10, 16, 610);
    host_.Fork(20, 21, 700);
  }

  // False if it was ended after so many steps.
  bool Update(int steps) {
    host_.Sync();
    const MayGoOn may_go_on = [&steps] { return steps-- != 0; };
    return table_.Update(may_go_on).value() && families_.Update(table_, probe_, may_go_on);
  }
  void Settle() {
    for (const auto& family : families_.families()) {
      Judgement judgement;
      MovedSharing moved;
      const FrameFacts unknown;
      family->ledger.FinishPass(unknown, judgement, moved).MakeAll();
      families_.Settle(*family);
    }
  }
  std::string Describe() const {
    std::string text;
    for (const auto& family : families_.families()) {
      text += "forks " + std::to_string(family->forks) + ":";
      for (const auto& member : family->members) {
        text += " " + std::to_string(member->process->pid) + "/" + std::to_string(member->slot.number());
        text += member->life.forked ? "f" : "";
        text += member->reads.first_look ? "n" : "";
        text += member->access.pagemap ? "" : "-";
      }
      for (const Alias& alias : family->aliases) text += " =" + std::to_string(alias.process->pid);
      for (const auto& member : family->ended) text += " ended " + std::to_string(member->process->pid);
      text += "\n";
    }
    return text + std::to_string(table_.processes().size());
  }

 private:
  test::FixtureHost host_;
  FakeProbe probe_{host_.Root()};
  ProcessTable table_{host_.Root(), 1000};
  Lineage families_{procfs::PageGeometry(), Pfn::None()};
};

TEST(FamiliesAbandonTest, UpdateThatIsEndedAnywhereIsCompletedByTheNext) {
  ChangedHost undisturbed;
  ASSERT_TRUE(undisturbed.Update(~0));
  const std::string expected = undisturbed.Describe();
  int steps = 0;
  for (bool completed = false; !completed; ++steps) {
    SCOPED_TRACE(steps);
    ChangedHost host;
    completed = host.Update(steps);
    if (!completed) {
      ASSERT_TRUE(host.Update(~0));
    }
    ASSERT_EQ(host.Describe(), expected);
  }
  EXPECT_GT(steps, 15);
}

}  // namespace
}  // namespace cow::memory
