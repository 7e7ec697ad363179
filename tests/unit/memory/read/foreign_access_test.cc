#include "collectors/memory/read/foreign_access.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "tests/support/child_process.h"
#include "tests/support/fixture_tree.h"
#include "tests/support/privileges.h"

namespace cow::memory {
namespace {

// Leaves this process no capability but these.
bool KeepOnly(uint64_t mask) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const auto low = static_cast<uint32_t>(mask);
  const auto high = static_cast<uint32_t>(mask >> 32);
  std::array<__user_cap_data_struct, 2> sets{{{low, low, 0}, {high, high, 0}}};
  return syscall(SYS_capset, &header, sets.data()) == 0;
}

constexpr uint64_t Bit(unsigned capability) { return uint64_t{1} << capability; }

// Probes in a child with these capabilities. Bit 0: page tables, bit 1: details; negative: the child failed.
int ProbeWith(uint64_t mask) {
  test::ChildProcess child([mask](const test::ChildProcess::Steps&) {
    if (!KeepOnly(mask)) return 4;
    const ForeignAccess access = ProbeForeignAccess(procfs::Root());
    return (access.page_tables ? 1 : 0) + (access.details ? 2 : 0);
  });
  return child.Reap();
}

TEST(ForeignAccessTest, FollowsTheRights) {
  if (geteuid() != 0 || !test::WhyNoPageFrames().empty()) GTEST_SKIP() << test::MissingPrivilege(test::kPageFrames);
  EXPECT_EQ(ProbeWith(Bit(CAP_SYS_PTRACE) | Bit(CAP_DAC_READ_SEARCH)), 3);
  EXPECT_EQ(ProbeWith(Bit(CAP_DAC_READ_SEARCH)), 0) << "a child of the same user is no exception";
  EXPECT_EQ(ProbeWith(0), 0);
  const int without_ptrace = ProbeWith(Bit(CAP_SYS_ADMIN) | Bit(CAP_DAC_READ_SEARCH));
  EXPECT_TRUE(without_ptrace == 0 || without_ptrace == 1) << without_ptrace;
  RecordProperty("page tables without CAP_SYS_PTRACE", without_ptrace);
}

TEST(ForeignAccessTest, LeavesNoChildBehind) {
  ProbeForeignAccess(procfs::Root());
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(ForeignAccessTest, ATreeThatIsNoProcfsHidesNothing) {
  const test::FixtureTree tree;
  const ForeignAccess access = ProbeForeignAccess(procfs::Root(tree.path(), tree.path()));
  EXPECT_TRUE(access.page_tables && access.details);
}

}  // namespace
}  // namespace cow::memory
