#include "collectors/procfs/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "collectors/procfs/maps.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

std::string TextOf(const RegularFile& file) {
  std::string text(64, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(pread(file.descriptor.get(), text.data(), text.size(), 0), 0)));
  return text;
}

TEST(MappedFileTest, OpensTheMappedFileOfAProcess) {
  const auto vmas = ReadMaps(Root(), getpid());
  ASSERT_TRUE(vmas);
  // A sanitizer's memory may come first.
  const auto first = std::find_if(vmas->begin(), vmas->end(), [](const Vma& vma) { return vma.inode != 0; });
  ASSERT_NE(first, vmas->end());
  const Vma& program = *first;
  const auto opened = OpenMappedFile(Root(), getpid(), program.start, program.end);
  if (!opened && opened.error().kind == ErrorKind::kDenied) return;  // without rights
  ASSERT_TRUE(opened) << opened.error().ToString();
  EXPECT_EQ(opened->identity.inode, program.inode);
  const auto same = OpenProgram(Root(), getpid());
  ASSERT_TRUE(same);
  EXPECT_EQ(same->identity, opened->identity);
  EXPECT_FALSE(OpenMappedFile(Root(), getpid(), program.start + 1, program.end));
}

TEST(MappedFileTest, OpensBelowTheRootOfAProcess) {
  const test::FixtureTree tree;
  tree.WriteFile("42/root/usr/lib/x.so", "library");
  const auto file = OpenBelowRoot(Root(tree.path()), 42, "/usr//lib/./x.so");
  ASSERT_TRUE(file) << file.error().ToString();
  EXPECT_EQ(TextOf(*file), "library");
  EXPECT_EQ(file->identity.size_bytes, 7U);
  // The real one.
  EXPECT_TRUE(OpenBelowRoot(Root(), getpid(), "/proc/version") || OpenBelowRoot(Root(), getpid(), "/etc/passwd"));
}

TEST(MappedFileTest, NeverLeavesTheRoot) {
  const test::FixtureTree tree;
  tree.WriteFile("secret", "secret");
  tree.WriteFile("42/root/real/file", "file");
  tree.Symlink("42/root/link", tree.Path("secret"));
  tree.Symlink("42/root/directory", "real");
  const Root root(tree.path());
  for (const char* path : {"/link", "/directory/file", "/../../secret", "/real/../real/file", "relative", "", "/"}) {
    EXPECT_FALSE(OpenBelowRoot(root, 42, path)) << path;
  }
  EXPECT_TRUE(OpenBelowRoot(root, 42, "/real/file"));
}

TEST(MappedFileTest, OpensOnlyRegularFilesAndNeverWaits) {
  const test::FixtureTree tree;
  tree.MakeDirectory("42/root/tmp");
  ASSERT_EQ(mkfifo(tree.Path("42/root/tmp/pipe").c_str(), 0600), 0);
  tree.Symlink("42/exe", tree.Path("42/root/tmp/pipe"));
  tree.Symlink("42/map_files/1000-2000", "/dev/null");
  const Root root(tree.path());
  for (const auto& file : {OpenBelowRoot(root, 42, "/tmp/pipe"), OpenBelowRoot(root, 42, "/tmp"), OpenProgram(root, 42),
                           OpenMappedFile(root, 42, 0x1000, 0x2000)}) {
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().kind, ErrorKind::kMalformed);
  }
  const auto missing = OpenBelowRoot(root, 42, "/tmp/nothing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kGone);
}

TEST(MappedFileTest, AChangedFileHasAnotherIdentity) {
  const test::FixtureTree tree;
  tree.WriteFile("file", "one");
  const auto before = OpenRegular(Root(), tree.Path("file"));
  ASSERT_TRUE(before);
  tree.WriteFile("file", "more");
  const auto after = OpenRegular(Root(), tree.Path("file"));
  ASSERT_TRUE(after);
  EXPECT_EQ(before->identity.inode, after->identity.inode);
  EXPECT_NE(before->identity, after->identity);
}

}  // namespace
}  // namespace cow::procfs
