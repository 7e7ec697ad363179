#include "collectors/memory/read/mapping.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "collectors/procfs/system.h"
#include "tests/support/fixture_process.h"

namespace cow::memory {
namespace {

class MappingTest : public testing::Test {
 protected:
  Mapping Classify(std::string path, bool shared, uint32_t major = 0, uint32_t minor = 0, uint64_t inode = 0) {
    procfs::Vma vma;
    vma.start = 0x1000;
    vma.end = 0x3000;
    vma.path = std::move(path);
    vma.shared = shared;
    vma.device_major = major;
    vma.device_minor = minor;
    vma.inode = inode;
    DeviceTypes devices(host_.Root());
    return ClassifyMappings({vma}, 10, devices).at(0);
  }

  test::FixtureHost host_;
};

TEST_F(MappingTest, AnonymousMemory) {
  for (const auto& [path, kind] : std::vector<std::pair<std::string, MappingKind>>{{"[heap]", MappingKind::kHeap},
                                                                                   {"[stack]", MappingKind::kStack},
                                                                                   {"[stack:7]", MappingKind::kStack},
                                                                                   {"", MappingKind::kAnon},
                                                                                   {"[anon:x]", MappingKind::kAnon}}) {
    const Mapping mapping = Classify(path, false);
    EXPECT_EQ(mapping.kind, kind) << path;
    EXPECT_TRUE(mapping.IsAnonymous()) << path;
    EXPECT_TRUE(mapping.IsPrivate()) << path;
    EXPECT_FALSE(mapping.IsPrivateFile()) << path;
    EXPECT_FALSE(mapping.hugetlb) << path;
  }
}

TEST_F(MappingTest, SharedMemory) {
  for (const char* path : {"/dev/zero (deleted)", "/memfd:x (deleted)", "/SYSV00000000 (deleted)", "[anon_shmem:x]"}) {
    const Mapping mapping = Classify(path, true);
    EXPECT_EQ(mapping.kind, MappingKind::kShmem) << path;
    EXPECT_FALSE(mapping.IsAnonymous()) << path;
    EXPECT_FALSE(mapping.IsPrivateFile()) << path;
  }
  EXPECT_TRUE(Classify("/memfd:x (deleted)", false).IsPrivateFile());
}

TEST_F(MappingTest, FilesByTheirDevice) {
  EXPECT_EQ(Classify("/usr/lib/x.so", false, 8, 1, 7).kind, MappingKind::kFile);
  EXPECT_TRUE(Classify("/usr/lib/x.so", false, 8, 1, 7).IsPrivateFile());
  EXPECT_FALSE(Classify("/usr/lib/x.so", true, 8, 1, 7).IsPrivateFile());
  EXPECT_EQ(Classify("/dev/shm/x", true, 0, 30, 7).kind, MappingKind::kShmem);
  EXPECT_EQ(Classify("/overlay/x", false, 0, 99, 7).kind, MappingKind::kFile);
}

TEST_F(MappingTest, DeviceOfAnotherMountNamespaceIsLearnt) {
  host_.tree().WriteFile("proc/10/mountinfo", "9 1 0:77 / /dev/shm rw - tmpfs tmpfs rw\n");
  EXPECT_EQ(Classify("/dev/shm/x", true, 0, 77, 7).kind, MappingKind::kShmem);
}

class DeviceTypesTest : public testing::Test {
 protected:
  // Returns the type of device 0:77, which process 10 or another one maps.
  DeviceTypes::Type Find(pid_t pid = 10) {
    procfs::Vma vma;
    vma.device_minor = 77;
    vma.inode = 7;
    return devices_.Find(std::span(&vma, 1), pid).at({0, 77});
  }
  void Mount(pid_t pid, const std::string& type) {
    host_.tree().WriteFile("proc/" + std::to_string(pid) + "/mountinfo", "9 1 0:77 / /x rw - " + type + " none rw\n");
  }

