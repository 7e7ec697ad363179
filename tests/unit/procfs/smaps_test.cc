#include "collectors/procfs/smaps.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

std::string Fields() {
  return "Size:                200 kB\n"
         "KernelPageSize:        4 kB\n"
         "MMUPageSize:           4 kB\n"
         "Rss:                 100 kB\n"
         "Pss:                  51 kB\n"
         "Pss_Dirty:            11 kB\n"
         "Shared_Clean:          1 kB\n"
         "Shared_Dirty:          2 kB\n"
         "Private_Clean:         3 kB\n"
         "Private_Dirty:         6 kB\n"
         "Referenced:          100 kB\n"
         "Anonymous:             7 kB\n"
         "KSM:                   0 kB\n"
         "LazyFree:              0 kB\n"
         "AnonHugePages:         8 kB\n"
         "Swap:                  9 kB\n"
         "SwapPss:               9 kB\n"
         "Locked:                0 kB\n"
         "THPeligible:           0\n"
         "ProtectionKey:         0\n"
         "VmFlags: rd wr mr mw me ac sd \n";
}

void ExpectFields(const SmapsVma& smaps) {
  EXPECT_EQ(smaps.rss_bytes, 102400U);
  EXPECT_EQ(smaps.swap_bytes, 9216U);
}

TEST(SmapsTest, ReadsEveryArea) {
  const test::FixtureTree tree;
  tree.WriteFile("42/smaps", "1000-33000 rw-p 00000000 00:00 0                          [heap]\n" + Fields() +
                                 "40000-72000 rw-p 00000000 fe:01 9                          /x: y\n" + Fields());
  const auto vmas = ReadSmaps(Root(tree.path()), 42);
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  ASSERT_EQ(vmas->size(), 2U);
  EXPECT_EQ((*vmas)[0].vma.path, "[heap]");
  EXPECT_EQ((*vmas)[1].vma.path, "/x: y");
  EXPECT_EQ((*vmas)[1].vma.start, 0x40000U);
  for (const SmapsVma& smaps : *vmas) ExpectFields(smaps);
}

constexpr const char* kRollupLine = "1000-72000 ---p 00000000 00:00 0                          [rollup]\n";

// The fields of 4.14 that the reader needs.
constexpr std::array kFirstRollupFields{
    "Rss",      "Pss",           "Shared_Clean",   "Shared_Dirty",    "Private_Clean", "Private_Dirty", "Anonymous",
    "LazyFree", "AnonHugePages", "Shared_Hugetlb", "Private_Hugetlb", "Swap",          "SwapPss"};

// Makes a text whose first field is 1 kB, the second 2 kB, and so on. Omits the field `without`.
std::string RollupText(std::string_view without = "") {
  std::string text = kRollupLine;
  for (size_t i = 0; i < kFirstRollupFields.size(); ++i) {
    if (kFirstRollupFields.at(i) == without) continue;
    text.append(kFirstRollupFields.at(i)).append(":   ").append(std::to_string(i + 1)).append(" kB\n");
  }
  return text;
}

TEST(SmapsTest, ReadsRollup) {
  const test::FixtureTree tree;
  tree.WriteFile("42/smaps_rollup", RollupText() +
                                        "Pss_Dirty: 21 kB\nPss_Anon: 22 kB\nPss_File: 23 kB\nPss_Shmem: 24 kB\n"
                                        "KSM: 25 kB\nFilePmdMapped: 26 kB\nOfTomorrow: 27 apples\n");
  const auto sums = ReadSmapsRollup(Root(tree.path()), 42);
  ASSERT_TRUE(sums) << sums.error().ToString();
  EXPECT_EQ(sums->rss_bytes, 1024U);
  EXPECT_EQ(sums->pss_bytes, 2U * 1024);
  EXPECT_EQ(sums->shared_clean_bytes, 3U * 1024);
  EXPECT_EQ(sums->shared_dirty_bytes, 4U * 1024);
  EXPECT_EQ(sums->private_clean_bytes, 5U * 1024);
  EXPECT_EQ(sums->private_dirty_bytes, 6U * 1024);
  EXPECT_EQ(sums->anonymous_bytes, 7U * 1024);
  EXPECT_EQ(sums->lazy_free_bytes, 8U * 1024);
  EXPECT_EQ(sums->anon_huge_bytes, 9U * 1024);
  EXPECT_EQ(sums->shared_hugetlb_bytes, 10U * 1024);
  EXPECT_EQ(sums->private_hugetlb_bytes, 11U * 1024);
  EXPECT_EQ(sums->swap_bytes, 12U * 1024);
  EXPECT_EQ(sums->swap_pss_bytes, 13U * 1024);
  EXPECT_EQ(sums->pss_dirty_bytes, 21U * 1024);
  EXPECT_EQ(sums->pss_anon_bytes, 22U * 1024);
  EXPECT_EQ(sums->pss_file_bytes, 23U * 1024);
  EXPECT_EQ(sums->pss_shmem_bytes, 24U * 1024);
  EXPECT_EQ(sums->ksm_bytes, 25U * 1024);
}

