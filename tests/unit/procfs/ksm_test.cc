#include "collectors/procfs/ksm.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

TEST(KsmStatTest, ReadsEveryField) {
  const test::FixtureTree tree;
  tree.WriteFile("42/ksm_stat",
                 "ksm_rmap_items 76\nksm_zero_pages 3\nksm_merging_pages 50\nksm_process_profit -1280\n"
                 "ksm_merge_any: no\nksm_mergeable: yes\n");
  const auto stat = ReadKsmStat(Root(tree.path()), 42);
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->merging_pages, 50U);
  EXPECT_EQ(stat->zero_pages, 3U);
  EXPECT_EQ(stat->rmap_items, 76U);
  EXPECT_EQ(stat->profit_bytes, -1280);
}

TEST(KsmStatTest, OlderKernelsTellLess) {
  const test::FixtureTree tree;
  tree.WriteFile("42/ksm_merging_pages", "50\n");
  auto stat = ReadKsmStat(Root(tree.path()), 42);
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->merging_pages, 50U);
  EXPECT_FALSE(stat->rmap_items || stat->zero_pages || stat->profit_bytes);
  // The first version of ksm_stat had one line.
  tree.WriteFile("42/ksm_stat", "ksm_rmap_items 76\n");
  stat = ReadKsmStat(Root(tree.path()), 42);
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->merging_pages, 50U);
  EXPECT_EQ(stat->rmap_items, 76U);
}

TEST(KsmStatTest, WithoutKsmNothingIsKnown) {
  const test::FixtureTree tree;
  tree.MakeDirectory("42");
  const auto stat = ReadKsmStat(Root(tree.path()), 42);
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_FALSE(stat->merging_pages || stat->rmap_items || stat->zero_pages || stat->profit_bytes);
  EXPECT_EQ(ReadKsmStat(Root(tree.path()), 43).error().kind, ErrorKind::kGone);
}

TEST(KsmStatTest, EmptyIsGoneAndNonsenseIsMalformed) {
  const test::FixtureTree tree;
  tree.WriteFile("42/ksm_stat", "");
  EXPECT_EQ(ReadKsmStat(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  for (const char* bad : {"ksm_merging_pages\n", "ksm_merging_pages -1\n", "ksm_merging_pages 1 2\n",
                          "ksm_process_profit 1.5\n", "ksm_zero_pages x\n", "ksm_rmap_items 99999999999999999999\n"}) {
    tree.WriteFile("42/ksm_stat", bad);
    EXPECT_EQ(ReadKsmStat(Root(tree.path()), 42).error().kind, ErrorKind::kMalformed) << bad;
  }
}

TEST(KsmStatTest, HostHasMergedUnlessItSaysZero) {
  const test::FixtureTree tree;
  const Root root(tree.path(), tree.path());
  EXPECT_FALSE(KsmHasMerged(root)) << "no KSM";
  tree.WriteFile("kernel/mm/ksm/pages_shared", "0\n");
  EXPECT_FALSE(KsmHasMerged(root));
  tree.WriteFile("kernel/mm/ksm/pages_shared", "30\n");
  EXPECT_TRUE(KsmHasMerged(root));
}

TEST(KsmStatTest, ReadsThisProcess) {
  const auto stat = ReadKsmStat(Root(), getpid());
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->merging_pages.value_or(0), 0U);
}

}  // namespace
}  // namespace cow::procfs
