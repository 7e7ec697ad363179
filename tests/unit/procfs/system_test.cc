#include "collectors/procfs/system.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kHugePageFile = "kernel/mm/transparent_hugepage/hpage_pmd_size";

class SystemTest : public testing::Test {
 protected:
  void WriteAuxv(const std::vector<uint64_t>& words) const {
    tree_.Remove("self/auxv");
    tree_.WriteWords("self/auxv", 0, words);
  }
  // Writes the files as root sees them in the initial namespaces.
  void WriteAllRights() const {
    WriteCapabilities("000001ffffffffff");
    tree_.Symlink("self/ns/pid", "pid:[4026531836]");
    tree_.Symlink("self/ns/user", "user:[4026531837]");
    WriteMount("rw");
  }
  void WriteCapabilities(const std::string& mask) const {
    tree_.WriteFile("self/status", "Name:\tx\nTgid:\t1\nPPid:\t0\nUid:\t0\t0\t0\t0\nCapEff:\t" + mask + "\n");
  }
  void WriteMount(const std::string& options) const {
    tree_.WriteFile("self/mountinfo", "1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / " + tree_.path() +
                                          " rw,nosuid shared:1 - proc proc " + options + "\n");
  }

  test::FixtureTree tree_;
  Root root_{tree_.path(), tree_.path()};
};

TEST_F(SystemTest, GeometryOfOtherMachines) {
  WriteAuxv({AT_HWCAP, 1, AT_PAGESZ, 65536, AT_CLKTCK, 250, AT_NULL, 0, AT_PAGESZ, 1});
  auto geometry = ReadPageGeometry(root_);
  ASSERT_TRUE(geometry) << geometry.error().ToString();
  EXPECT_EQ(geometry->page_bytes, 65536U);
  EXPECT_EQ(geometry->huge_page_bytes, 536870912U);  // no huge page file
  EXPECT_EQ(geometry->PagesPerWindow(), 8192U);
  EXPECT_EQ(geometry->PageOf(131071), PageNumber(1));
  EXPECT_EQ(ReadClockTicksPerSecond(root_), 250U);
  tree_.WriteFile(kHugePageFile, "33554432\n");
  EXPECT_EQ(ReadPageGeometry(root_)->huge_page_bytes, 33554432U);
}

TEST_F(SystemTest, KernelImage) {
  EXPECT_TRUE(ReadKernelImage(root_).empty());
  tree_.WriteFile("iomem",
                  "00000000-00000000 : Kernel data\n"  // the kernel hides addresses
                  "00100000-7fffffff : System RAM\n"
                  "  01000000-022090c7 : Kernel code\n"
                  "  x-03000000 : Kernel code\n"
                  "  03b34000-03c57fff : Kernel bss\n"
                  "garbage\n");
  const auto ranges = ReadKernelImage(root_);
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[0].first, 0x01000000U);
  EXPECT_EQ(ranges[0].last, 0x022090c7U);
  EXPECT_EQ(ranges[1].first, 0x03b34000U);
}

