// Writes from outside, pages pinned at the fork, and locked memory.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "tests/live/live.h"

namespace cow::live {
namespace {

class OutsideTest : public LiveTest {
 protected:
  explicit OutsideTest(std::chrono::minutes full_every = DefaultFullEvery()) : LiveTest(full_every) {}

  // Writes one byte to each page of another process' mapping.
  void WriteByVmWritev(int id, const std::string& name, size_t first, size_t pages) {
    char byte = 'o';
    for (size_t page = first; page < first + pages; ++page) {
      const iovec from{&byte, 1};
      const iovec to{PlaceOf(id, name, page), 1};
      ASSERT_EQ(process_vm_writev(workload().Pid(id), &from, 1, &to, 1, 0), 1);
    }
  }
  void WriteByProcMem(int id, const std::string& name, size_t first, size_t pages) {
    const std::string path = "/proc/" + std::to_string(workload().Pid(id)) + "/mem";
    const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    for (size_t page = first; page < first + pages; ++page) {
      const auto place = static_cast<off_t>(workload().Address(id, name) + page * PageBytes());
      EXPECT_EQ(pwrite(file, "o", 1, place), 1);
    }
    close(file);
  }

 private:
  void* PlaceOf(int id, const std::string& name, size_t page) {
    const uintptr_t address = workload().Address(id, name) + page * PageBytes();
    return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr): another process' memory
  }
};

class AlwaysFullTest : public OutsideTest {
 protected:
  AlwaysFullTest() : OutsideTest(std::chrono::minutes(0)) {}
};

// The owner of the page counts as the breaker, whichever process' thread wrote. The faults count for the writer, and no
// signal of the owner moves, so only a full pass is sure to see the break.
TEST_F(AlwaysFullTest, WritesFromOutsideAreTheOwners) {
  const int child = ForkOver("a", 500);
  const Sample before = Pass();
  WriteByVmWritev(child, "a", 0, 40);
  WriteByProcMem(child, "a", 40, 20);
  WriteByVmWritev(0, "a", 100, 30);
  WriteByProcMem(0, "a", 130, 10);
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Of(kChildBreaks), 60);
  EXPECT_EQ(change.Of(kParentBreaks), 40);
  EXPECT_EQ(change.Of(kUnknownBreaks), 0);
  EXPECT_EQ(change.Pages(kAnonBreaks), 100);
  EXPECT_EQ(change.Pages(kExposure), -100);
  EXPECT_EQ(change.UnsharedPages(), 0);
  // The page of the last holder is private.
  WriteByVmWritev(0, "a", 0, 60);
  ExpectNoVerdict(Change(after, Pass()));
}

class RarelyFullTest : public OutsideTest {
 protected:
  RarelyFullTest() : OutsideTest(std::chrono::minutes(60)) {}
};

// Passes that read only changes find these breaks once some signal of the family moves.
TEST_F(RarelyFullTest, WritesFromOutsideAreFoundLater) {
  const int child = ForkOver("a", 500);
  const Sample before = Pass();
  WriteByVmWritev(child, "a", 0, 40);
  WriteByProcMem(0, "a", 100, 30);
  const Sample unseen = Pass();
  // Something else on the host may have caused a read.
  const double seen = Change(before, unseen).BreaksOfAllSides();
  EXPECT_TRUE(seen == 0 || seen == 70) << seen;
  Write(child, "a", 200, 1);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 41);
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 30);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -71);
}

// The kernel copies pinned pages at the fork: they were never shared, and both sides are marked exclusive.
TEST_F(OutsideTest, PagesPinnedAtTheForkAreUnattributed) {
  workload().Map(0, "a", 500);
  Write(0, "a", 0, 500);
  const Sample alone = Pass();
  const int idle = ForkWarm();  // breaks of a fork itself
  const Sample forked = Pass();
  Do("kill " + std::to_string(idle));
  Idle(0);
  try {
    Do("pin 0 a 100 64");
  } catch (const std::exception& error) {
    GTEST_SKIP() << error.what();
  }
  const Sample before = Pass();
  const int child = ForkWarm();
  const Sample after = Pass();
  const Change fork(alone, forked);
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kUnattributed) - fork.Pages(kUnattributed), 64);
  EXPECT_EQ(change.BreaksOfAllSides(), fork.BreaksOfAllSides());
  EXPECT_EQ(change.Pages(kExposure), fork.Pages(kExposure) - 64);
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
  // They are private on both sides, so a write breaks nothing.
  Write(child, "a", 100, 64);
  Write(0, "a", 100, 64);
  const Sample written = Pass();
  ExpectNoVerdict(Change(after, written));
  EXPECT_EQ(Change(after, written).Pages(kExposure), 0);
  // Other pages behave as usual.
  Write(child, "a", 90, 10);
  EXPECT_EQ(Change(written, Pass()).Of(kChildBreaks), 10);
}

// Pinned after the fork: like a write, the pin makes a private copy of a shared page.
TEST_F(OutsideTest, PinningSharedPagesBreaksThem) {
  const int child = ForkOver("a", 500);
  const Sample before = Pass();
  try {
    Do("pin " + std::to_string(child) + " a 0 32");
  } catch (const std::exception& error) {
    GTEST_SKIP() << error.what();
  }
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Pages(kAnonBreaks), 32);
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), Change(before, after).BreaksOfAllSides());
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
  Write(child, "a", 0, 32);
  ExpectNoVerdict(Change(after, Pass()));
}

// Locks are not inherited. Fork shares locked pages, and a write copies them, like any other.
TEST_F(OutsideTest, LockedMemoryIsCopiedAsAnyOther) {
  workload().Map(0, "a", 500);
  Write(0, "a", 0, 500);
  Do("mlock 0 a 0 300");
  Do("mlock 0 a 300 200 onfault");
  const int child = ForkWarm();
  Do("mlock " + std::to_string(child) + " a 400 100 onfault");
  const Sample before = Pass();
  EXPECT_GE(before.Pages(kExposure), 500);
  Write(child, "a", 0, 40);
  Write(child, "a", 450, 20);
  Write(0, "a", 280, 40);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 60);
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 40);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -100);
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
}

// mlock without onfault faults in for writing: the locker copies all shared pages.
TEST_F(OutsideTest, LockingSharedPagesBreaksThem) {
  const int child = ForkOver("a", 500);
  const Sample before = Pass();
  Do("mlock " + std::to_string(child) + " a 0 70");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Pages(kAnonBreaks), 70);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -Change(before, after).BreaksOfAllSides());
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
}

TEST_F(OutsideTest, AllMemoryLocked) {
  workload().Map(0, "a", 500);
  Write(0, "a", 0, 500);
  Do("mlockall 0");
  const int child = ForkWarm();
  workload().Map(0, "later", 100);  // present at once, because of the lock on future memory
  const Sample before = Pass();
  EXPECT_GE(before.Pages(kExposure), 500);
  Write(child, "a", 0, 40);
  Write(0, "a", 100, 30);
  Write(0, "later", 0, 100);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 40);
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 30);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -70);
  EXPECT_EQ(Change(before, after).Pages(kFootprint), 70);
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
}

}  // namespace
}  // namespace cow::live
