#include "collectors/procfs/cgroup.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

std::string Id() { return "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"; }
std::string OtherId() { return "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"; }
std::string Uid() { return "12345678-9abc-def0-1234-56789abcdef0"; }
std::string UnderscoredUid() { return "12345678_9abc_def0_1234_56789abcdef0"; }

TEST(CgroupTest, Version2) {
  const test::FixtureTree tree;
  tree.WriteFile("42/cgroup", "0::/system.slice/redis.service\n");
  const auto cgroups = ReadCgroups(Root(tree.path()), 42);
  ASSERT_TRUE(cgroups) << cgroups.error().ToString();
  ASSERT_EQ(cgroups->entries.size(), 1U);
  EXPECT_EQ(cgroups->entries[0].hierarchy, 0U);
  EXPECT_TRUE(cgroups->entries[0].controllers.empty());
  EXPECT_EQ(cgroups->MemoryPath(), "/system.slice/redis.service");
  EXPECT_FALSE(cgroups->MemoryIsVersion1());
  EXPECT_EQ(cgroups->NamingPath(), "/system.slice/redis.service");
}

TEST(CgroupTest, Version1AndHybrid) {
  const auto cgroups =
      ParseCgroups("9:name=systemd:/system.slice/a:b.service\n4:memory:/m\n2:cpu,cpuacct:/c\n0::/\n", "cgroup");
  ASSERT_TRUE(cgroups);
  ASSERT_EQ(cgroups->entries.size(), 4U);
  EXPECT_EQ(cgroups->entries[2].controllers, (std::vector<std::string>{"cpu", "cpuacct"}));
  EXPECT_EQ(cgroups->entries[0].path, "/system.slice/a:b.service");
  EXPECT_EQ(cgroups->MemoryPath(), "/m");
  EXPECT_TRUE(cgroups->MemoryIsVersion1());
  EXPECT_EQ(cgroups->NamingPath(), "/system.slice/a:b.service");
  EXPECT_EQ(ParseCgroups("9:name=systemd:/\n4:memory:/m\n0::/\n", "cgroup")->NamingPath(), "/m");
  EXPECT_EQ(ParseCgroups("9:name=systemd:/s\n4:memory:/m\n0::/v2\n", "cgroup")->NamingPath(), "/v2");
  EXPECT_EQ(ParseCgroups("4:memory:/\n0::/\n", "cgroup")->NamingPath(), "/");
}

TEST(CgroupTest, HostWithoutCgroupsHasNone) {
  const auto cgroups = ParseCgroups("", "cgroup");
  ASSERT_TRUE(cgroups);
  EXPECT_EQ(cgroups->MemoryPath(), "");
  EXPECT_EQ(cgroups->NamingPath(), "/");
  EXPECT_FALSE(ReadCgroupMemory(Root("/nowhere", "/nowhere"), *cgroups));
}

