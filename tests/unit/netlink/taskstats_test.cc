#include "collectors/netlink/taskstats.h"

#include <gtest/gtest.h>
#include <linux/acct.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/fixture_tree.h"
#include "tests/support/privileges.h"

namespace cow::netlink {
namespace {

using Bytes = std::vector<std::byte>;

// Sizes by version: 14 added two words, 16 sixteen more.
constexpr size_t kWord = sizeof(uint64_t);
constexpr size_t kVersion13 = offsetof(taskstats, wpcopy_delay_total) + kWord;  // newer headers have more
constexpr size_t kVersion14 = kVersion13 + 2 * kWord;
constexpr size_t kVersion16 = kVersion14 + 16 * kWord;

taskstats Stats() {
  taskstats stats{};
  stats.version = 13;
  stats.ac_pid = 101;
  stats.ac_tgid = 100;
  stats.ac_ppid = 50;
  stats.ac_flag = AFORK | AGROUP;
  stats.ac_exe_dev = 7;
  stats.ac_exe_inode = 8;
  stats.ac_btime64 = 1700000000;
  stats.wpcopy_count = 1234;
  return stats;
}

// Makes the struct that a kernel of that version sends; the other fields are 0xff.
Bytes Struct(uint16_t version, size_t bytes, taskstats stats = Stats()) {
  stats.version = version;
  Bytes sent(bytes, std::byte{0xff});
  const auto whole = std::as_bytes(std::span(&stats, 1));
  std::copy_n(whole.begin(), std::min(bytes, whole.size()), sent.begin());
  return sent;
}

Bytes Attribute(uint16_t type, const Bytes& payload) {
  constexpr size_t kHead = sizeof(nlattr);
  const nlattr head{static_cast<uint16_t>(kHead + payload.size()), type};
  Bytes attribute((kHead + payload.size() + 3) / 4 * 4);
  std::memcpy(attribute.data(), &head, kHead);
  if (!payload.empty()) std::memcpy(attribute.data() + kHead, payload.data(), payload.size());
  return attribute;
}

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Bytes Number(uint32_t number) {
  Bytes bytes(sizeof(number));
  std::memcpy(bytes.data(), &number, sizeof(number));
  return bytes;
}

Bytes OfTask(const Bytes& stats) {
  return Attribute(TASKSTATS_TYPE_AGGR_PID, Attribute(TASKSTATS_TYPE_PID, Number(101)) +
                                                Attribute(TASKSTATS_TYPE_NULL, {}) +
                                                Attribute(TASKSTATS_TYPE_STATS, stats));
}

Bytes OfProcess(const Bytes& stats) {
  return Attribute(TASKSTATS_TYPE_AGGR_TGID,
                   Attribute(TASKSTATS_TYPE_TGID, Number(100)) + Attribute(TASKSTATS_TYPE_STATS, stats));
}

TEST(TaskstatsTest, DecodesAStruct) {
  for (const auto& [version, bytes] : {std::pair<uint16_t, size_t>{13, kVersion13},
                                       {14, kVersion14},
                                       {16, kVersion16},
                                       {17, kVersion16 + 16 * kWord}}) {
    const auto task = DecodeTaskStats(Struct(version, bytes));
    ASSERT_TRUE(task) << task.error().ToString();
    EXPECT_EQ(task->pid, 101);
    EXPECT_EQ(task->process, 100);
    EXPECT_EQ(task->parent, 50);
    EXPECT_TRUE(task->forked_only);
    EXPECT_TRUE(task->last_thread);
    EXPECT_EQ(task->executable, (Executable{7, 8}));
    EXPECT_EQ(task->begin_seconds, 1700000000U);
    EXPECT_EQ(task->copied_pages, 1234U);
  }
  taskstats stats = Stats();
  stats.ac_flag = 0;
  const auto task = DecodeTaskStats(Struct(13, kVersion13, stats));
  ASSERT_TRUE(task);
  EXPECT_FALSE(task->forked_only || task->last_thread);
}

// A version and size without wpcopy_count at a known offset.
TEST(TaskstatsTest, RefusesOtherLayouts) {
  for (const auto& [version, bytes] : {std::pair<uint16_t, size_t>{12, kVersion13 - 2 * kWord},
                                       {12, kVersion13},
                                       {13, kVersion13 - kWord},
                                       {14, kVersion13},
                                       {14, kVersion16},  // Linux 6.14.0
                                       {15, kVersion16},
                                       {16, kVersion13},
                                       {0, kVersion13},
                                       {13, 0},
                                       {13, 1}}) {
    const auto task = DecodeTaskStats(Struct(version, bytes));
    ASSERT_FALSE(task) << version << " " << bytes;
    EXPECT_EQ(task.error().kind, ErrorKind::kMalformed);
  }
}

TEST(TaskstatsTest, DecodesTheEndOfATask) {
  const auto end = DecodeTaskEnd(OfTask(Struct(16, kVersion16)));
  ASSERT_TRUE(end) << end.error().ToString();
  EXPECT_EQ(end->task.copied_pages, 1234U);
  EXPECT_FALSE(end->process_copied_pages);
}

TEST(TaskstatsTest, DecodesTheEndOfAProcess) {
  taskstats whole{};  // the kernel fills in only sums
  whole.wpcopy_count = 5000;
  const auto end = DecodeTaskEnd(OfTask(Struct(16, kVersion16)) + OfProcess(Struct(0, kVersion16, whole)));
  ASSERT_TRUE(end) << end.error().ToString();
  EXPECT_EQ(end->task.copied_pages, 1234U);
  EXPECT_EQ(end->process_copied_pages, 5000U);
}

TEST(TaskstatsTest, NonsenseIsMalformed) {
  const Bytes good = OfTask(Struct(13, kVersion13));
  for (const Bytes& bad :
       {Bytes{}, Bytes(3), Attribute(TASKSTATS_TYPE_PID, Number(1)), OfProcess(Struct(13, kVersion13)),
        OfTask(Struct(12, kVersion13)), Attribute(TASKSTATS_TYPE_AGGR_PID, {}), good + OfProcess(Struct(13, 8)),
        good + Attribute(TASKSTATS_TYPE_AGGR_TGID, {})}) {
    const auto end = DecodeTaskEnd(bad);
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().kind, ErrorKind::kMalformed);
  }
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_FALSE(DecodeTaskEnd(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(bytes)))) << bytes;
  }
}

