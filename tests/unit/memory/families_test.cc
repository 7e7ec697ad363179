#include "collectors/memory/families.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
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
  std::optional<bool> SameMemory(const Process& a, const Process& b) override {
    return same_memory.contains(std::minmax(a.pid, b.pid));
  }
  procfs::Result<procfs::Pagemap> OpenPagemap(const Process& process) override {
    return procfs::Pagemap::Open(root_, process.pid);
  }
  bool LayoutIsRandom(const Process& /*process*/) override { return random; }

  std::set<std::pair<pid_t, pid_t>> sharing;
  std::set<std::pair<pid_t, pid_t>> same_memory;
  bool random = true;
  int comparisons = 0;

 private:
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
      family->ledger.FinishPass(FrameFacts(), judgement, moved);
      families_.Settle(*family, [this](const Family&, const Member& member) { ended_.push_back(member.process->pid); });
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
  Families families_{procfs::PageGeometry(), kNoFrame};
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
  EXPECT_TRUE(MemberOf(10)->pagemap);
  EXPECT_TRUE(MemberOf(11)->pagemap);
}

TEST_F(FamiliesTest, ChildOfAnotherProgramIsAlone) {
  host_.Add(10);
  host_.Fork(10, 11).layout = 0x800000;
  Pass();
  EXPECT_EQ(MembersWith(11), Pids{11});
  EXPECT_EQ(families_.families().size(), 2U);
  EXPECT_FALSE(MemberOf(10)->pagemap);
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
  EXPECT_TRUE(FamilyOf(10)->ended.front()->ended);
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
  const Slot slot = MemberOf(11)->slot;
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
  probe_.same_memory = {{10, 11}};
  for (int pass = 0; pass < 2; ++pass) {
    Pass();
    EXPECT_EQ(MembersWith(10), Pids{10});
    ASSERT_EQ(FamilyOf(10)->aliases.size(), 1U);
    EXPECT_EQ(FamilyOf(10)->aliases.front()->pid, 11);
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
  probe_.same_memory = {{11, 12}};
  for (int pass = 0; pass < 2; ++pass) {
    Pass();
    EXPECT_EQ(MembersWith(10), (Pids{10, 11}));
    EXPECT_EQ(FamilyOf(10)->aliases.size(), 1U);
  }
}

TEST_F(FamiliesTest, AliasOfADeadProcessBecomesAFamily) {
  host_.Add(10);
  host_.Fork(10, 11);
  probe_.same_memory = {{10, 11}};
  Pass();
  host_.Exit(10);
  probe_.same_memory.clear();
  Pass();
  EXPECT_EQ(MembersWith(11), Pids{11});
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
  EXPECT_TRUE(MemberOf(11)->forked);
  EXPECT_FALSE(MemberOf(10)->forked);
  EXPECT_EQ(FamilyOf(10)->forks, 1U);
}

TEST_F(FamiliesTest, RelativesFoundLaterJoin) {
  probe_.random = false;
  host_.Add(10);
  host_.Add(20);
  Pass();
  EXPECT_EQ(families_.families().size(), 2U);
  for (const auto& family : families_.families()) family->members.front()->break_pages = 7;
  probe_.sharing = {{10, 20}};
  int passes = 0;
  for (; passes < 5 && families_.families().size() == 2; ++passes) Pass();
  EXPECT_EQ(MembersWith(10), (Pids{10, 20}));
  EXPECT_EQ(families_.families().size(), 1U);
  EXPECT_LT(passes, 5);
  for (const pid_t pid : {10, 20}) EXPECT_EQ(MemberOf(pid)->break_pages, 7U);
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
  const Slot slot = MemberOf(11)->slot;
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
  EXPECT_FALSE(MemberOf(11)->forked);
  host_.Fork(10, 12, 300);
  Update();
  EXPECT_EQ(FamilyOf(10)->forks, 1U);
  EXPECT_TRUE(MemberOf(12)->forked);
  EXPECT_TRUE(MemberOf(12)->first_look);
  EXPECT_FALSE(MemberOf(11)->first_look);
  SettleAll();
  EXPECT_FALSE(MemberOf(12)->first_look);
}

TEST_F(FamiliesTest, NewProgramIsNoFork) {
  host_.Add(10);
  Pass();
  host_.Add(20, 10, 300).layout = 0x900000;
  Pass();
  EXPECT_EQ(FamilyOf(20)->forks, 0U);
  EXPECT_FALSE(MemberOf(20)->forked);
}

TEST_F(FamiliesTest, LastMemberLosesItsDescriptorAndAnEmptyFamilyGoes) {
  host_.Add(10);
  host_.Fork(10, 11);
  Pass();
  host_.Exit(11);
  Pass();
  EXPECT_FALSE(MemberOf(10)->pagemap);
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
  ASSERT_TRUE(MemberOf(11)->unread);
  EXPECT_EQ(MemberOf(11)->unread->kind, procfs::ErrorKind::kGone);
}

}  // namespace
}  // namespace cow::memory
