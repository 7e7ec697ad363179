#include "collectors/faults/root_filter.h"

#include <gtest/gtest.h>

namespace cow::faults {
namespace {

constexpr RootId kOne = 1;
constexpr RootId kOther = 2;

RingRecord Fault(pid_t pid, pid_t tid, bool in_kernel = false) {
  FaultRecord fault;
  fault.in_kernel = in_kernel;
  return {0, tid, pid, fault};
}
RingRecord Fork(pid_t parent, pid_t pid) { return {0, parent, parent, ForkRecord{0, pid, pid, parent, parent, false}}; }
RingRecord Exit(pid_t pid, pid_t tid) { return {0, tid, pid, ExitRecord{0, pid, tid}}; }
RingRecord Exec(pid_t pid) { return {0, pid, pid, ExecRecord{0, pid}}; }

TEST(RootFilterTest, TheFirstRootOfAThreadStays) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  EXPECT_FALSE(filter.Accept(Fault(10, 10), kOther));
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  EXPECT_TRUE(filter.Accept(Fault(10, 11), kOther));
  EXPECT_TRUE(filter.IsWatched(10));
  EXPECT_FALSE(filter.IsWatched(12));
}

TEST(RootFilterTest, DoublesOfAnEndAreDropped) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  EXPECT_TRUE(filter.Accept(Exit(10, 10), kOne));
  EXPECT_FALSE(filter.IsWatched(10));
  filter.EndRound();
  EXPECT_FALSE(filter.Accept(Exit(10, 10), kOther));
  filter.EndRound();
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOther)) << "another thread with the same id";
}

TEST(RootFilterTest, AChildIsWatchedIfItsParentWasBeforeTheFork) {
  RootFilter filter;
  // The parent's first record may come from an event that was opened within the fork.
  EXPECT_TRUE(filter.Accept(Fork(10, 20), kOne));
  EXPECT_FALSE(filter.IsWatched(20));
  EXPECT_TRUE(filter.Accept(Fork(10, 30), kOne));
  EXPECT_TRUE(filter.IsWatched(30));
  // A child that inherits passes the events on from its first fork on.
  EXPECT_TRUE(filter.Accept(Fork(30, 40), kOne));
  EXPECT_TRUE(filter.IsWatched(40));
}

TEST(RootFilterTest, AFaultOfTheKernelMayBelongToTheFork) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10, true), kOne));
  EXPECT_TRUE(filter.Accept(Fork(10, 20), kOne));
  EXPECT_FALSE(filter.IsWatched(20));
}

TEST(RootFilterTest, AForkStartsAnIdAnew) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(20, 20), kOther));
  EXPECT_TRUE(filter.Accept(Exit(20, 20), kOther));
  EXPECT_TRUE(filter.Accept(Fork(10, 20), kOne));
  EXPECT_TRUE(filter.Accept(Fault(20, 20), kOne));
}

TEST(RootFilterTest, AThreadThatExecutesTakesItsLeadersId) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  EXPECT_TRUE(filter.Accept(Fault(10, 11), kOther));
  EXPECT_TRUE(filter.Accept(Exit(10, 10), kOne));
  EXPECT_TRUE(filter.Accept(Exec(10), kOther));
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOther));
  EXPECT_TRUE(filter.IsWatched(10));
  EXPECT_FALSE(filter.IsWatched(11)) << "no thread has this id any more";
  filter.EndRound();
  filter.EndRound();
  EXPECT_TRUE(filter.IsWatched(10));
}

TEST(RootFilterTest, DoublesOfAnExecAreDropped) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  EXPECT_TRUE(filter.Accept(Exec(10), kOne));
  EXPECT_FALSE(filter.Accept(Exec(10), kOther));
}

TEST(RootFilterTest, StampsThatDoNotTellTheRoot) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kUnknownRoot));
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  EXPECT_FALSE(filter.Accept(Fault(10, 10), kOther));
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kUnknownRoot));
}

TEST(RootFilterTest, AfterLossesAnyRootMayBeTheFirst) {
  RootFilter filter;
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOne));
  filter.Forget();
  EXPECT_FALSE(filter.IsWatched(10));
  EXPECT_TRUE(filter.Accept(Fault(10, 10), kOther));
}

}  // namespace
}  // namespace cow::faults
