// What becomes of the processes behind a Symbolizer, and what one bad file costs.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "collectors/symbols/symbolizer.h"
#include "tests/support/fixture_tree.h"
#include "tests/unit/symbols/target.h"

namespace cow::symbols {
namespace {

using Clock = std::chrono::steady_clock;

class SymbolizerProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto added = maps_.Add(target_.pid());
    ASSERT_TRUE(added) << added.error().ToString();
  }
  std::optional<std::string> Function(Symbolizer& symbolizer, const std::string& name, uint64_t offset = 0) {
    return symbolizer.Resolve(maps_.Locate(target_.pid(), target_.At(name) + offset)).function;
  }

  test::Target target_{test::TargetPath("pie")};
  CodeMaps maps_;
};

TEST_F(SymbolizerProcessTest, GoesOnWithANewProcessWhenOneDies) {
  Symbolizer symbolizer;
  EXPECT_EQ(Function(symbolizer, "alpha"), "alpha");
  const pid_t first = test::FirstChild(symbolizer.keeper());
  ASSERT_GT(first, 0);
  kill(first, SIGKILL);
  EXPECT_EQ(Function(symbolizer, "inner"), "inner");
  EXPECT_NE(test::FirstChild(symbolizer.keeper()), first);
  EXPECT_EQ(symbolizer.counts().restarts, 1U);
  EXPECT_EQ(symbolizer.counts().hopeless_files, 0U);
}

TEST_F(SymbolizerProcessTest, DoesNotWaitForAStoppedProcess) {
  Symbolizer::Options options;
  options.patience = std::chrono::milliseconds(300);
  Symbolizer symbolizer(options);
  EXPECT_EQ(Function(symbolizer, "alpha"), "alpha");
  const pid_t worker = test::FirstChild(symbolizer.keeper());
  kill(worker, SIGSTOP);
  const auto begin = Clock::now();
  EXPECT_FALSE(Function(symbolizer, "inner"));
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(symbolizer.counts().hopeless_files, 1U);
  // The names that are known stay; another file has names.
  EXPECT_EQ(Function(symbolizer, "alpha"), "alpha");
  EXPECT_EQ(Function(symbolizer, "getppid"), "getppid");
  EXPECT_NE(kill(worker, 0), 0);
}

TEST_F(SymbolizerProcessTest, GivesNoNamesWithoutAKeeper) {
  Symbolizer::Options options;
  options.patience = std::chrono::milliseconds(300);
  Symbolizer symbolizer(options);
  EXPECT_EQ(Function(symbolizer, "alpha"), "alpha");
  const pid_t worker = test::FirstChild(symbolizer.keeper());
  kill(symbolizer.keeper(), SIGKILL);
  waitpid(symbolizer.keeper(), nullptr, 0);
  while (kill(worker, 0) == 0) usleep(1000);  // it ends with its keeper
  EXPECT_FALSE(Function(symbolizer, "inner"));
  EXPECT_GT(symbolizer.counts().unanswered, 0U);
  EXPECT_EQ(Function(symbolizer, "alpha"), "alpha");
}

TEST_F(SymbolizerProcessTest, StopsToStartProcessesThatDie) {
  Symbolizer::Options options;
  options.restarts = 3;
  Symbolizer symbolizer(options);
  for (uint64_t i = 0; i < 5; ++i) {
    Function(symbolizer, "getppid", i);
    kill(test::FirstChild(symbolizer.keeper()), SIGKILL);
  }
  EXPECT_LE(symbolizer.counts().restarts, 3U);
  EXPECT_GT(symbolizer.counts().unanswered, 0U);
}

TEST_F(SymbolizerProcessTest, EndsItsProcesses) {
  auto symbolizer = std::make_unique<Symbolizer>();
  EXPECT_EQ(Function(*symbolizer, "alpha"), "alpha");
  const pid_t keeper = symbolizer->keeper();
  const pid_t worker = test::FirstChild(keeper);
  // A terminal sends these to all processes of the command.
  for (const pid_t pid : {keeper, worker}) {
    kill(pid, SIGINT);
    kill(pid, SIGTERM);
  }
  EXPECT_EQ(Function(*symbolizer, "inner"), "inner");
  EXPECT_EQ(symbolizer->counts().restarts, 0U);
  symbolizer.reset();
  EXPECT_NE(kill(keeper, 0), 0);
  EXPECT_NE(kill(worker, 0), 0);
}

TEST_F(SymbolizerProcessTest, EndsAStoppedKeeper) {
  auto symbolizer = std::make_unique<Symbolizer>();
  kill(symbolizer->keeper(), SIGSTOP);
  const pid_t keeper = symbolizer->keeper();
  symbolizer.reset();
  EXPECT_NE(kill(keeper, 0), 0);
}

TEST_F(SymbolizerProcessTest, SurvivesAFileThatIsCut) {
  const test::FixtureTree tree;
  const std::string library = tree.Path("library.so");
  std::filesystem::copy_file(test::TargetLibrary(), library);
  target_.Command("open " + library);
  ASSERT_TRUE(maps_.Add(target_.pid()));
  Symbolizer symbolizer;
  EXPECT_EQ(Function(symbolizer, "library_function"), "library_function");
  std::filesystem::resize_file(library, 0);
  Function(symbolizer, "library_function", 1);  // the process ends with SIGBUS where it reads the file again
  EXPECT_EQ(Function(symbolizer, "alpha"), "alpha");
}

}  // namespace
}  // namespace cow::symbols