TEST(TaskstatsTest, OtherSystemsTreeIsRefused) {
  const test::FixtureTree tree;
  tree.MakeDirectory("self");
  EXPECT_FALSE(OpenTaskstats(procfs::Root(tree.path())));
  tree.Remove("self");
  tree.Symlink("self", "1");
  EXPECT_FALSE(OpenTaskstats(procfs::Root(tree.path())));
}

std::string WhyNot(const Error& error) {
  return error.kind == ErrorKind::kDenied ? test::MissingPrivilege(test::kTaskReports) : error.ToString();
}

// Starts a child that ends at once. Returns its PID after reaping it.
pid_t EndChild() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  return child;
}

TEST(TaskstatsTest, ThisKernelAnswersAndReports) {
  const auto stats = OpenTaskstats(procfs::Root());
  if (!stats) GTEST_SKIP() << WhyNot(stats.error());
  EXPECT_TRUE((*stats)->CopiedPages(getpid()));
  const auto self = (*stats)->FirstThread(getpid());
  ASSERT_TRUE(self);
  EXPECT_EQ(self->process, getpid());
  EXPECT_EQ(self->parent, getppid());
  EXPECT_NE(self->executable.inode, 0U);
  constexpr pid_t kNobody = 1 << 22;  // the kernel's limit, above every pid
  EXPECT_EQ((*stats)->CopiedPages(kNobody).error().kind, ErrorKind::kGone);
  EXPECT_EQ((*stats)->FirstThread(kNobody).error().kind, ErrorKind::kGone);

  const pid_t child = EndChild();
  std::vector<TaskEnd> ends;
  (*stats)->TakeEnds(ends);
  const auto end =
      std::find_if(ends.begin(), ends.end(), [child](const TaskEnd& each) { return each.task.process == child; });
  ASSERT_NE(end, ends.end());
  EXPECT_EQ(end->task.pid, child);
  EXPECT_EQ(end->task.parent, getpid());
  EXPECT_TRUE(end->task.forked_only && end->task.last_thread);
  EXPECT_EQ(end->task.executable, self->executable);
  EXPECT_GE(end->task.begin_seconds + 1, self->begin_seconds);
  EXPECT_EQ((*stats)->lost(), 0U);
}