TEST_F(SystemTest, GeometryFallsBackToTheSystem) {
  for (const std::vector<uint64_t>& words : {std::vector<uint64_t>{}, {AT_PAGESZ}, {AT_NULL, 0}}) {
    WriteAuxv(words);
    EXPECT_EQ(ReadPageGeometry(root_)->page_bytes, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    EXPECT_EQ(ReadClockTicksPerSecond(root_), static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
  }
  tree_.Remove("self");
  EXPECT_TRUE(ReadPageGeometry(root_));
}

TEST_F(SystemTest, GeometryMustBePowersOfTwo) {
  for (const uint64_t page_bytes : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{4097}, uint64_t{1} << 40}) {
    WriteAuxv({AT_PAGESZ, page_bytes, AT_NULL, 0});
    EXPECT_EQ(ReadPageGeometry(root_).error().kind, ErrorKind::kMalformed) << page_bytes;
  }
  WriteAuxv({AT_PAGESZ, 4096, AT_NULL, 0});
  for (const char* bad : {"", "\n", "0\n", "x\n", "2097153\n", "1024\n", "-1\n", "99999999999999999999\n"}) {
    tree_.WriteFile(kHugePageFile, bad);
    const auto geometry = ReadPageGeometry(root_);
    ASSERT_FALSE(geometry) << bad;
    EXPECT_EQ(geometry.error().kind, ErrorKind::kMalformed);
    EXPECT_EQ(geometry.error().path, tree_.Path(kHugePageFile));
  }
}

TEST_F(SystemTest, BootTime) {
  EXPECT_EQ(ReadBootTimeSeconds(root_).error().kind, ErrorKind::kGone);
  tree_.WriteFile("stat", "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n");
  EXPECT_EQ(ReadBootTimeSeconds(root_).value(), 1700000000U);
  for (const char* bad : {"", "cpu 1\n", "btime \n", "btime x\n", "btime -1\n", "btime 1 2\n"}) {
    tree_.WriteFile("stat", bad);
    EXPECT_EQ(ReadBootTimeSeconds(root_).error().kind, ErrorKind::kMalformed) << bad;
  }
}

TEST_F(SystemTest, AnonPages) {
  EXPECT_EQ(ReadAnonPagesBytes(root_).error().kind, ErrorKind::kGone);
  tree_.WriteFile("meminfo", "MemTotal:  100 kB\nAnonPages:       12 kB\n");
  EXPECT_EQ(ReadAnonPagesBytes(root_).value(), 12288U);
  for (const char* bad : {"", "MemTotal: 1 kB\n", "AnonPages:\n", "AnonPages: 1\n", "AnonPages: -1 kB\n"}) {
    tree_.WriteFile("meminfo", bad);
    EXPECT_EQ(ReadAnonPagesBytes(root_).error().kind, ErrorKind::kMalformed) << bad;
  }
}

TEST_F(SystemTest, SeesEveryProcessOnlyWithItsRights) {
  EXPECT_FALSE(SeesEveryProcess(root_));
  WriteAllRights();
  EXPECT_TRUE(SeesEveryProcess(root_));
  EXPECT_TRUE(SeesEveryProcess(Root(tree_.path() + "/")));

  WriteCapabilities("200004");
  EXPECT_TRUE(SeesEveryProcess(root_));
  // Without DAC_READ_SEARCH and SYS_ADMIN in turn.
  for (const char* mask : {"1fffffffffb", "1ffffdfffff", "0"}) {
    WriteCapabilities(mask);
    EXPECT_FALSE(SeesEveryProcess(root_)) << mask;
  }

  WriteAllRights();
  tree_.Symlink("self/ns/pid", "pid:[4026532000]");
  EXPECT_FALSE(SeesEveryProcess(root_));
  WriteAllRights();
  tree_.Remove("self/ns/user");
  EXPECT_FALSE(SeesEveryProcess(root_));
}

TEST_F(SystemTest, SeesEveryProcessOnlyWithoutHidingMountOptions) {
  WriteAllRights();
  for (const char* options : {"rw,hidepid=0", "rw,gid=5", "rw,hidepid=off"}) {
    WriteMount(options);
    EXPECT_TRUE(SeesEveryProcess(root_)) << options;
  }
  for (const char* options :
       {"rw,hidepid=1", "rw,hidepid=2", "rw,hidepid=invisible", "rw,hidepid=ptraceable,gid=5", "rw,subset=pid"}) {
    WriteMount(options);
    EXPECT_FALSE(SeesEveryProcess(root_)) << options;
  }
  tree_.WriteFile("self/mountinfo", "2 1 0:2 / /proc rw - proc proc rw\n");
  EXPECT_FALSE(SeesEveryProcess(root_));
  tree_.WriteFile("self/mountinfo", "2 1 0:2 / " + tree_.path() + " rw - proc proc rw\n3 2 0:2 / " + tree_.path() +
                                        " rw - tmpfs none rw\n");
  EXPECT_FALSE(SeesEveryProcess(root_));  // a later mount hides procfs
  tree_.Remove("self/mountinfo");
  EXPECT_FALSE(SeesEveryProcess(root_));
}

TEST_F(SystemTest, Capabilities) {
  EXPECT_FALSE(ReadEffectiveCapabilities(root_));
  WriteCapabilities("ff");
  EXPECT_EQ(ReadEffectiveCapabilities(root_), 255U);
}

TEST_F(SystemTest, FixtureHasNoZeroPage) {
  EXPECT_FALSE(FindZeroPageFrame(root_, {}));
  const std::string pid = std::to_string(getpid());
  tree_.Symlink("self", pid);
  tree_.WriteWords(pid + "/pagemap", 0, std::vector<uint64_t>(1, ~uint64_t{0}));
  EXPECT_FALSE(FindZeroPageFrame(root_, {}));
}

TEST(RealSystemTest, IsReadable) {
  const Root root;
  const auto geometry = ReadPageGeometry(root);
  ASSERT_TRUE(geometry) << geometry.error().ToString();
  EXPECT_EQ(geometry->page_bytes, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(ReadClockTicksPerSecond(root), static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
  EXPECT_GT(ReadBootTimeSeconds(root).value(), 0U);
  EXPECT_GT(ReadAnonPagesBytes(root).value(), 0U);
  EXPECT_TRUE(ReadEffectiveCapabilities(root));
}

TEST(RealSystemTest, DescriptorLimitIsRaised) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit lowered = before;
  lowered.rlim_cur = 64;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &lowered), 0);
  EXPECT_EQ(RaiseDescriptorLimit(), before.rlim_max);
  rlimit after{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_max);
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(SystemTest, OnlineProcessors) {
  const auto read = [this](const std::string& text) {
    tree_.Remove("devices/system/cpu/online");
    tree_.WriteFile("devices/system/cpu/online", text);
    return ReadOnlineProcessors(root_);
  };
  EXPECT_EQ(read("0\n").value(), (std::vector<int>{0}));
  EXPECT_EQ(read("0-1,4,6-7\n").value(), (std::vector<int>{0, 1, 4, 6, 7}));
  for (const char* text : {"", "\n", "x\n", "0-\n", "0-,1\n", "1-0\n", "0,0\n", "0,\n", "-1\n", "0-2000000000\n"}) {
    const auto processors = read(text);
    ASSERT_FALSE(processors) << text;
    EXPECT_EQ(processors.error().kind, ErrorKind::kMalformed);
  }
}

}  // namespace
}  // namespace cow::procfs