  test::FixtureHost host_;
  DeviceTypes devices_{host_.Root()};
};

// The kernel reuses the number of a filesystem that is gone.
TEST_F(DeviceTypesTest, AreLearnedAnewInEachPass) {
  Mount(10, "tmpfs");
  EXPECT_EQ(Find(), DeviceTypes::Type::kTmpfs);
  Mount(10, "overlay");
  EXPECT_EQ(Find(), DeviceTypes::Type::kTmpfs) << "read once in a pass";
  devices_.BeginPass();
  EXPECT_EQ(Find(), DeviceTypes::Type::kOther);
  Mount(10, "hugetlbfs");
  devices_.BeginPass();
  EXPECT_EQ(Find(), DeviceTypes::Type::kHugetlbfs);
}

TEST_F(DeviceTypesTest, AnotherProcessMayKnowMore) {
  host_.tree().WriteFile("proc/10/mountinfo", "9 1 0:78 / /x rw - tmpfs none rw\n");
  EXPECT_EQ(Find(10), DeviceTypes::Type::kOther);
  Mount(11, "tmpfs");
  EXPECT_EQ(Find(11), DeviceTypes::Type::kTmpfs);
  EXPECT_EQ(Find(10), DeviceTypes::Type::kTmpfs);
}

TEST_F(DeviceTypesTest, MountinfoReadsPerPassAreLimited) {
  for (pid_t pid = 10; pid < 20; ++pid) EXPECT_EQ(Find(pid), DeviceTypes::Type::kOther);
  Mount(20, "tmpfs");
  EXPECT_EQ(Find(20), DeviceTypes::Type::kOther);
  devices_.BeginPass();
  EXPECT_EQ(Find(20), DeviceTypes::Type::kTmpfs);
}

TEST(KernelHugetlbTest, IsKnownByItsDevice) {
  const auto devices = procfs::FindKernelHugetlb(procfs::Root());
  if (!devices || devices->empty()) GTEST_SKIP() << "no huge pages of hugetlb here";
  DeviceTypes types{procfs::Root()};
  procfs::Vma vma;
  vma.start = 0x1000;
  vma.end = 0x2000;
  vma.device_major = devices->front().first;
  vma.device_minor = devices->front().second;
  for (const char* path : {"/memfd:x (deleted)", "/SYSV00000000 (deleted)"}) {
    vma.inode = path[1] == 'm' ? 7 : 0;  // the first segment has number 0
    vma.path = path;
    const Mapping mapping = ClassifyMappings({vma}, getpid(), types).at(0);
    EXPECT_TRUE(mapping.hugetlb) << path;
    EXPECT_EQ(mapping.kind, MappingKind::kShmem) << path;
    EXPECT_FALSE(mapping.IsPrivateFile()) << path;
  }
  vma.path = "/anon_hugepage (deleted)";
  EXPECT_TRUE(ClassifyMappings({vma}, getpid(), types).at(0).hugetlb);
  vma.device_minor = 0xfffff;
  EXPECT_FALSE(ClassifyMappings({vma}, getpid(), types).at(0).hugetlb) << "a file of this name";
}

TEST_F(MappingTest, HugePagesOfHugetlb) {
  const Mapping anonymous = Classify("/anon_hugepage (deleted)", false, 0, 15, 7);
  EXPECT_TRUE(anonymous.hugetlb);
  EXPECT_EQ(anonymous.kind, MappingKind::kAnon);
  EXPECT_FALSE(anonymous.IsPrivateFile());
  EXPECT_EQ(Classify("/anon_hugepage (deleted)", true, 0, 15, 7).kind, MappingKind::kShmem);
  const Mapping file = Classify("/huge/x", true, 0, 31, 7);
  EXPECT_TRUE(file.hugetlb);
  EXPECT_FALSE(Classify("/dev/shm/x", true, 0, 30, 7).hugetlb);
}

TEST_F(MappingTest, VsyscallIsLeftOutAndTheRestIsFile) {
  std::vector<procfs::Vma> vmas(2);
  vmas[0].path = "[vdso]";
  vmas[1].path = "[vsyscall]";
  DeviceTypes devices(host_.Root());
  const std::vector<Mapping> mappings = ClassifyMappings(vmas, 10, devices);
  ASSERT_EQ(mappings.size(), 1U);
  EXPECT_EQ(mappings[0].vma.path, "[vdso]");
  EXPECT_EQ(mappings[0].kind, MappingKind::kFile);
  EXPECT_FALSE(mappings[0].IsPrivateFile()) << "the kernel's own pages, no file's";
}

TEST_F(MappingTest, FindsByAddress) {
  std::vector<Mapping> mappings(2);
  mappings[0].vma.start = 0x1000;
  mappings[0].vma.end = 0x2000;
  mappings[1].vma.start = 0x3000;
  mappings[1].vma.end = 0x5000;
  EXPECT_EQ(FindMapping(mappings, 0xfff), nullptr);
  EXPECT_EQ(FindMapping(mappings, 0x1000), &mappings[0]);
  EXPECT_EQ(FindMapping(mappings, 0x1fff), &mappings[0]);
  EXPECT_EQ(FindMapping(mappings, 0x2000), nullptr);
  EXPECT_EQ(FindMapping(mappings, 0x4fff), &mappings[1]);
  EXPECT_EQ(FindMapping(mappings, 0x5000), nullptr);
  EXPECT_EQ(FindMapping({}, 0), nullptr);
}

}  // namespace
}  // namespace cow::memory
