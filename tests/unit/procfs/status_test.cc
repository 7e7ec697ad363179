#include "collectors/procfs/status.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kStatus =
    "Name:\tredis-server\n"
    "Umask:\t0022\n"
    "State:\tS (sleeping)\n"
    "Tgid:\t42\n"
    "Ngid:\t0\n"
    "Pid:\t42\n"
    "PPid:\t7\n"
    "NSpid:\t42\t9\t3\n"
    "Uid:\t1000\t1001\t1002\t1003\n"
    "Gid:\t0\t0\t0\t0\n"
    "Groups:\t \n"
    "VmRSS:\t    1688 kB\n"
    "RssAnon:\t     112 kB\n"
    "RssFile:\t    1576 kB\n"
    "RssShmem:\t       4 kB\n"
    "VmSwap:\t       8 kB\n"
    "HugetlbPages:\t    2048 kB\n"
    "CapEff:\t000001fffeffffff\n";

std::string Without(std::string_view key) {
  std::string text(kStatus);
  const size_t start = text.find(std::string(key) + ":");
  return text.erase(start, text.find('\n', start) + 1 - start);
}

TEST(StatusTest, ReadsEveryField) {
  const test::FixtureTree tree;
  tree.WriteFile("42/status", kStatus);
  tree.WriteFile("self/status", kStatus);
  for (const auto& status : {ReadStatus(Root(tree.path()), 42), ReadSelfStatus(Root(tree.path()))}) {
    ASSERT_TRUE(status) << status.error().ToString();
    EXPECT_EQ(status->tgid, 42);
    EXPECT_EQ(status->innermost_pid, 3);
    EXPECT_EQ(status->effective_uid, 1001U);
    EXPECT_EQ(status->rss_anon_bytes, 112U * 1024);
    EXPECT_EQ(status->rss_file_bytes, 1576U * 1024);
    EXPECT_EQ(status->rss_shmem_bytes, 4096U);
    EXPECT_EQ(status->swap_bytes, 8192U);
    EXPECT_EQ(status->hugetlb_bytes, 2097152U);
    EXPECT_EQ(status->effective_capabilities, 0x1fffeffffffU);
  }
}

TEST(StatusTest, FieldsOfProcessesWithoutMemoryAreEmpty) {
  const auto status = ParseStatus("Name:\tkthreadd\nTgid:\t2\nPPid:\t0\nUid:\t0\t0\t0\t0\n", "status");
  ASSERT_TRUE(status) << status.error().ToString();
  EXPECT_FALSE(status->rss_anon_bytes);
  EXPECT_FALSE(status->rss_file_bytes);
  EXPECT_FALSE(status->rss_shmem_bytes);
  EXPECT_FALSE(status->swap_bytes);
  EXPECT_FALSE(status->hugetlb_bytes);
  EXPECT_FALSE(status->effective_capabilities);
}

TEST(StatusTest, Malformed) {
  EXPECT_FALSE(ParseStatus("", "status"));
  for (const std::string_view key : {"Tgid", "Uid"}) {
    const auto status = ParseStatus(Without(key), "/proc/42/status");
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::kMalformed);
    EXPECT_NE(status.error().detail.find(key), std::string::npos);
    EXPECT_EQ(status.error().path, "/proc/42/status");
  }
  for (const std::string_view bad :
       {"RssAnon:\t-1 kB", "RssAnon:\t12", "RssAnon:\t12 MB", "VmSwap:\t99999999999999999999 kB", "CapEff:\txyz",
        "CapEff:\t", "Tgid:\t-3", "Tgid:\t4294967296", "Uid:\t0", "Uid:\t0\t-1\t0\t0"}) {
    const auto status = ParseStatus(std::string(kStatus) + std::string(bad) + "\n", "status");
    ASSERT_FALSE(status) << bad;
    EXPECT_EQ(status.error().kind, ErrorKind::kMalformed);
    EXPECT_NE(status.error().detail.find(bad.substr(0, bad.find(':'))), std::string::npos);
  }
}

TEST(StatusTest, MissingProcessIsGone) {
  const test::FixtureTree tree;
  EXPECT_EQ(ReadStatus(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  EXPECT_EQ(ReadSelfStatus(Root(tree.path())).error().kind, ErrorKind::kGone);
}

TEST(StatusTest, AnyNumberOfGroupsCostsNothing) {
  const test::FixtureTree tree;
  std::string text(kStatus);
  text += "Groups:\t";
  for (int group = 0; group < 65536; ++group) text.append(std::to_string(group)).append(" ");
  tree.WriteFile("42/status", text + "\nVmSwap:\t      16 kB\n");
  const auto status = ReadStatus(Root(tree.path()), 42);
  ASSERT_TRUE(status) << status.error().ToString();
  EXPECT_EQ(status->swap_bytes, 16384U);
  tree.WriteFile("42/status", text + std::string(size_t{1} << 20, ' '));
  EXPECT_EQ(ReadStatus(Root(tree.path()), 42).error().kind, ErrorKind::kTooLarge);
}

}  // namespace
}  // namespace cow::procfs
