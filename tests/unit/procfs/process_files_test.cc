#include "collectors/procfs/process_files.h"

#include <gtest/gtest.h>
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/procfs/stat.h"
#include "tests/support/child_process.h"
#include "tests/support/fixture_tree.h"
#include "tests/support/privileges.h"

namespace cow::procfs {
namespace {

using test::ChildProcess;

class CountingInterposer : public Interposer {
 public:
  std::optional<Error> Before(Access access, const std::string& path) override {
    accesses.emplace_back(access, path);
    return std::nullopt;
  }
  std::vector<std::pair<Access, std::string>> accesses;
};

class ProcessFilesTest : public testing::Test {
 protected:
  std::string Text(pid_t pid, FileDescriptor& kept, size_t spare = 0) {
    const auto text = files_.Read(pid, "stat", kept, spare);
    return text ? std::string(*text) : text.error().ToString();
  }

  test::FixtureTree tree_;
  std::shared_ptr<CountingInterposer> counter_ = std::make_shared<CountingInterposer>();
  ProcessFiles files_{Root(tree_.path(), tree_.path(), counter_), 2};
};

TEST_F(ProcessFilesTest, SecondReadingIsOneAccess) {
  tree_.WriteFile("10/stat", "one");
  FileDescriptor kept;
  EXPECT_EQ(Text(10, kept), "one");
  EXPECT_EQ(files_.kept(), 1U);
  counter_->accesses.clear();
  tree_.WriteFile("10/stat", "another");
  EXPECT_EQ(Text(10, kept), "another");
  const std::vector<std::pair<Access, std::string>> once{{Access::kRead, tree_.Path("10/stat")}};
  EXPECT_EQ(counter_->accesses, once);
  files_.Close(kept);
  EXPECT_EQ(files_.kept(), 0U);
  EXPECT_FALSE(kept.valid());
}

TEST_F(ProcessFilesTest, LimitBoundsWhatIsKept) {
  std::array<FileDescriptor, 4> kept;
  for (size_t i = 0; i < kept.size(); ++i) {
    tree_.WriteFile(std::to_string(i) + "/stat", std::to_string(i));
    EXPECT_EQ(Text(static_cast<pid_t>(i), kept.at(i), i == 0 ? 2 : 0), std::to_string(i));
  }
  EXPECT_FALSE(kept[0].valid()) << "was to leave room for two";
  EXPECT_TRUE(kept[1].valid() && kept[2].valid());
  EXPECT_FALSE(kept[3].valid());
  EXPECT_EQ(files_.kept(), 2U);
  files_.Close(kept[1]);
  EXPECT_EQ(Text(3, kept[3]), "3");
  EXPECT_TRUE(kept[3].valid());
}

TEST_F(ProcessFilesTest, LongTextIsReadWhole) {
  const std::string text(20000, 'x');
  tree_.WriteFile("10/task/12/status", text);
  FileDescriptor kept;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(files_.Read({10, 12}, "status", kept).value_or(""), text);
  EXPECT_EQ(files_.path(), tree_.Path("10/task/12/status"));
}

TEST_F(ProcessFilesTest, MissingFileIsGone) {
  FileDescriptor kept;
  const auto text = files_.Read(10, "stat", kept);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::kGone);
  EXPECT_EQ(text.error().path, tree_.Path("10/stat"));
}

TEST(ProcessFilesLiveTest, DescriptorDiesWithItsProcess) {
  ProcessFiles files(Root(), 10);
  FileDescriptor kept;
  pid_t pid = 0;
  {
    const ChildProcess child(&test::Sleep);
    ASSERT_TRUE(child.AwaitReport());
    pid = child.pid();
    const auto text = files.Read(pid, "stat", kept);
    ASSERT_TRUE(text && text->starts_with(std::to_string(pid) + " ("));
    ASSERT_TRUE(kept.valid());
  }
  const auto text = files.Read(pid, "stat", kept);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::kGone);
  EXPECT_FALSE(kept.valid());
  EXPECT_EQ(files.kept(), 0U);
}

uint64_t ReadStart(ProcessFiles& files, pid_t pid, FileDescriptor& kept) {
  const auto text = files.Read(pid, "stat", kept);
  if (!text) return 0;
  return ParseStat(*text, files.path()).map([](const Stat& stat) { return stat.start_time_ticks; }).value_or(0);
}

// The kernel assigns the pid after the one in ns_last_pid.
TEST(ProcessFilesLiveTest, ReusedPidIsReadAnew) {
  ProcessFiles files(Root(), 10);
  for (int attempt = 0; attempt < 100; ++attempt) {
    FileDescriptor kept;
    auto child = std::make_unique<ChildProcess>(&test::Sleep);
    ASSERT_TRUE(child->AwaitReport());
    const pid_t pid = child->pid();
    const auto first = ReadStart(files, pid, kept);
    child.reset();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // gives the next process another start time
    std::ofstream last("/proc/sys/kernel/ns_last_pid");
    if (!(last << pid - 1 << std::flush)) GTEST_SKIP() << test::MissingPrivilege(test::kPids);
    const ChildProcess other(&test::Sleep);
    ASSERT_TRUE(other.AwaitReport());
    if (other.pid() != pid) continue;  // another process got the pid
    const auto second = ReadStart(files, pid, kept);
    EXPECT_NE(first, 0U);
    EXPECT_GT(second, first);
    EXPECT_TRUE(kept.valid());
    return;
  }
  FAIL() << "the pid was never given out again";
}

}  // namespace
}  // namespace cow::procfs