// A collector that is switched off and on again uses the same sockets.
TEST(TaskstatsTest, SocketsCanBeUsedAgain) {
  const auto sockets = OpenTaskstatsSockets();
  const auto ends_of = [](Taskstats& stats, pid_t child) {
    std::vector<TaskEnd> ends;
    stats.TakeEnds(ends);
    return std::count_if(ends.begin(), ends.end(), [child](const TaskEnd& end) { return end.task.process == child; });
  };
  for (int i = 0; i < 3; ++i) {
    // A small buffer overflows before the sockets are used again.
    auto stats = OpenTaskstats(procfs::Root(), sockets, 64 << 10);
    if (!stats) GTEST_SKIP() << WhyNot(stats.error());
    EXPECT_EQ(ends_of(**stats, EndChild()), 1);
    EXPECT_TRUE((*stats)->CopiedPages(getpid()));
    EXPECT_EQ((*stats)->lost(), 0U);
    for (int j = 0; j < 300; ++j) EndChild();
  }
}

// The bytes in the buffers of this process's generic netlink sockets. libnl puts the PID into the sockets' numbers.
uint64_t QueuedBytes() {
  constexpr uint64_t kPidMask = (1U << 22U) - 1;
  uint64_t queued = 0;
  std::ifstream file("/proc/net/netlink");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string address;
    std::string groups;
    uint64_t protocol = 0;
    uint64_t number = 0;
    uint64_t bytes = 0;
    if (!(fields >> address >> protocol >> number >> groups >> bytes)) continue;
    if (protocol == NETLINK_GENERIC && (number & kPidMask) == static_cast<uint64_t>(getpid())) queued += bytes;
  }
  return queued;
}

TEST(TaskstatsTest, ReportsEndWithTheirReader) {
  const auto sockets = OpenTaskstatsSockets();
  auto stats = OpenTaskstats(procfs::Root(), sockets);
  if (!stats) GTEST_SKIP() << WhyNot(stats.error());
  EndChild();
  EXPECT_GT(QueuedBytes(), 0U);
  stats = tl::unexpected(Error());
  EXPECT_EQ(QueuedBytes(), 0U);
  EndChild();
  EXPECT_EQ(QueuedBytes(), 0U);
}

// The kernel accepts a listener in another network namespace but never sends it a report.
TEST(TaskstatsTest, OtherNetworkNamespaceIsRefused) {
  if (const auto here = OpenTaskstats(procfs::Root()); !here) GTEST_SKIP() << WhyNot(here.error());
  bool other = false;
  Result<std::unique_ptr<Taskstats>> stats;
  std::thread([&] {
    other = unshare(CLONE_NEWNET) == 0;
    if (other) stats = OpenTaskstats(procfs::Root());
  }).join();
  if (!other) GTEST_SKIP() << test::MissingPrivilege(test::kNetworkNamespace);
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().kind, ErrorKind::kGone);
}

// The kernel drops reports beyond its buffer and counts them.
TEST(TaskstatsTest, LostReportsAreCounted) {
  constexpr uint64_t kChildren = 1000;
  const auto stats = OpenTaskstats(procfs::Root(), OpenTaskstatsSockets(), 64 << 10);
  if (!stats) GTEST_SKIP() << WhyNot(stats.error());
  for (uint64_t i = 0; i < kChildren; ++i) EndChild();
  std::vector<TaskEnd> ends;
  (*stats)->TakeEnds(ends);
  const auto is_ours = [](const TaskEnd& end) { return end.task.parent == getpid() && end.task.last_thread; };
  const auto ours = static_cast<uint64_t>(std::count_if(ends.begin(), ends.end(), is_ours));
  EXPECT_GT(ours, 0U);
  EXPECT_GT((*stats)->lost(), 0U);
  EXPECT_GE(ours + (*stats)->lost(), kChildren);  // the lost reports include those of other processes

  // Later reports arrive again.
  EndChild();
  ends.clear();
  (*stats)->TakeEnds(ends);
  EXPECT_EQ(std::count_if(ends.begin(), ends.end(), is_ours), 1);
}

}  // namespace
}  // namespace cow::netlink
