#include "collectors/procfs/cgroup_namespace.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

// The exporter is process 42, in /kubepods/besteffort/podE/e; its namespace begins there.
class CgroupNamespaceTest : public testing::Test {
 protected:
  CgroupNamespaceTest() {
    tree_.Symlink("self", "42");
    tree_.WriteFile("42/cgroup", "0::/\n");
    tree_.WriteFile("fs/cgroup/cgroup.controllers", "cpu memory\n");
    tree_.WriteFile("fs/cgroup/cgroup.procs", "1\n2\n");
    tree_.WriteFile("fs/cgroup/system.slice/x.service/cgroup.procs", "4\n421\n");
    tree_.WriteFile("fs/cgroup/kubepods/besteffort/podE/e/cgroup.procs", "41\n42\n");
    tree_.WriteFile("fs/cgroup/kubepods/burstable/podN/n/memory.current", "4096\n");
    tree_.WriteFile("fs/cgroup/kubepods/burstable/podN/n/memory.max", "8192\n");
  }

  static std::string Resolved(CgroupNamespace& names, const std::string& path) {
    auto cgroups = ParseCgroups("0::" + path + "\n", "cgroup").value();
    names.Resolve(cgroups);
    return cgroups.NamingPath();
  }
  std::string Resolved(const std::string& path) { return Resolved(namespace_, path); }

  test::FixtureTree tree_;
  Root root_{tree_.path(), tree_.path()};
  CgroupNamespace namespace_{root_};
};

TEST_F(CgroupNamespaceTest, PathsBecomeTheHosts) {
  EXPECT_EQ(Resolved("/../../../../init.scope"), "/init.scope");
  EXPECT_EQ(Resolved("/../../../../system.slice/x.service"), "/system.slice/x.service");
  EXPECT_EQ(Resolved("/../../../burstable/podN/n"), "/kubepods/burstable/podN/n");
  EXPECT_EQ(Resolved("/../../podF/f"), "/kubepods/besteffort/podF/f");
  EXPECT_EQ(Resolved("/../pause"), "/kubepods/besteffort/podE/pause");
  EXPECT_EQ(Resolved("/.."), "/kubepods/besteffort/podE");
  EXPECT_EQ(Resolved("/../../../.."), "/");
  EXPECT_EQ(Resolved("/"), "/kubepods/besteffort/podE/e");
  EXPECT_EQ(Resolved("/child"), "/kubepods/besteffort/podE/e/child");
  EXPECT_EQ(Resolved("/../..x/f"), "/kubepods/besteffort/podE/..x/f");
}

TEST_F(CgroupNamespaceTest, ProcessBelowTheNamespacesBeginning) {
  tree_.WriteFile("42/cgroup", "0::/e\n");
  EXPECT_EQ(Resolved("/../podF/f"), "/kubepods/besteffort/podF/f");
}

TEST_F(CgroupNamespaceTest, MemoryIsFound) {
  auto cgroups = ParseCgroups("0::/../../../burstable/podN/n\n", "cgroup").value();
  EXPECT_FALSE(ReadCgroupMemory(root_, cgroups));
  namespace_.Resolve(cgroups);
  const auto memory = ReadCgroupMemory(root_, cgroups);
  ASSERT_TRUE(memory) << memory.error().ToString();
  EXPECT_EQ(memory->usage_bytes, 4096U);
  EXPECT_EQ(memory->limit_bytes, 8192U);
}

TEST_F(CgroupNamespaceTest, WithoutNamespaceNothingIsSearchedNorChanged) {
  EXPECT_EQ(Resolved("/kubepods/burstable/podN/n"), "/kubepods/burstable/podN/n");
  EXPECT_EQ(Resolved("/"), "/");
  auto none = ParseCgroups("", "cgroup").value();
  namespace_.Resolve(none);
  EXPECT_TRUE(none.entries.empty());
}

TEST_F(CgroupNamespaceTest, MoreUpThanThereIsStays) { EXPECT_EQ(Resolved("/../../../../../x"), "/../../../../../x"); }

TEST_F(CgroupNamespaceTest, HierarchyThatDoesNotShowWhatIsOutsideChangesNothing) {
  tree_.Remove("fs/cgroup");
  tree_.WriteFile("fs/cgroup/cgroup.controllers", "cpu memory\n");
  tree_.WriteFile("fs/cgroup/cgroup.procs", "42\n");  // a container's /sys, whose top is the root of the namespace
  EXPECT_EQ(Resolved("/../../podF/f"), "/../../podF/f");
  EXPECT_EQ(Resolved("/child"), "/child");

  tree_.WriteFile("fs/cgroup/cgroup.procs", "1\n");
  CgroupNamespace nowhere(root_);
  EXPECT_EQ(Resolved(nowhere, "/../../podF/f"), "/../../podF/f");

  tree_.Remove("fs/cgroup");
  CgroupNamespace unmounted(root_);
  EXPECT_EQ(Resolved(unmounted, "/../../podF/f"), "/../../podF/f");
}

TEST_F(CgroupNamespaceTest, ReaderWithoutAPidHereChangesNothing) {
  tree_.Symlink("self", "nobody");
  EXPECT_EQ(Resolved("/../podF/f"), "/../podF/f");
}

TEST_F(CgroupNamespaceTest, HierarchyBesideVersion1) {
  tree_.Remove("fs/cgroup");
  tree_.WriteFile("fs/cgroup/memory/kubepods/e/cgroup.procs", "42\n");
  EXPECT_EQ(Resolved("/../podF/f"), "/../podF/f");

  tree_.WriteFile("fs/cgroup/unified/cgroup.controllers", "\n");
  tree_.WriteFile("fs/cgroup/unified/system.slice/x.service/cgroup.procs", "42\n");
  CgroupNamespace beside(root_);
  EXPECT_EQ(Resolved(beside, "/../y.service"), "/system.slice/y.service");
}

TEST_F(CgroupNamespaceTest, Version1IsLeftAlone) {
  auto cgroups = ParseCgroups("4:memory:/../m\n0::/../pause\n", "cgroup").value();
  namespace_.Resolve(cgroups);
  EXPECT_EQ(cgroups.MemoryPath(), "/../m");
  EXPECT_EQ(cgroups.NamingPath(), "/kubepods/besteffort/podE/pause");
}

}  // namespace
}  // namespace cow::procfs
