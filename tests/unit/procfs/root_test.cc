#include "collectors/procfs/root.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "collectors/procfs/file_descriptor.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

TEST(RootTest, JoinsPaths) {
  const Root root;
  EXPECT_EQ(root.ProcPath("meminfo"), "/proc/meminfo");
  EXPECT_EQ(root.ProcPath(42, "maps"), "/proc/42/maps");
  EXPECT_EQ(root.ProcPath({42, 43}, "maps"), "/proc/42/task/43/maps");
  EXPECT_EQ(root.SysPath("kernel/mm"), "/sys/kernel/mm");
  EXPECT_EQ(Root("/host/proc/", "/host/sys//").ProcPath("stat"), "/host/proc/stat");
  EXPECT_EQ(Root("/host/proc/", "/host/sys//").SysPath("x"), "/host/sys/x");
  EXPECT_EQ(Root("/", "/").ProcPath("stat"), "/stat");
}

TEST(RootTest, ReadsFilesOfAnySize) {
  const test::FixtureTree tree;
  for (const size_t size : {0U, 1U, 2047U, 2048U, 2049U, 4096U, 8192U, 1000000U}) {
    std::string text(size, 'x');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i % 251);
    tree.WriteFile("file", text);
    EXPECT_EQ(ReadTextFile(tree.Path("file")).value(), text) << size;
  }
}

TEST(RootTest, ReadsKernelFilesLargerThanOneRead) {
  const auto text = ReadTextFile("/proc/self/smaps");
  ASSERT_TRUE(text) << text.error().ToString();
  EXPECT_GT(text->size(), 8192U);
  EXPECT_EQ(text->back(), '\n');
}

TEST(RootTest, FileErrorsCarryThePath) {
  const test::FixtureTree tree;
  const auto missing = ReadTextFile(tree.Path("missing"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kGone);
  EXPECT_EQ(missing.error().path, tree.Path("missing"));
  EXPECT_EQ(missing.error().error_number, ENOENT);
  const auto directory = ReadTextFile(tree.path());
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().kind, ErrorKind::kIo);
}

TEST(RootTest, ReadsLinksOfAnyLength) {
  const test::FixtureTree tree;
  for (const size_t length : {1U, 255U, 256U, 257U, 4000U}) {
    const std::string target(length, 't');
    tree.Symlink("link", target);
    EXPECT_EQ(ReadLink(tree.Path("link")).value(), target) << length;
  }
  EXPECT_EQ(ReadLink(tree.Path("missing")).error().kind, ErrorKind::kGone);
  tree.WriteFile("file", "");
  EXPECT_EQ(ReadLink(tree.Path("file")).error().kind, ErrorKind::kIo);
}

TEST(FileDescriptorTest, OwnsAndMoves) {
  auto opened = OpenReadOnly("/proc/self/stat");
  ASSERT_TRUE(opened);
  EXPECT_NE(fcntl(opened->get(), F_GETFD) & FD_CLOEXEC, 0);
  const int fd = opened->get();
  {
    FileDescriptor moved(std::move(*opened));
    EXPECT_FALSE(opened->valid());  // NOLINT(bugprone-use-after-move): what a move leaves is the question
    EXPECT_EQ(moved.get(), fd);
    FileDescriptor assigned;
    EXPECT_FALSE(assigned.valid());
    assigned = std::move(moved);
    EXPECT_EQ(assigned.get(), fd);
    EXPECT_NE(fcntl(fd, F_GETFD), -1);
  }
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace cow::procfs
