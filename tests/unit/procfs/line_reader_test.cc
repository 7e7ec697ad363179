#include "collectors/procfs/line_reader.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "collectors/procfs/cmdline.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

class LineReaderTest : public testing::Test {
 protected:
  // Returns the lines up to the end of the file or an error, which it stores in `error_`.
  std::vector<std::string> Read(const std::string& text, LineReader::Limits limits) {
    tree_.WriteFile("file", text);
    std::vector<std::string> lines;
    auto reader = LineReader::Open(Root(), tree_.Path("file"), limits);
    error_.reset();
    while (reader) {
      const auto line = reader->Next();
      if (!line) error_ = line.error();
      if (!line || !*line) break;
      lines.emplace_back(**line);
    }
    return lines;
  }

  test::FixtureTree tree_;
  std::optional<Error> error_;
};

TEST_F(LineReaderTest, LinesOfAnyLength) {
  for (const size_t length : {0U, 1U, 16382U, 16383U, 16384U, 16385U, 100000U}) {
    const std::vector<std::string> lines{"first", std::string(length, 'x'), "", std::string(length, 'y'), "last"};
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    EXPECT_EQ(Read(text, {1000000, 1000000}), lines) << length;
    text.pop_back();  // the last line has no newline
    EXPECT_EQ(Read(text, {1000000, 1000000}), lines) << length;
    EXPECT_FALSE(error_);
  }
  EXPECT_TRUE(Read("", {10, 10}).empty());
  EXPECT_EQ(Read("\n", {10, 10}), std::vector<std::string>{""});
}

TEST_F(LineReaderTest, KeepsTheFirstBytesOfALine) {
  for (const size_t length : {10U, 11U, 16384U, 100000U}) {
    const std::string line = "0123456789" + std::string(length - 10, 'x');
    EXPECT_EQ(Read(line + "\nnext\n" + line, {1000000, 10}),
              (std::vector<std::string>{"0123456789", "next", "0123456789"}))
        << length;
  }
}

TEST_F(LineReaderTest, GivesUpOnAFileThatIsTooLong) {
  const std::string text(20000, '\n');
  EXPECT_EQ(Read(text, {20000, 10}).size(), 20000U);
  EXPECT_FALSE(error_);
  EXPECT_LT(Read(text, {19999, 10}).size(), 20000U);
  ASSERT_TRUE(error_);
  EXPECT_EQ(error_->kind, ErrorKind::kTooLarge);
  EXPECT_EQ(error_->path, tree_.Path("file"));
}

TEST_F(LineReaderTest, ErrorsCarryThePath) {
  const auto missing = LineReader::Open(Root(), tree_.Path("missing"), {10, 10});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kGone);
  auto directory = LineReader::Open(Root(), tree_.path(), {10, 10});
  ASSERT_TRUE(directory);
  EXPECT_EQ(directory->Next().error().path, tree_.path());
}

TEST_F(LineReaderTest, CommandLineIsCut) {
  tree_.WriteFile("42/cmdline", std::string("app\0-x\0\0\0", 9));
  EXPECT_EQ(ReadCommandLine(Root(tree_.path()), 42).value(), "app -x");
  tree_.WriteFile("42/cmdline", std::string(3 * kMaxCommandLineBytes, 'x'));
  EXPECT_EQ(ReadCommandLine(Root(tree_.path()), 42).value(), std::string(kMaxCommandLineBytes, 'x'));
  tree_.WriteFile("42/cmdline", "");
  EXPECT_EQ(ReadCommandLine(Root(tree_.path()), 42).value(), "");
  EXPECT_EQ(ReadCommandLine(Root(tree_.path()), 43).error().kind, ErrorKind::kGone);
}

}  // namespace
}  // namespace cow::procfs
