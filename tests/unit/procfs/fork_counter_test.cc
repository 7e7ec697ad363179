#include "collectors/procfs/fork_counter.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

TEST(ForkCounterTest, LastPidOfLoadavg) {
  EXPECT_EQ(ParseLastPid("0.10 0.20 0.30 2/345 67890\n", "loadavg"), 67890U);
  for (const char* text : {"", "\n", "67890", "0.10 0.20 0.30 2/345 x\n"}) {
    const auto pid = ParseLastPid(text, "loadavg");
    ASSERT_FALSE(pid) << text;
    EXPECT_EQ(pid.error().kind, ErrorKind::kMalformed);
  }
}

TEST(ForkCounterTest, ProcessesOfStat) {
  EXPECT_EQ(ParseForks("cpu  1 2\nbtime 3\nprocesses 4711\nprocs_running 1\n", "stat"), 4711U);
  EXPECT_FALSE(ParseForks("cpu  1 2\nprocs_running 1\n", "stat"));
  EXPECT_FALSE(ParseForks("processes many\n", "stat"));
}

// The last pid of the reader's own namespace says nothing about forks in another one.
TEST(ForkCounterTest, AnotherNamespacesProcfsIsReadByItsStat) {
  const test::FixtureTree tree;
  tree.Symlink("self", std::to_string(getpid() + 1));
  tree.WriteFile("loadavg", "0.10 0.20 0.30 2/345 67890\n");
  tree.WriteFile("stat", "processes 1\n");
  ForkCounter counter{Root(tree.path())};
  EXPECT_EQ(counter.Read(), 1U);
  tree.WriteFile("stat", std::string(5000, ' ') + "\nprocesses 2\n");
  EXPECT_EQ(counter.Read(), 2U) << "by the descriptor that was kept";
}

TEST(ForkCounterTest, MovesWithAFork) {
  ForkCounter counter{Root()};
  const auto before = counter.Read();
  ASSERT_TRUE(before);
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  waitpid(pid, nullptr, 0);
  const auto after = counter.Read();
  ASSERT_TRUE(after);
  EXPECT_NE(*before, *after);
}

}  // namespace
}  // namespace cow::procfs
