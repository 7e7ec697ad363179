#include "collectors/procfs/mountinfo.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kMounts =
    "22 27 0:21 / /proc rw,relatime - proc proc rw,hidepid=2\n"
    "27 1 254:1 / / rw,noatime shared:1 master:2 - ext4 /dev/vda1 rw,errors=remount-ro\n"
    "30 27 0:25 / /mnt/a\\040b\\134\\012 rw shared:3 - tmpfs  rw\n";

TEST(MountinfoTest, ReadsEveryField) {
  const test::FixtureTree tree;
  tree.WriteFile("42/mountinfo", kMounts);
  tree.WriteFile("self/mountinfo", kMounts);
  for (const auto& mounts : {ReadMountinfo(Root(tree.path()), 42), ReadSelfMountinfo(Root(tree.path()))}) {
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
  EXPECT_EQ(ReadMountinfo(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  EXPECT_TRUE(ParseMountinfo("", "mountinfo").value().empty());
  for (const std::string_view bad :
       {"\n", "22 27 0:21 / /proc rw", "22 27 0:21 / /proc rw - ", "22 27 0:21 / /proc - proc proc rw",
        "22 27 x:21 / /proc rw - proc proc rw", "22 27 0 / /proc rw - proc proc rw", "22 - proc proc rw",
        "22 27 0:-1 / /proc rw - proc proc rw", "22 27 0:21 / - proc proc rw"}) {
    const auto mounts = ParseMountinfo(bad, "mountinfo");
    ASSERT_FALSE(mounts) << bad;
    EXPECT_EQ(mounts.error().kind, ErrorKind::kMalformed);
  }
}

}  // namespace
}  // namespace cow::procfs
