#include "collectors/procfs/mountinfo.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kMounts =
    "22 27 0:21 / /proc rw,relatime - proc proc rw,hidepid=2\n"
    "27 1 254:1 / / rw,noatime shared:1 master:2 - ext4 /dev/vda1 rw,errors=remount-ro\n"
    "30 27 0:25 / /mnt/a\\040b\\134\\012 rw shared:3 - tmpfs  rw\n";

// Returns all mounts, or the error without the mounts before it.
Result<std::vector<Mount>> ReadAll(Result<MountinfoReader> reader) {
  if (!reader) return tl::unexpected(reader.error());
  std::vector<Mount> mounts;
  for (;;) {
    const auto mount = reader->Next();
    if (!mount) return tl::unexpected(mount.error());
    if (*mount == nullptr) return mounts;
    mounts.push_back(**mount);
  }
}

TEST(MountinfoTest, ReadsEveryField) {
  const test::FixtureTree tree;
  tree.WriteFile("42/mountinfo", kMounts);
  tree.WriteFile("self/mountinfo", kMounts);
  const Root root(tree.path());
  for (const auto& mounts : {ReadAll(MountinfoReader::Open(root, 42)), ReadAll(MountinfoReader::OpenSelf(root))}) {
    ASSERT_TRUE(mounts) << mounts.error().ToString();
    ASSERT_EQ(mounts->size(), 3U);
    EXPECT_EQ((*mounts)[0].filesystem_type, "proc");
    EXPECT_EQ((*mounts)[0].super_options, "rw,hidepid=2");
    EXPECT_EQ((*mounts)[1].device_major, 254U);
    EXPECT_EQ((*mounts)[1].device_minor, 1U);
    EXPECT_EQ((*mounts)[1].mount_point, "/");
    EXPECT_EQ((*mounts)[1].mount_options, "rw,noatime");
    EXPECT_EQ((*mounts)[1].filesystem_type, "ext4");
    EXPECT_EQ((*mounts)[2].mount_point, "/mnt/a b\\\n");
    EXPECT_EQ((*mounts)[2].filesystem_type, "tmpfs");
    EXPECT_EQ((*mounts)[2].super_options, "rw");
  }
}

TEST(MountinfoTest, Errors) {
  const test::FixtureTree tree;
  const Root root(tree.path());
  EXPECT_EQ(ReadAll(MountinfoReader::Open(root, 42)).error().kind, ErrorKind::kGone);
  tree.WriteFile("42/mountinfo", "");
  EXPECT_TRUE(ReadAll(MountinfoReader::Open(root, 42)).value().empty());
  for (const std::string_view bad :
       {"\n", "22 27 0:21 / /proc rw", "22 27 0:21 / /proc rw - ", "22 27 0:21 / /proc - proc proc rw",
        "22 27 x:21 / /proc rw - proc proc rw", "22 27 0 / /proc rw - proc proc rw", "22 - proc proc rw",
        "22 27 0:-1 / /proc rw - proc proc rw", "22 27 0:21 / - proc proc rw"}) {
    tree.WriteFile("42/mountinfo", bad);
    const auto mounts = ReadAll(MountinfoReader::Open(root, 42));
    ASSERT_FALSE(mounts) << bad;
    EXPECT_EQ(mounts.error().kind, ErrorKind::kMalformed);
  }
}

TEST(MountinfoTest, AMountWithAnEndlessPathIsLeftOut) {
  const test::FixtureTree tree;
  const std::string endless = "9 1 0:77 / /" + std::string(100000, 'x') + " rw - tmpfs tmpfs rw\n";
  tree.WriteFile("42/mountinfo", endless + "22 27 0:21 / /proc rw - proc proc rw\n");
  const auto mounts = ReadAll(MountinfoReader::Open(Root(tree.path()), 42));
  ASSERT_TRUE(mounts) << mounts.error().ToString();
  ASSERT_EQ(mounts->size(), 1U);
  EXPECT_EQ(mounts->front().filesystem_type, "proc");
}

TEST(MountinfoTest, TooLarge) {
  const test::FixtureTree tree;
  const std::string line = "22 27 0:21 / /proc rw - proc proc rw\n";
  std::string text;
  while (text.size() <= size_t{16} << 20) text += line;
  tree.WriteFile("42/mountinfo", text);
  EXPECT_EQ(ReadAll(MountinfoReader::Open(Root(tree.path()), 42)).error().kind, ErrorKind::kTooLarge);
}

}  // namespace
}  // namespace cow::procfs
