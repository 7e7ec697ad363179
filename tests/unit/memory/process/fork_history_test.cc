#include "collectors/memory/process/fork_history.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_proc_events.h"
#include "tests/support/fixture_process.h"

namespace cow::memory {
namespace {

using netlink::ProcEvent;
using test::FakeEvents;
using test::Told;
using Kind = ProcEvent::Kind;

std::string Words(const ForkEvidence& evidence) {
  std::string words;
  if (evidence.own_child) words += "own ";
  if (evidence.parent_idle) words += "parent-idle ";
  if (evidence.idle) words += "idle ";
  return words;
}

constexpr const char* kAll = "own parent-idle idle ";

// A parent 100 with a child 101 and an older child 90.
class ForkHistoryTest : public testing::Test {
 protected:
  ForkHistoryTest() {
    host_.Add(100);
    host_.Fork(100, 90, 150);
    Update();
    host_.Fork(100, 101, 200);
  }
  void Update() {
    history_.BeforeUpdate();
    host_.Sync();
    ASSERT_TRUE(table_.Update());
    history_.AfterUpdate(table_);
  }
  std::string Of(pid_t child, pid_t parent = 100) {
    return Words(history_.Of(*table_.processes().at(child), *table_.processes().at(parent)));
  }
  // Counts one fork on the host.
  void CountFork() {
    host_.tree().WriteFile("proc/stat", "cpu  0\nprocesses " + std::to_string(++forks_) + "\n");
    host_.Sync();
  }
  void Listen() { history_.Listen(std::make_unique<FakeEvents>(told_)); }

  test::FixtureHost host_;
  ProcessTable table_{host_.Root(), 100};
  ForkHistory history_{host_.Root(), true};
  Told told_;
  int forks_ = 1000;
};

TEST_F(ForkHistoryTest, YoungestChildOfAQuietFamilyIsKnown) {
  Update();
  EXPECT_EQ(Of(101), kAll);
}

TEST_F(ForkHistoryTest, OlderChildsParentHasForkedSince) {
  Update();
  EXPECT_EQ(Of(90), "own idle ");
}

TEST_F(ForkHistoryTest, ChildOfTheSameTickMayBeYounger) {
  host_.Fork(100, 102, 200);
  Update();
  EXPECT_EQ(Of(101), "own idle ");
}

TEST_F(ForkHistoryTest, ChildWithAChild) {
  host_.Fork(101, 102, 300);
  Update();
  EXPECT_EQ(Of(101), "own parent-idle ");
}

// A zombie was forked and may have forked.
TEST_F(ForkHistoryTest, Zombies) {
  host_.Fork(100, 102, 300).state = 'Z';
  Update();
  EXPECT_EQ(Of(101), "own idle ");
  host_.At(102).start_ticks = 160;
  Update();
  EXPECT_EQ(Of(101), "parent-idle idle ") << "it may have forked the child";
}

TEST_F(ForkHistoryTest, ChildThatWaitedForAProgram) {
  host_.At(101).children_faults = 30;
  Update();
  EXPECT_EQ(Of(101), "own parent-idle ");
}

TEST_F(ForkHistoryTest, ParentThatWaitedForAProgram) {
  host_.At(100).children_faults = 30;
  Update();
  EXPECT_EQ(Of(101), "idle ");
}

// A sibling that reaped a child may have reaped the process that forked the child in question.
TEST_F(ForkHistoryTest, SiblingThatWaitedForAProgram) {
  host_.At(90).children_faults = 30;
  Update();
  EXPECT_EQ(Of(101), "parent-idle idle ");
}

TEST_F(ForkHistoryTest, WaitingBetweenUpdateAndQuestionIsSeen) {
  Update();
  host_.At(100).children_faults = 30;
  host_.Sync();
  EXPECT_EQ(Of(101), "idle ");
}

TEST_F(ForkHistoryTest, ProcessThatIgnoresItsChildrenIsUnknown) {
  host_.At(101).ignores_children = true;
  Update();
  EXPECT_EQ(Of(101), "own parent-idle ");
  host_.At(101).ignores_children = false;
  host_.At(100).ignores_children = true;
  ++host_.At(100).minor_faults;
  ++host_.At(101).minor_faults;
  Update();
  EXPECT_EQ(Of(101), "idle ");
}

TEST_F(ForkHistoryTest, ForksAfterTheUpdateAreSeen) {
  Update();
  EXPECT_EQ(Of(101), kAll);
  host_.Add(200, 1, 400);  // another process's child
  CountFork();
  EXPECT_EQ(Of(101), kAll);
  host_.Fork(101, 201, 400);
  CountFork();
  EXPECT_EQ(Of(101), "own parent-idle ");
  host_.Fork(100, 202, 400);
  CountFork();
  EXPECT_EQ(Of(101), "own ");
}

TEST_F(ForkHistoryTest, ChildrenThatCameAndWentAfterTheUpdateAreSeen) {
  Update();
  EXPECT_EQ(Of(101), kAll);
  host_.At(100).children_faults = 30;
  CountFork();
  EXPECT_EQ(Of(101), "own idle ");
}

TEST_F(ForkHistoryTest, HiddenProcessesMayBeForks) {
  Update();
  ForkHistory blind(host_.Root(), false);
  blind.BeforeUpdate();
  blind.AfterUpdate(table_);
  EXPECT_EQ(Words(blind.Of(*table_.processes().at(101), *table_.processes().at(100))), "");
}

TEST_F(ForkHistoryTest, NotItsParentAnyMore) {
  host_.At(101).ppid = 1;
  Update();
  EXPECT_EQ(Of(101), "");
}

TEST_F(ForkHistoryTest, EventsTellWhereTheTableDoesNot) {
  Listen();
  told_.events = {{Kind::kFork, 101, 100}};
  host_.At(100).ignores_children = true;
  host_.At(101).ignores_children = true;
  ++host_.At(100).minor_faults;
  Update();
  EXPECT_EQ(Of(101), kAll);
  told_.events = {{Kind::kFork, 300, 101}, {Kind::kExit, 300, 0}};
  EXPECT_EQ(Of(101), "own parent-idle ");
  told_.events = {{Kind::kFork, 301, 100}, {Kind::kExit, 301, 0}};
  EXPECT_EQ(Of(101), "own ");
}

TEST_F(ForkHistoryTest, EventsTellOfTheProcessBetween) {
  Listen();
  told_.events = {{Kind::kFork, 300, 100}, {Kind::kFork, 101, 300}, {Kind::kExit, 300, 0}};
  host_.At(100).children_faults = 30;
  host_.At(101).ignores_children = true;
  Update();
  EXPECT_EQ(Of(101), "");
}

TEST_F(ForkHistoryTest, AfterALossOnlyTheTableTells) {
  Listen();
  told_.events = {{Kind::kFork, 101, 100}};
  host_.At(101).ignores_children = true;
  host_.At(100).children_faults = 30;
  Update();
  EXPECT_EQ(Of(101), kAll);
  told_.complete = false;
  EXPECT_EQ(Of(101), "");
}

// Asks about a parent since a moment.
class IdleTest : public ForkHistoryTest {
 protected:
  IdleTest() {
    Update();
    moment_ = history_.Now();
    moment_.ticks = 250;
  }
  bool IsIdle(pid_t pid = 100) { return history_.IsIdleSince(*table_.processes().at(pid), moment_); }

