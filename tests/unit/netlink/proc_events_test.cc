#include "collectors/netlink/proc_events.h"

#include <gtest/gtest.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/fixture_tree.h"
#include "tests/support/privileges.h"

namespace cow::netlink {
namespace {

using Bytes = std::vector<std::byte>;
using Kind = ProcEvent::Kind;
using What = decltype(proc_event::what);  // older kernel headers declare the enumeration inside of proc_event

Bytes Message(const proc_event& event, uint32_t index = CN_IDX_PROC, uint32_t acknowledged = 0) {
  cn_msg head{};
  head.id = {index, CN_VAL_PROC};
  head.ack = acknowledged;
  head.len = sizeof(event);
  Bytes bytes(sizeof(head) + sizeof(event));
  std::memcpy(bytes.data(), &head, sizeof(head));
  std::memcpy(bytes.data() + sizeof(head), &event, sizeof(event));
  return bytes;
}

proc_event Event(What what) {
  proc_event event{};
  event.what = what;
  return event;
}

std::optional<ProcEvent> Decoded(const proc_event& event) { return DecodeProcMessage(Message(event))->event; }

TEST(ProcMessageTest, ForkOfAProcess) {
  proc_event event = Event(What::PROC_EVENT_FORK);
  event.event_data.fork = {11, 10, 20, 20};
  EXPECT_EQ(Decoded(event), (ProcEvent{Kind::kFork, 20, 10}));
  event.event_data.fork = {11, 10, 21, 20};
  EXPECT_FALSE(Decoded(event)) << "a thread";
}

TEST(ProcMessageTest, ExecIsTheProcessWhicheverThreadDidIt) {
  proc_event event = Event(What::PROC_EVENT_EXEC);
  event.event_data.exec = {21, 20};
  EXPECT_EQ(Decoded(event), (ProcEvent{Kind::kExec, 20, 0}));
}

TEST(ProcMessageTest, ExitOfALeader) {
  proc_event event = Event(What::PROC_EVENT_EXIT);
  event.event_data.exit.process_pid = 20;
  event.event_data.exit.process_tgid = 20;
  EXPECT_EQ(Decoded(event), (ProcEvent{Kind::kExit, 20, 0}));
  event.event_data.exit.process_pid = 21;
  EXPECT_FALSE(Decoded(event));
}

TEST(ProcMessageTest, AnswerHasItsRequest) {
  proc_event event = Event(What::PROC_EVENT_NONE);
  event.event_data.ack.err = EPERM;
  const auto message = DecodeProcMessage(Message(event, CN_IDX_PROC, 8));
  ASSERT_TRUE(message && message->answer);
  EXPECT_EQ(message->answer->request, 7U);
  EXPECT_EQ(message->answer->error_number, EPERM);
  EXPECT_FALSE(message->event);
}

TEST(ProcMessageTest, OthersAreNothing) {
  EXPECT_FALSE(Decoded(Event(What::PROC_EVENT_COMM)));
  proc_event event = Event(What::PROC_EVENT_FORK);
  event.event_data.fork = {11, 10, 20, 20};
  const auto message = DecodeProcMessage(Message(event, CN_IDX_PROC + 1));
  ASSERT_TRUE(message);
  EXPECT_FALSE(message->event);
}

TEST(ProcMessageTest, CutShortIsMalformed) {
  const Bytes whole = Message(Event(What::PROC_EVENT_FORK));
  for (size_t bytes = 0; bytes < sizeof(cn_msg) + 32; ++bytes) {
    const auto message = DecodeProcMessage(std::span(whole).first(bytes));
    ASSERT_FALSE(message) << bytes;
    EXPECT_EQ(message.error().kind, ErrorKind::kMalformed);
  }
  EXPECT_TRUE(DecodeProcMessage(std::span(whole).first(sizeof(cn_msg) + 32)));
}

TEST(ProcEventsTest, AnotherSystemsProcfsIsRefused) {
  const test::FixtureTree tree;
  tree.Symlink("proc/self", "1");
  const auto events = OpenProcEvents(procfs::Root(tree.Path("proc")));
  ASSERT_FALSE(events);
  EXPECT_EQ(events.error().kind, ErrorKind::kIo);
}

class LiveProcEventsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = OpenProcEvents(procfs::Root());
    if (!opened) {
      if (opened.error().kind != ErrorKind::kDenied) GTEST_SKIP() << opened.error().ToString();
      GTEST_SKIP() << test::MissingPrivilege(test::kForkEvents);
    }
    events_ = std::move(*opened);
  }

  static pid_t ForkAndReap(const char* program) {
    const pid_t pid = fork();
    if (pid == 0) {
      if (program != nullptr) execl(program, program, nullptr);
      _exit(0);
    }
    waitpid(pid, nullptr, 0);
    return pid;
  }

  std::vector<Kind> KindsOf(const std::vector<ProcEvent>& events, pid_t process) const {
    std::vector<Kind> kinds;
    for (const ProcEvent& event : events) {
      if (event.process == process) kinds.push_back(event.kind);
    }
    return kinds;
  }

  std::unique_ptr<ProcEvents> events_;
};

TEST_F(LiveProcEventsTest, TellsOfTheLifeOfAProcess) {
  const pid_t plain = ForkAndReap(nullptr);
  const pid_t program = ForkAndReap("/bin/true");
  std::thread([] {}).join();
  std::vector<ProcEvent> events;
  ASSERT_TRUE(events_->Take(events));
  EXPECT_EQ(KindsOf(events, plain), (std::vector<Kind>{Kind::kFork, Kind::kExit}));
  EXPECT_EQ(KindsOf(events, program), (std::vector<Kind>{Kind::kFork, Kind::kExec, Kind::kExit}));
  EXPECT_TRUE(KindsOf(events, getpid()).empty()) << "threads are nothing";
}

TEST_F(LiveProcEventsTest, SaysThatSomeWereLost) {
  events_.reset();
  auto small = OpenProcEvents(procfs::Root(), 4096);
  ASSERT_TRUE(small);
  for (int i = 0; i < 100; ++i) ForkAndReap(nullptr);
  std::vector<ProcEvent> events;
  EXPECT_FALSE((*small)->Take(events));
  EXPECT_LT(events.size(), 200U);
  // Later events still arrive.
  events.clear();
  const pid_t next = ForkAndReap(nullptr);
  EXPECT_TRUE((*small)->Take(events));
  EXPECT_EQ(KindsOf(events, next).size(), 2U);
}

// A sanitizer's allocator ends a process that runs out of memory, so this test can't run under it.
#ifndef COW_SANITIZED
// Allocates all remaining memory, down to small pieces.
void UseUpMemory() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_AS, &none);
  for (size_t bytes = size_t{1} << 20U; bytes >= 16; bytes /= 2) {
    void* volatile piece = nullptr;
    do {
      piece = std::malloc(bytes);  // NOLINT: leaked on purpose
    } while (piece != nullptr);
  }
}

TEST_F(LiveProcEventsTest, EndsWithoutMemory) {
  std::vector<ProcEvent> taken;
  taken.reserve(1);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(10);
    UseUpMemory();
    _exit(events_->Take(taken) ? 1 : 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}
#endif

// Another network namespace has no proc connector.
TEST_F(LiveProcEventsTest, AbsenceIsTold) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (unshare(CLONE_NEWNET) != 0) _exit(2);
    const auto events = OpenProcEvents(procfs::Root());
    _exit(events ? 1 : (events.error().kind == ErrorKind::kIo ? 3 : 0));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) GTEST_SKIP() << test::MissingPrivilege(test::kNetworkNamespace);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace cow::netlink
