#include "collectors/procfs/process_list.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "collectors/procfs/ksm.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

TEST(ProcessListTest, ListsNumericDirectoriesInOrder) {
  const test::FixtureTree tree;
  for (const char* directory : {"100", "9", "20", "4194304", "self", "12x", "-3", "0", "007", "99999999999", "sys"}) {
    tree.MakeDirectory(directory);
  }
  tree.WriteFile("55", "a file");
  EXPECT_EQ(ListProcesses(Root(tree.path())).value(), (std::vector<pid_t>{9, 20, 100, 4194304}));
}

TEST(ProcessListTest, ListsThreads) {
  const test::FixtureTree tree;
  for (const char* directory : {"100/task/100", "100/task/9", "100/task/x"}) tree.MakeDirectory(directory);
  EXPECT_EQ(ListThreads(Root(tree.path()), 100).value(), (std::vector<pid_t>{9, 100}));
  EXPECT_EQ(ListThreads(Root(tree.path()), 101).error().kind, ErrorKind::kGone);
}

TEST(ProcessListTest, Errors) {
  const test::FixtureTree tree;
  EXPECT_TRUE(ListProcesses(Root(tree.path())).value().empty());
  EXPECT_EQ(ListProcesses(Root(tree.Path("missing"))).error().kind, ErrorKind::kGone);
  tree.WriteFile("file", "");
  EXPECT_EQ(ListProcesses(Root(tree.Path("file"))).error().kind, ErrorKind::kIo);
}

TEST(ProcessListTest, FindsThisProcess) {
  const auto pids = ListProcesses(Root());
  ASSERT_TRUE(pids) << pids.error().ToString();
  EXPECT_TRUE(std::is_sorted(pids->begin(), pids->end()));
  EXPECT_TRUE(std::binary_search(pids->begin(), pids->end(), getpid()));
}

TEST(KsmTest, ReadsPages) {
  const test::FixtureTree tree;
  tree.WriteFile("42/ksm_merging_pages", "77\n");
  EXPECT_EQ(ReadKsmMergingPages(Root(tree.path()), 42).value(), 77U);
}

TEST(KsmTest, MissingFileIsZeroWhileTheProcessLives) {
  const test::FixtureTree tree;
  tree.MakeDirectory("42");
  EXPECT_EQ(ReadKsmMergingPages(Root(tree.path()), 42).value(), 0U);
  EXPECT_EQ(ReadKsmMergingPages(Root(tree.path()), 43).error().kind, ErrorKind::kGone);
}

TEST(KsmTest, EmptyIsGoneAndNonsenseIsMalformed) {
  const test::FixtureTree tree;
  tree.WriteFile("42/ksm_merging_pages", "");
  EXPECT_EQ(ReadKsmMergingPages(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  for (const char* bad : {"\n", "x\n", "-1\n", "99999999999999999999\n", "1 2\n"}) {
    tree.WriteFile("42/ksm_merging_pages", bad);
    EXPECT_EQ(ReadKsmMergingPages(Root(tree.path()), 42).error().kind, ErrorKind::kMalformed) << bad;
  }
}

TEST(KsmTest, ReadsThisProcess) { EXPECT_TRUE(ReadKsmMergingPages(Root(), getpid())); }

}  // namespace
}  // namespace cow::procfs
