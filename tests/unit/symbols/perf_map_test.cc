#include "collectors/symbols/perf_map.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "collectors/symbols/symbolizer.h"
#include "tests/support/fixture_tree.h"

namespace cow::symbols {
namespace {

TEST(PerfMapTest, FindsFunctionsBySize) {
  const PerfMap map = PerfMap::Parse(
      "7f0000001000 20 py::first:/app/main.py\n"
      "0x7f0000001020 0x10 second (inlined), with blanks\n"
      "7f0000002000 0 empty\n");
  EXPECT_EQ(map.size(), 2U);
  EXPECT_EQ(map.Find(0x7f0000001000), "py::first:/app/main.py");
  EXPECT_EQ(map.Find(0x7f000000101f), "py::first:/app/main.py");
  EXPECT_EQ(map.Find(0x7f0000001020), "second (inlined), with blanks");
  EXPECT_FALSE(map.Find(0x7f0000001030));
  EXPECT_FALSE(map.Find(0x7f0000000fff));
  EXPECT_FALSE(map.Find(0x7f0000002000));
}

TEST(PerfMapTest, LaterFunctionsReplaceEarlierOnes) {
  const PerfMap map = PerfMap::Parse("100 100 old\n300 10 other\n180 100 new\n");
  EXPECT_FALSE(map.Find(0x100));  // freed, because part of its memory has another function
  EXPECT_EQ(map.Find(0x180), "new");
  EXPECT_EQ(map.Find(0x27f), "new");
  EXPECT_EQ(map.Find(0x300), "other");
}

TEST(PerfMapTest, IgnoresWhatIsNoLine) {
  const PerfMap map = PerfMap::Parse(
      "\n"
      "xyz 10 no_number\n"
      "100\n"
      "100 10\n"
      "ffffffffffffffff 10 beyond_the_end\n"
      "10000000000000000 10 too_large\n"
      "200 10 good\n"
      "300 10 not_yet_compl");
  EXPECT_EQ(map.size(), 1U);
  EXPECT_EQ(map.Find(0x200), "good");
}

TEST(PerfMapTest, BoundsNames) {
  const PerfMap map = PerfMap::Parse("100 10 " + std::string(100000, 'x') + "\n");
  EXPECT_EQ(map.Find(0x100), std::string(PerfMap::kMaxNameBytes, 'x'));
}

// A process 100 whose id in its own namespace is 7, and its child 101 (8).
class PerfMapOfProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteStatus(100, 7, geteuid());
    WriteStatus(101, 8, geteuid());
    options_.reread_after = std::chrono::milliseconds(0);
    symbolizer_ = std::make_unique<Symbolizer>(options_, procfs::Root(tree_.path()));
  }
  void WriteStatus(pid_t pid, pid_t inner, uid_t user) {
    const std::string uid = std::to_string(user);
    tree_.WriteFile(std::to_string(pid) + "/status",
                    "Tgid:\t" + std::to_string(pid) + "\nNSpid:\t" + std::to_string(pid) + "\t" +
                        std::to_string(inner) + "\nUid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid + "\n");
  }
  Symbol Resolve(uint64_t address, pid_t pid = 100, pid_t mapped_by = 100) {
    return symbolizer_->Resolve({CodeLocation::Kind::kAnonymous, pid, mapped_by, address, 0, nullptr});
  }

  test::FixtureTree tree_;
  Symbolizer::Options options_;
  std::unique_ptr<Symbolizer> symbolizer_;
};

TEST_F(PerfMapOfProcessTest, NamesCodeOfJits) {
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 py::work\n");
  const Symbol symbol = Resolve(0x5080);
  EXPECT_EQ(symbol.kind, Symbol::Kind::kJit);
  EXPECT_EQ(symbol.function, "py::work");
  EXPECT_EQ(symbol.object, "[jit]");
  EXPECT_EQ(symbol.offset, 0x5080U);
  EXPECT_FALSE(Resolve(0x5100).function);
  EXPECT_EQ(Resolve(0x5100).object, "[anonymous]");
}

TEST_F(PerfMapOfProcessTest, ReadsAMapAgainThatGrew) {
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 first\n");
  EXPECT_EQ(Resolve(0x5000).function, "first");
  EXPECT_FALSE(Resolve(0x6000).function);
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 first\n6000 100 second\n");
  EXPECT_EQ(Resolve(0x6000).function, "second");
}

TEST_F(PerfMapOfProcessTest, NamesInheritedCodeByTheMapOfTheParent) {
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 inherited\n");
  EXPECT_EQ(Resolve(0x5000, 101, 100).function, "inherited");
  EXPECT_FALSE(Resolve(0x5000, 101, 101).function);  // mapped after the fork
  tree_.WriteFile("101/root/tmp/perf-8.map", "5000 100 own\n");
  EXPECT_EQ(Resolve(0x5000, 101, 100).function, "own");
}

TEST_F(PerfMapOfProcessTest, NamesCodeOfAProcessThatEnded) {
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 first\n");
  EXPECT_EQ(Resolve(0x5000).function, "first");
  tree_.Remove("100");
  EXPECT_EQ(Resolve(0x5000).function, "first");
}

TEST_F(PerfMapOfProcessTest, TakesNoMapOfAnotherUser) {
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 forged\n");
  constexpr uid_t kOther = 54321;
  if (geteuid() == 0) {
    ASSERT_EQ(chown(tree_.Path("100/root/tmp/perf-7.map").c_str(), kOther, kOther), 0);
  } else {
    WriteStatus(100, 7, kOther);
  }
  EXPECT_FALSE(Resolve(0x5000).function);
  WriteStatus(100, 7, geteuid() == 0 ? kOther : geteuid());
  EXPECT_EQ(Resolve(0x5000).function, "forged");
}

TEST_F(PerfMapOfProcessTest, FollowsNoLinkAndWaitsForNoPipe) {
  tree_.WriteFile("elsewhere", "5000 100 linked\n");
  tree_.Symlink("100/root/tmp/perf-7.map", tree_.Path("elsewhere"));
  EXPECT_FALSE(Resolve(0x5000).function);
  tree_.Remove("100/root/tmp/perf-7.map");
  ASSERT_EQ(mkfifo(tree_.Path("100/root/tmp/perf-7.map").c_str(), 0600), 0);
  EXPECT_FALSE(Resolve(0x5000).function);
  tree_.Remove("100/root/tmp");
  tree_.WriteFile("100/root/real/perf-7.map", "5000 100 linked\n");
  tree_.Symlink("100/root/tmp", "real");
  EXPECT_FALSE(Resolve(0x5000).function);
}

TEST_F(PerfMapOfProcessTest, MakesNamesPrintable) {
  tree_.WriteFile("100/root/tmp/perf-7.map", "5000 100 a\x1b[31m\xff\xc3\xa9\n");
  EXPECT_EQ(Resolve(0x5000).function, "a?[31m\xef\xbf\xbd\xc3\xa9");
}

}  // namespace
}  // namespace cow::symbols