  ForkMoment moment_;
};

TEST_F(IdleTest, ChildrenFromBeforeAreNoForksSince) { EXPECT_TRUE(IsIdle()); }

TEST_F(IdleTest, YoungerChild) {
  host_.Fork(100, 102, 250);
  Update();
  EXPECT_FALSE(IsIdle());
  EXPECT_TRUE(IsIdle(101));
}

TEST_F(IdleTest, ChildThatItWaitedFor) {
  host_.At(100).children_faults = 30;
  EXPECT_TRUE(IsIdle());
  Update();
  EXPECT_FALSE(IsIdle());
}

TEST_F(IdleTest, ProcessThatIgnoresItsChildrenIsUnknown) {
  host_.At(100).ignores_children = true;
  ++host_.At(100).minor_faults;
  Update();
  EXPECT_FALSE(IsIdle());
}

class IdleByEventsTest : public IdleTest {
 protected:
  IdleByEventsTest() {
    Listen();
    host_.At(100).ignores_children = true;
    ++host_.At(100).minor_faults;
    Update();
  }
};

TEST_F(IdleByEventsTest, NothingIsKnownFromBeforeTheyBegan) {
  EXPECT_FALSE(IsIdle());
  moment_ = history_.Now();
  EXPECT_TRUE(IsIdle());
}

TEST_F(IdleByEventsTest, ForksSinceAreTold) {
  told_.events = {{Kind::kFork, 300, 100}};
  moment_ = history_.Now();
  EXPECT_TRUE(IsIdle()) << "that fork was before";
  told_.events = {{Kind::kFork, 301, 100}, {Kind::kExit, 301, 0}};
  EXPECT_FALSE(IsIdle());
}

TEST_F(IdleByEventsTest, ALossMayHideAFork) {
  moment_ = history_.Now();
  told_.complete = false;
  EXPECT_FALSE(IsIdle());
  moment_ = history_.Now();
  EXPECT_TRUE(IsIdle());
}

TEST_F(ForkHistoryTest, AnotherReaderGetsTheSameEvents) {
  EXPECT_EQ(history_.Relay(), nullptr);
  Listen();
  const auto relay = history_.Relay();
  told_.events = {{Kind::kFork, 101, 100}};
  Update();
  std::vector<ProcEvent> events;
  EXPECT_TRUE(relay->Take(events));
  EXPECT_EQ(events, (std::vector<ProcEvent>{{Kind::kFork, 101, 100}}));
  told_.complete = false;
  Of(101);
  EXPECT_FALSE(relay->Take(events));
  EXPECT_TRUE(relay->Take(events));
}

}  // namespace
}  // namespace cow::memory
