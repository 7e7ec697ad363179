#include "collectors/procfs/stat.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/procfs/statm.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kAfterName =
    " S 1 42 42 0 -1 4194304 101 7 3 1 5 6 0 0 20 0 4 0 109789 3133440 394 18446744073709551615 94241781997568 "
    "94241782017449 140729088715456 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 94241782033456 94241782035072 94242391494656 "
    "140729088723560 140729088723598 140729088723598 140729088724971 0\n";

std::string Line(std::string_view name) {
  std::string line("42 (");
  line.append(name).append(")").append(kAfterName);
  return line;
}

std::string Replaced(std::string_view text, std::string_view what, std::string_view with) {
  const size_t start = text.find(what);
  std::string replaced(text.substr(0, start));
  replaced.append(with).append(text.substr(start + what.size()));
  return replaced;
}

TEST(StatTest, ReadsEveryField) {
  const test::FixtureTree tree;
  tree.WriteFile("42/stat", Line("redis-server"));
  const auto stat = ReadStat(Root(tree.path()), 42);
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->pid, 42);
  EXPECT_EQ(stat->comm, "redis-server");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->ppid, 1);
  EXPECT_EQ(stat->flags, 4194304U);
  EXPECT_EQ(stat->minor_faults, 101U);
  EXPECT_EQ(stat->major_faults, 3U);
  EXPECT_EQ(stat->num_threads, 4);
  EXPECT_EQ(stat->start_time_ticks, 109789U);
  EXPECT_EQ(stat->virtual_bytes, 3133440U);
  EXPECT_EQ(stat->start_code, 94241781997568U);
  EXPECT_EQ(stat->end_code, 94241782017449U);
  EXPECT_EQ(stat->start_stack, 140729088715456U);
  EXPECT_EQ(stat->start_data, 94241782033456U);
  EXPECT_EQ(stat->end_data, 94241782035072U);
  EXPECT_EQ(stat->start_brk, 94242391494656U);
  EXPECT_TRUE(stat->LayoutKnown());
  EXPECT_FALSE(stat->IsKernelThread());
  EXPECT_FALSE(stat->IsZombie());
}

TEST(StatTest, NameMayHoldAnything) {
  for (const std::string_view name : {"", ")", ") S 1 2 3", "a b", "((", "a)\nb (", "\xff\xfe", "x) Z 1 (y"}) {
    const auto stat = ParseStat(Line(name), "stat");
    ASSERT_TRUE(stat) << name << ": " << stat.error().ToString();
    EXPECT_EQ(stat->comm, name);
    EXPECT_EQ(stat->state, 'S');
    EXPECT_EQ(stat->ppid, 1);
  }
}

TEST(StatTest, HiddenLayoutIsUnknown) {
  std::string line = Replaced(Line("x"), "94241781997568", "1");
  line = Replaced(line, "94241782017449", "1");
  line = Replaced(line, "140729088715456", "0");
  const auto stat = ParseStat(line, "stat");
  ASSERT_TRUE(stat);
  EXPECT_FALSE(stat->LayoutKnown());
}

TEST(StatTest, KernelThreadAndZombie) {
  const auto thread = ParseStat(
      "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0 18446744073709551615 0 0 0 0 0 0 0 "
      "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
      "stat");
  ASSERT_TRUE(thread) << thread.error().ToString();
  EXPECT_TRUE(thread->IsKernelThread());
  EXPECT_FALSE(thread->LayoutKnown());
  Stat zombie;
  zombie.state = 'Z';
  EXPECT_TRUE(zombie.IsZombie());
  zombie.state = 'X';
  EXPECT_TRUE(zombie.IsZombie());
}

// Kernels before 3.3 have no start_data, end_data and start_brk.
TEST(StatTest, OldKernelHasFewerFields) {
  std::string line = Line("x");
  line.erase(line.find(" 94241782033456"));
  const auto stat = ParseStat(line + "\n", "stat");
  ASSERT_TRUE(stat) << stat.error().ToString();
  EXPECT_EQ(stat->start_data, 0U);
  EXPECT_EQ(stat->start_brk, 0U);
  EXPECT_TRUE(stat->LayoutKnown());
}

TEST(StatTest, MalformedNamesFileFieldAndValue) {
  struct Case {
    std::string text;
    std::string_view in_detail;
  };
  const std::string good = Line("x");
  const auto with = [&good](std::string_view what, std::string_view other) { return Replaced(good, what, other); };
  const std::vector<Case> cases{
      {"", "comm"},
      {"42", "comm"},
      {"42 (x", "comm"},
      {"42 )x(", "comm"},
      {"42 (x)", "state"},
      {"42 (x) \n", "state"},
      {"42 (x) S\n", "ppid is missing"},
      {"42 (x) SS 1", "state: \"SS\""},
      {with("42 (", "4x2 ("), "pid: \"4x2\""},
      {with("42 (", "-42 ("), "pid: \"-42\""},
      {with("42 (", "("), "pid is missing"},
      {with("42 (", "99999999999 ("), "pid"},
      {with(" S 1 ", " S -1 "), "ppid: \"-1\""},
      {with(" 101 ", " -101 "), "minflt: \"-101\""},
      {with(" 101 ", " 99999999999999999999999999 "), "minflt"},
      {with("3133440", "0x10"), "vsize"},
      {with("4194304", "4294967296"), "flags"},
      {with("94241782035072", "?"), "end_data"},
      {good.substr(0, good.find(" 4 0 109789")), "num_threads is missing"},
      {good.substr(0, good.find(" 94242391494656")), "start_brk is missing"},
  };
  for (const Case& c : cases) {
    const auto stat = ParseStat(c.text, "/proc/42/stat");
    ASSERT_FALSE(stat) << c.text;
    EXPECT_EQ(stat.error().kind, ErrorKind::kMalformed);
    EXPECT_EQ(stat.error().path, "/proc/42/stat");
    EXPECT_NE(stat.error().detail.find(c.in_detail), std::string::npos) << stat.error().ToString();
  }
}

TEST(StatTest, EveryCutIsAnErrorOrAValueAndNeverMore) {
  const std::string good = Line("x) (y");
  for (size_t length = 0; length < good.size(); ++length) {
    const auto stat = ParseStat(std::string_view(good).substr(0, length), "stat");
    EXPECT_TRUE(stat || stat.error().kind == ErrorKind::kMalformed);
  }
}

TEST(StatTest, MissingProcessIsGone) {
  const test::FixtureTree tree;
  EXPECT_EQ(ReadStat(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
}

TEST(StatmTest, ReadsPages) {
  const test::FixtureTree tree;
  tree.WriteFile("42/statm", "765 394 250 5 0 90 0\n");
  const auto statm = ReadStatm(Root(tree.path()), 42);
  ASSERT_TRUE(statm) << statm.error().ToString();
  EXPECT_EQ(statm->size_pages, 765U);
  EXPECT_EQ(statm->resident_pages, 394U);
  EXPECT_EQ(statm->shared_pages, 250U);
}

TEST(StatmTest, Errors) {
  const test::FixtureTree tree;
  EXPECT_EQ(ReadStatm(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  for (const std::string_view bad : {"", "\n", "1", "1 2", "1 2 x", "-1 2 3", "1 99999999999999999999 3", "1\n2\n3"}) {
    const auto statm = ParseStatm(bad, "statm");
    ASSERT_FALSE(statm) << bad;
    EXPECT_EQ(statm.error().kind, ErrorKind::kMalformed);
  }
}

}  // namespace
}  // namespace cow::procfs
