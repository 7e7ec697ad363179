// Which processes form a family, and what happens to its group.
#include <sys/personality.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "tests/live/live.h"

namespace cow::live {
namespace {

using testing::Workload;

class MembershipTest : public LiveTest {
 protected:
  void Fill(Workload& workload) {
    workload.Map(0, "a", 500);
    workload.Do("write 0 a 0 500");
  }
};

TEST_F(MembershipTest, OrphanOfASubreaperStays) {
  Do("subreaper");
  Fill(workload());
  const int child = Fork();
  const int orphan = workload().ForkDouble(child).id;
  Idle(orphan);
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_processes"), 3);
  EXPECT_EQ(before.At("cow_families"), 1);
  EXPECT_GE(before.Pages(kExposure), 1000);
  Do("write " + std::to_string(orphan) + " a 0 25");
  EXPECT_EQ(Change(before, Pass()).Of(kChildBreaks), 25);
}

// Its parent is unrelated: only frames show the family.
TEST_F(MembershipTest, OrphanOfAStrangerJoinsByFrames) {
  Fill(workload());
  const int orphan = workload().ForkDouble().id;
  Idle(orphan);
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_processes"), 2);
  EXPECT_EQ(before.At("cow_families"), 1);
  EXPECT_GE(before.Pages(kExposure), 500);
  Do("write " + std::to_string(orphan) + " a 0 25");
  EXPECT_EQ(Change(before, Pass()).Of(kChildBreaks), 25);
}

TEST_F(MembershipTest, ExecLeaves) {
  Fill(workload());
  const int child = Fork();
  Idle(0);
  Idle(child);
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_families"), 1);
  Do("exec " + std::to_string(child));
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_processes"), 1);
  EXPECT_EQ(after.At("cow_families"), 0);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_GE(Change(before, after).Pages(Unshared("exit")), 500);
  EXPECT_LE(Change(before, after).BreaksOfAllSides(), 10) << "stack and data on the way to the exec";
}

TEST_F(MembershipTest, ProcessInTheSameMemoryCountsItOnce) {
  Fill(workload());
  const Sample before = Pass();
  Do("share 0");
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_processes"), 2);
  EXPECT_EQ(after.At("cow_families"), 0);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_NEAR(Change(before, after).Pages("cow_footprint_bytes"), 0, 2);
  const int child = Fork();
  Idle(0);
  Idle(child);
  const Sample forked = Pass();
  EXPECT_EQ(forked.At("cow_processes"), 3);
  EXPECT_EQ(forked.At("cow_families"), 1);
  EXPECT_LE(forked.Pages(kExposure), 1000) << "shared by two address spaces, not by three";
}

TEST_F(MembershipTest, CountersSurviveTheFamily) {
  const std::string name = group() + "b";
  auto brief = StartWorkload(name);
  Fill(*brief);
  const int child = brief->Fork().id;
  Pass(name);
  brief->Do("write " + std::to_string(child) + " a 0 100");
  const Sample before = Pass(name);
  EXPECT_GE(before.At(kChildBreaks), 100);
  brief.reset();
  Sample after = Pass(name);
  // A process that has freed its memory is still listed for a moment.
  for (int i = 0; i < 100 && after.At("cow_processes") != 0; ++i) after = Pass(name);
  EXPECT_EQ(after.At("cow_processes"), 0);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(after.At(kChildBreaks), before.At(kChildBreaks));
  EXPECT_EQ(after.At("cow_forks_total"), 1);
  EXPECT_EQ(after.At("cow_fork_break_bytes_count"), 1);
  // The next group of this name continues the counters.
  auto next = StartWorkload(name);
  Fill(*next);
  EXPECT_GE(Pass(name).At(kChildBreaks), before.At(kChildBreaks));
}

TEST_F(MembershipTest, SurvivorsOfTheRootKeepTheGroup) {
  Fill(workload());
  const int child = Fork();
  const int grandchild = Fork(child);
  Pass();
  Do("write " + std::to_string(child) + " a 0 10");
  const Sample before = Pass();
  Do("kill " + std::to_string(child));
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_processes"), 2);
  EXPECT_EQ(after.At("cow_families"), 1);
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  Do("write " + std::to_string(grandchild) + " a 100 10");
  EXPECT_GE(Change(after, Pass()).Of(kChildBreaks), 10);
}

TEST_F(MembershipTest, RootThatChangesItsUserIsJudgedAgain) {
  const std::string other = group() + "u";
  collectors::EngineOptions options = DefaultOptions();
  options.full_every = std::chrono::milliseconds(100);
  GroupRule& rule = options.groups.rules.emplace_back();
  rule.name = {{GroupNamePart::Kind::kText, other}};
  rule.comm = {group()};
  rule.user = {"65534"};
  collectors::Engine engine(procfs::Root(), options);
  PassOf(engine, group());
  const int child = ForkOver("a", 500);
  PassOf(engine, group());
  Write(child, "a", 0, 40);
  const Sample before = PassOf(engine, group());
  EXPECT_EQ(before.At("cow_processes"), 2);
  EXPECT_EQ(PassOf(engine, other).At("cow_processes"), 0);
  Do("setuid " + std::to_string(child) + " 65533");
  EXPECT_EQ(PassOf(engine, group()).At("cow_processes"), 2) << "it is not the root";
  const Sample counted = Collect(engine, group());
  Do("setuid 0 65534");
  std::this_thread::sleep_for(options.full_every);
  EXPECT_EQ(PassOf(engine, other).At("cow_processes"), 2);
  EXPECT_EQ(Collect(engine, group()).At("cow_processes"), 0);
  const Sample moved = Collect(engine, other);
  Write(child, "a", 40, 30);
  EXPECT_EQ(Change(moved, PassOf(engine, other)).Pages(kAnonBreaks), 30);
  EXPECT_EQ(Change(counted, Collect(engine, group())).BreaksOfAllSides(), 0) << "counts are never moved";
}

TEST_F(MembershipTest, EqualLayoutsAreNoFamily) {
  const int before_personality = personality(0xffffffff);
  personality(static_cast<uint32_t>(before_personality) | ADDR_NO_RANDOMIZE);
  const std::string name = group() + "r";
  auto first = StartWorkload(name);
  auto second = StartWorkload(name);
  personality(static_cast<uint32_t>(before_personality));
  Fill(*first);
  Fill(*second);
  ASSERT_EQ(first->Address(0, "a"), second->Address(0, "a")) << "layouts differ: nothing is tested";
  Pass();  // a group of single processes is exported from its second pass on
  for (int pass = 0; pass < 3; ++pass) {
    const Sample sample = Pass(name);
    EXPECT_EQ(sample.At("cow_processes"), 2);
    EXPECT_EQ(sample.At("cow_families"), 0);
    EXPECT_EQ(sample.At(kExposure), 0);
    EXPECT_EQ(sample.At("cow_forks_total"), 0);
    EXPECT_EQ(sample.At(kUnattributed), 0);
  }
  const int child = second->Fork().id;
  second->Do("stack " + std::to_string(child) + " 4");
  const Sample forked = Pass(name);
  EXPECT_EQ(forked.At("cow_families"), 1);
  EXPECT_EQ(forked.At("cow_forks_total"), 1);
  EXPECT_NEAR(forked.Pages(kExposure), 500, 100);
  second->Do("write " + std::to_string(child) + " a 0 30");
  EXPECT_EQ(Change(forked, Pass(name)).Of(kChildBreaks), 30);
}

}  // namespace
}  // namespace cow::live
