// Processes whose main thread has ended while others run: /proc/PID shows a zombie, but the memory lives.
#include <string>

#include "tests/live/live.h"

namespace cow::live {
namespace {

using LeaderTest = LiveTest;

TEST_F(LeaderTest, MemoryOutlivesTheLeader) {
  const int child = ForkOver("a", 500);
  const std::string id = std::to_string(child);
  Do("threads " + id + " 1");
  const Sample before = Pass();
  Do("leaderexit " + id);
  const Sample ended = Pass();
  EXPECT_EQ(ended.At("cow_processes"), 2);
  EXPECT_EQ(ended.At("cow_families"), 1);
  EXPECT_EQ(Change(before, ended).Pages(Unshared("exit")), 0);
  EXPECT_EQ(Change(before, ended).Pages(kUnattributed), 0);
  EXPECT_EQ(ended.At("cow_fork_break_bytes_count"), 0) << "its life goes on";
  // The remaining thread dirties a page or two of libc's data.
  EXPECT_LE(Change(before, ended).BreaksOfAllSides(), 3);
  EXPECT_EQ(Change(before, ended).Pages(kExposure), -Change(before, ended).BreaksOfAllSides());
  Write(child, "a", 0, 40);
  Write(0, "a", 100, 30);
  const Sample after = Pass();
  EXPECT_EQ(Change(ended, after).Of(kChildBreaks), 40);
  EXPECT_EQ(Change(ended, after).Of(kParentBreaks), 30);
  EXPECT_EQ(Change(ended, after).Pages(kExposure), -70);
  EXPECT_EQ(Change(ended, after).UnsharedPages(), 0);
  Do("kill " + id);
  const Sample gone = Pass();
  EXPECT_EQ(gone.At("cow_processes"), 1);
  EXPECT_EQ(gone.At(kExposure), 0);
  EXPECT_EQ(Change(after, gone).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(after, gone).Pages(Unshared("exit")), after.Pages(kExposure));
}

// First seen after its leader has ended.
TEST_F(LeaderTest, FirstSeenWithoutLeader) {
  const int child = ForkOver("a", 500);
  Do("leaderexit " + std::to_string(child));
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_processes"), 2);
  EXPECT_EQ(before.At("cow_families"), 1);
  EXPECT_GE(before.Pages(kExposure), 500);
  EXPECT_EQ(before.At(kUnmatched), 0);
  Write(child, "a", 0, 40);
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 40);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -40);
}

}  // namespace
}  // namespace cow::live