TEST(CgroupTest, Errors) {
  const test::FixtureTree tree;
  EXPECT_EQ(ReadCgroups(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  for (const char* bad :
       {"\n", "0\n", "0:\n", "0::\n", "0::x\n", "x::/\n", "-1::/\n", "99999999999:memory:/\n", "::/\n"}) {
    const auto cgroups = ParseCgroups(bad, "cgroup");
    ASSERT_FALSE(cgroups) << bad;
    EXPECT_EQ(cgroups.error().kind, ErrorKind::kMalformed);
  }
}

TEST(CgroupMemoryTest, Version2) {
  const test::FixtureTree tree;
  const Root root(tree.path(), tree.path());
  const auto cgroups = ParseCgroups("0::/a/b\n", "cgroup").value();
  EXPECT_EQ(ReadCgroupMemory(root, cgroups).error().kind, ErrorKind::kGone);
  tree.WriteFile("fs/cgroup/a/b/memory.current", "4096\n");
  tree.WriteFile("fs/cgroup/a/b/memory.max", "max\n");
  auto memory = ReadCgroupMemory(root, cgroups);
  ASSERT_TRUE(memory) << memory.error().ToString();
  EXPECT_EQ(memory->usage_bytes, 4096U);
  EXPECT_FALSE(memory->limit_bytes);
  tree.WriteFile("fs/cgroup/a/b/memory.max", "8192\n");
  EXPECT_EQ(ReadCgroupMemory(root, cgroups)->limit_bytes, 8192U);
  tree.WriteFile("fs/cgroup/a/b/memory.max", "0\n");
  EXPECT_EQ(ReadCgroupMemory(root, cgroups)->limit_bytes, 0U);
  for (const char* bad : {"", "\n", "x\n", "-1\n", "MAX\n"}) {
    tree.WriteFile("fs/cgroup/a/b/memory.max", bad);
    EXPECT_EQ(ReadCgroupMemory(root, cgroups).error().kind, ErrorKind::kMalformed) << bad;
  }
}

TEST(CgroupMemoryTest, Version1) {
  const test::FixtureTree tree;
  const Root root(tree.path(), tree.path());
  const auto cgroups = ParseCgroups("4:memory:/a\n0::/b\n", "cgroup").value();
  tree.WriteFile("fs/cgroup/memory/a/memory.usage_in_bytes", "4096\n");
  for (const char* unlimited : {"9223372036854771712\n", "9223372036854710272\n", "18446744073709551615\n"}) {
    tree.WriteFile("fs/cgroup/memory/a/memory.limit_in_bytes", unlimited);
    const auto memory = ReadCgroupMemory(root, cgroups);
    ASSERT_TRUE(memory) << memory.error().ToString();
    EXPECT_EQ(memory->usage_bytes, 4096U);
    EXPECT_FALSE(memory->limit_bytes);
  }
  tree.WriteFile("fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(ReadCgroupMemory(root, cgroups)->limit_bytes, 1073741824U);
}

TEST(CgroupMemoryTest, PathOutsideOfTheNamespaceIsAnError) {
  const test::FixtureTree tree;
  tree.WriteFile("fs/x/memory.current", "1\n");
  tree.WriteFile("fs/x/memory.max", "1\n");
  tree.MakeDirectory("fs/cgroup");
  const auto cgroups = ParseCgroups("0::/../x\n", "cgroup").value();
  EXPECT_EQ(ReadCgroupMemory(Root(tree.path(), tree.path()), cgroups).error().kind, ErrorKind::kIo);
}

struct NameCase {
  std::string path;
  std::string unit;
  std::string container_id;
  std::string pod_uid;
};

TEST(CgroupPathTest, NamesOfEveryRuntime) {
  const std::vector<NameCase> cases{
      {"/", "", "", ""},
      {"", "", "", ""},
      // systemd
      {"/system.slice/redis.service", "redis.service", "", ""},
      {"/user.slice/user-1000.slice/user@1000.service/app.slice/foo.scope", "foo.scope", "", ""},
      {"/user.slice/user-1000.slice/user@1000.service/app.slice", "user@1000.service", "", ""},
      {"/system.slice/a.service/inner", "a.service", "", ""},
      {"/system.slice", "system.slice", "", ""},
      {"/system.slice/system-getty.slice", "system-getty.slice", "", ""},
      {"/system.slice/x.socket", "x.socket", "", ""},
      {"/system.slice/x.mount", "x.mount", "", ""},
      {"/system.slice/old.service (deleted)", "old.service", "", ""},
      {"/.service/.slice", "", "", ""},
      // docker
      {"/docker/" + Id(), "", Id(), ""},
      {"/system.slice/docker-" + Id() + ".scope", "docker-" + Id() + ".scope", Id(), ""},
      {"/docker/" + OtherId() + "/docker/" + Id(), "", Id(), ""},
      {"/system.slice/docker-" + OtherId() + ".scope/docker/" + Id() + "/init", "docker-" + OtherId() + ".scope", Id(),
       ""},
      // podman
      {"/machine.slice/libpod-" + Id() + ".scope", "libpod-" + Id() + ".scope", Id(), ""},
      {"/machine.slice/libpod-" + Id() + ".scope/container", "libpod-" + Id() + ".scope", Id(), ""},
      {"/libpod_parent/libpod-" + Id(), "", Id(), ""},
      {"/machine.slice/libpod-conmon-" + Id() + ".scope", "libpod-conmon-" + Id() + ".scope", "", ""},
      // Kubernetes, cgroupfs driver
      {"/kubepods/burstable/pod" + Uid() + "/" + Id(), "", Id(), Uid()},
      {"/kubepods/pod" + Uid() + "/" + Id(), "", Id(), Uid()},
      {"/kubepods/besteffort/pod" + Uid() + "/crio-" + Id(), "", Id(), Uid()},
      {"/kubepods/burstable/pod" + Id().substr(0, 32) + "/" + Id(), "", Id(), Id().substr(0, 32)},
      // Kubernetes, systemd driver
      {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + UnderscoredUid() + ".slice/cri-containerd-" +
           Id() + ".scope",
       "cri-containerd-" + Id() + ".scope", Id(), Uid()},
      {"/kubepods.slice/kubepods-pod" + UnderscoredUid() + ".slice/crio-" + Id() + ".scope", "crio-" + Id() + ".scope",
       Id(), Uid()},
      {"/kubepods.slice/kubepods-pod" + UnderscoredUid() + ".slice/crio-conmon-" + Id() + ".scope",
       "crio-conmon-" + Id() + ".scope", "", Uid()},
      {"/kubepods.slice/kubepods-pod" + UnderscoredUid() + ".slice/docker-" + Id() + ".scope",
       "docker-" + Id() + ".scope", Id(), Uid()},
      {"/system.slice/containerd.service/kubepods-burstable-pod" + UnderscoredUid() + ".slice:cri-containerd:" + Id(),
       "containerd.service", Id(), Uid()},
      {"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + UnderscoredUid() + ".slice/cri-containerd-" +
           Id() + ".scope",
       "cri-containerd-" + Id() + ".scope", Id(), Uid()},
      // Kubernetes, read from a cgroup namespace in a pod of another class, in a pod of the same class, and in the same
      // pod
      {"/../../../burstable/pod" + Uid() + "/" + Id(), "", Id(), Uid()},
      {"/../../pod" + Uid() + "/" + Id(), "", Id(), Uid()},
      {"/../../../kubepods-burstable.slice/kubepods-burstable-pod" + UnderscoredUid() + ".slice/cri-containerd-" +
           Id() + ".scope",
       "cri-containerd-" + Id() + ".scope", Id(), Uid()},
      {"/../" + Id(), "", Id(), ""},
      {"/../../../../system.slice/redis.service", "redis.service", "", ""},
      {"/..", "", "", ""},
      // none of these
      {"/docker/" + Id().substr(1), "", "", ""},
      {"/docker/" + Id() + "0", "", "", ""},
      {"/docker/g" + Id().substr(1), "", "", ""},
      {"/other/pod" + Uid(), "", "", ""},
      {"/kubepods/podxyz/pod", "", "", ""},
      {"/kubepods/pod12345678-9abc-def0-1234_56789abcdef", "", "", ""},
      {"/kubepods.slice/kubepods-pod.slice", "kubepods-pod.slice", "", ""},
  };
  for (const NameCase& c : cases) {
    const CgroupNames names = ParseCgroupPath(c.path);
    EXPECT_EQ(names.unit, c.unit) << c.path;
    EXPECT_EQ(names.container_id, c.container_id) << c.path;
    EXPECT_EQ(names.pod_uid, c.pod_uid) << c.path;
  }
}

// The kernel's text if version 1 has one hierarchy per controller and systemd's own, all with the same path.
std::string Version1(const std::string& path) {
  std::string text;
  int hierarchy = 12;
  for (const char* controllers : {"blkio", "cpu,cpuacct", "memory", "pids", "devices", "name=systemd"}) {
    text.append(std::to_string(hierarchy--)).append(":").append(controllers).append(":").append(path).append("\n");
  }
  return text;
}

struct RuntimeCase {
  std::string text;  // of PID/cgroup
  CgroupNames names;
};

TEST(CgroupPathTest, TreesOfEveryRuntime) {
  const std::string user = "/user.slice/user-1000.slice/user@1000.service";
  const std::string docker = "docker-" + Id() + ".scope";
  const std::string podman = "libpod-" + Id() + ".scope";
  const std::string crio = "crio-" + Id() + ".scope";
  const std::string containerd = "cri-containerd-" + Id() + ".scope";
  const std::string pod = "kubepods-burstable-pod" + UnderscoredUid() + ".slice";
  const std::string pods = "/kubepods.slice/kubepods-burstable.slice/" + pod + "/";
  const std::string pods_of_cgroupfs = "/kubepods/burstable/pod" + Uid() + "/";
  const std::string node = "docker-" + OtherId() + ".scope";  // a node of kind is a container
  const std::vector<RuntimeCase> cases{
      // docker: cgroupfs and systemd driver, rootless, in docker
      {Version1("/docker/" + Id()), {"", Id(), ""}},
      {Version1("/system.slice/" + docker), {docker, Id(), ""}},
      {"0::/docker/" + Id() + "\n", {"", Id(), ""}},
      {"0::/system.slice/" + docker + "\n", {docker, Id(), ""}},
      {"0::" + user + "/user.slice/" + docker + "\n", {docker, Id(), ""}},
      {"0::/system.slice/" + node + "/docker/" + Id() + "\n", {node, Id(), ""}},
      // hybrid: version 2 is mounted, version 1 has the controllers
      {Version1("/system.slice/" + docker) + "0::/system.slice/" + docker + "\n", {docker, Id(), ""}},
      {Version1("/docker/" + Id()) + "0::/\n", {"", Id(), ""}},
      // podman
      {Version1("/libpod_parent/libpod-" + Id()), {"", Id(), ""}},
      {Version1("/machine.slice/" + podman), {podman, Id(), ""}},
      {"0::/machine.slice/" + podman + "/container\n", {podman, Id(), ""}},
      {"0::" + user + "/user.slice/" + podman + "/container\n", {podman, Id(), ""}},
      {"0::/machine.slice/machine-libpod_pod_" + OtherId() + ".slice/" + podman + "/container\n", {podman, Id(), ""}},
      {"0::/libpod_parent/" + OtherId() + "/libpod-" + Id() + "\n", {"", Id(), ""}},
      {"0::/libpod_parent/" + OtherId() + "/libpod-conmon-" + Id() + "\n", {"", "", ""}},
      // containerd alone: ctr, nerdctl
      {"0::/default/" + Id() + "\n", {"", Id(), ""}},
      {"0::/system.slice/nerdctl-" + Id() + ".scope\n", {"nerdctl-" + Id() + ".scope", Id(), ""}},
      // Kubernetes with containerd
      {Version1(pods_of_cgroupfs + Id()), {"", Id(), Uid()}},
      {Version1(pods + containerd), {containerd, Id(), Uid()}},
      {"0::" + pods_of_cgroupfs + Id() + "\n", {"", Id(), Uid()}},
      {"0::" + pods + containerd + "\n", {containerd, Id(), Uid()}},
      {"0::" + pods + containerd + "/init.scope\n", {"init.scope", Id(), Uid()}},
      {"0::/system.slice/containerd.service/" + pod + ":cri-containerd:" + Id() + "\n",
       {"containerd.service", Id(), Uid()}},
      // Kubernetes with CRI-O
      {Version1(pods_of_cgroupfs + "crio-" + Id()), {"", Id(), Uid()}},
      {Version1(pods + crio), {crio, Id(), Uid()}},
      {"0::" + pods_of_cgroupfs + "crio-" + Id() + "\n", {"", Id(), Uid()}},
      {"0::" + pods + crio + "/container\n", {crio, Id(), Uid()}},
      // Kubernetes in docker (kind), seen from its host
      {"0::/system.slice/" + node + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-" +
           pod + "/" + containerd + "\n",
       {containerd, Id(), Uid()}},
      {Version1("/docker/" + OtherId() + "/kubelet" + pods_of_cgroupfs + Id()), {"", Id(), Uid()}},
      // none
      {"0::/system.slice/redis-server.service\n", {"redis-server.service", "", ""}},
      {Version1("/system.slice/redis-server.service"), {"redis-server.service", "", ""}},
      {"0::/\n", {"", "", ""}},
      {"", {"", "", ""}},
  };
  const test::FixtureTree tree;
  for (const RuntimeCase& c : cases) {
    tree.WriteFile("42/cgroup", c.text);
    const auto cgroups = ReadCgroups(Root(tree.path()), 42);
    ASSERT_TRUE(cgroups) << cgroups.error().ToString();
    const CgroupNames names = ParseCgroupPath(cgroups->NamingPath());
    EXPECT_EQ(names.unit, c.names.unit) << c.text;
    EXPECT_EQ(names.container_id, c.names.container_id) << c.text;
    EXPECT_EQ(names.pod_uid, c.names.pod_uid) << c.text;
  }
}

}  // namespace
}  // namespace cow::procfs
