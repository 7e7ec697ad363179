#include "collectors/memory/read/kernel_probe.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>

#include "tests/support/child_process.h"
#include "tests/support/fixture_tree.h"
#include "tests/support/privileges.h"

namespace cow::memory {
namespace {

KernelFacts ProbeHere() {
  const procfs::Root root;
  const procfs::PageGeometry geometry = *procfs::ReadPageGeometry(root);
  return ProbeKernel(root, geometry, procfs::PagemapScan::Probe(root, geometry));
}

// Prevents this process from forking.
bool RefuseForks() {
  const auto deny = [](uint32_t number) {
    return std::array<sock_filter, 2>{
        {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN)}};
  };
  const auto clone = deny(SYS_clone);
  const auto clone3 = deny(SYS_clone3);
  std::array<sock_filter, 6> filter{{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)), clone[0], clone[1],
                                     clone3[0], clone3[1], BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  const sock_fprog program{filter.size(), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(KernelProbeTest, LeavesNoChildBehindAndTakesLittleTime) {
  const auto begin = std::chrono::steady_clock::now();
  const KernelFacts facts = ProbeHere();
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - begin;
  RecordProperty("milliseconds", std::to_string(spent.count()));
  EXPECT_LT(spent.count(), 2000);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_TRUE(facts.entry_kinds);
  EXPECT_TRUE(facts.mapped_once);
}

TEST(KernelProbeTest, SameAnswerEachTime) {
  const KernelFacts first = ProbeHere();
  for (int i = 0; i < 20; ++i) {
    const KernelFacts again = ProbeHere();
    EXPECT_EQ(again.words.marks, first.words.marks);
    EXPECT_EQ(again.words.merged_flag, first.words.merged_flag);
    EXPECT_EQ(again.words.page_counts, first.words.page_counts);
    EXPECT_EQ(again.page_mapcounts, first.page_mapcounts);
    EXPECT_EQ(again.scan_kinds, first.scan_kinds);
  }
}

// Facts that need a child are unknown; the others are unchanged.
TEST(KernelProbeTest, WithoutForkMarksAreNotReliedOn) {
  if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  const KernelFacts with_child = ProbeHere();
  test::ChildProcess child([&with_child](const test::ChildProcess::Steps&) {
    if (!RefuseForks()) return 1;
    const KernelFacts facts = ProbeHere();
    if (facts.words.marks != ExclusiveMarks::kNone) return 2;
    if (facts.words.merged_flag != with_child.words.merged_flag) return 3;
    if (!facts.entry_kinds || !facts.mapped_once || facts.page_mapcounts != with_child.page_mapcounts) return 4;
    return facts.words.page_counts == with_child.words.page_counts ? 0 : 5;
  });
  EXPECT_EQ(child.Reap(), 0);
}

// Files of another system say nothing about this kernel.
TEST(KernelProbeTest, ATreeThatIsNoProcfsIsTakenAsDocumented) {
  const test::FixtureTree tree;
  const procfs::Root root(tree.path(), tree.path());
  const KernelFacts facts = ProbeKernel(root, {}, procfs::PagemapScan());
  EXPECT_EQ(facts.words.marks, ExclusiveMarks::kOfThePage);
  EXPECT_TRUE(facts.words.merged_flag && facts.words.page_counts && facts.page_mapcounts && facts.entry_kinds);
}

}  // namespace
}  // namespace cow::memory