TEST(SmapsTest, OldKernelsLackRollupFields) {
  const auto sums = ParseSmapsRollup(RollupText(), "smaps_rollup");
  ASSERT_TRUE(sums) << sums.error().ToString();
  EXPECT_EQ(sums->pss_bytes, 2U * 1024);
  EXPECT_FALSE(sums->pss_dirty_bytes);
  EXPECT_FALSE(sums->pss_anon_bytes);
  EXPECT_FALSE(sums->pss_file_bytes);
  EXPECT_FALSE(sums->pss_shmem_bytes);
  EXPECT_FALSE(sums->ksm_bytes);
}

TEST(SmapsTest, RollupMustBeWhole) {
  for (const char* field : kFirstRollupFields) {
    const auto sums = ParseSmapsRollup(RollupText(field), "smaps_rollup");
    ASSERT_FALSE(sums) << field;
    EXPECT_EQ(sums.error().ToString(), std::string("smaps_rollup: ") + field + " is missing");
  }
}

TEST(SmapsTest, OldKernelsLackFields) {
  const auto vmas = ParseSmaps("1000-2000 rw-p 0 00:00 0\nRss: 4 kB\n", "smaps");
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  EXPECT_EQ(vmas->front().rss_bytes, 4096U);
  EXPECT_EQ(vmas->front().swap_bytes, 0U);
}

TEST(SmapsTest, EmptyIsGone) {
  const test::FixtureTree tree;
  tree.WriteFile("42/smaps", "");
  tree.WriteFile("42/smaps_rollup", "");
  for (const pid_t pid : {42, 43}) {
    EXPECT_EQ(ReadSmaps(Root(tree.path()), pid).error().kind, ErrorKind::kGone);
    EXPECT_EQ(ReadSmapsRollup(Root(tree.path()), pid).error().kind, ErrorKind::kGone);
  }
}

TEST(SmapsTest, Malformed) {
  const std::string area = "1000-2000 rw-p 0 00:00 0\n";
  const std::string good = area + "Rss: 4 kB\n";
  for (const std::string& bad :
       {std::string("\n"), std::string("Rss: 4 kB\n"), area, area + "Rss: 4\n", area + "Rss: -4 kB\n",
        area + "Rss: x kB\n", area + "Rss:\n", area + "Rss: 99999999999999999999 kB\n", good + "nonsense\n",
        good + good, good + "\n", good + "3000-4000 rw-p"}) {
    const auto vmas = ParseSmaps(bad, "smaps");
    ASSERT_FALSE(vmas) << bad;
    EXPECT_EQ(vmas.error().kind, ErrorKind::kMalformed) << bad;
  }
  for (const std::string& bad : {std::string("\n"), std::string(kRollupLine), RollupText() + area, RollupText() + "\n",
                                 RollupText() + "Swap: 1\n", RollupText() + "KSM: -1 kB\n"}) {
    const auto sums = ParseSmapsRollup(bad, "smaps_rollup");
    ASSERT_FALSE(sums) << bad;
    EXPECT_EQ(sums.error().kind, ErrorKind::kMalformed) << bad;
  }
}

}  // namespace
}  // namespace cow::procfs
