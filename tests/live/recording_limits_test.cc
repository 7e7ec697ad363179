// Limits and missing rights: each has its own message, and nothing is dropped silently.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "collectors/procfs/root.h"
#include "tests/live/recording.h"
#include "tests/support/privileges.h"

namespace cow::test {
namespace {

using faults::FaultRecord;
using faults::FaultRecorder;
using Steps = ChildProcess::Steps;

constexpr uid_t kNobody = 65534;

int ParanoidLevel() {
  int level = 9;
  std::ifstream("/proc/sys/kernel/perf_event_paranoid") >> level;
  return level;
}

// Makes perf_event_open fail in this process.
bool RefuseCall(int error_number) {
  std::array<sock_filter, 4> program{{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_perf_event_open},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error_number)},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  }};
  const sock_fprog filter{static_cast<uint16_t>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Returns 0 if opening fails with an error that has this kind and these words.
int ExpectRefusal(ErrorKind kind, std::string_view words) {
  const auto recorder = FaultRecorder::Open(procfs::Root(), {});
  if (recorder) return 2;
  const std::string message = recorder.error().ToString();
  const bool told = recorder.error().kind == kind && message.find(words) != std::string::npos;
  if (!told) fprintf(stderr, "%s\n", message.c_str());
  return told ? 0 : 3;
}

TEST_F(RecordingTest, ProcessesThatDoNotExist) {
  Open();
  ChildProcess child([](const Steps&) { return 0; });
  child.Reap();
  const auto added = recorder().Add(child.pid());
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().kind, ErrorKind::kGone);
}

TEST_F(RecordingTest, EndedProcessesReleaseTheirDescriptors) {
  Open();
  const size_t before = recorder().descriptors();
  ChildProcess child(Sleep);
  ASSERT_TRUE(child.AwaitReport());
  Add(child.pid());
  EXPECT_EQ(recorder().descriptors(), before * 2);
  child.Go();
  child.Reap();
  TakeAll();  // brings the record of the end
  TakeAll();
  EXPECT_EQ(recorder().descriptors(), before);
  EXPECT_EQ(recorder().lost(), 0U);
}

TEST_F(RecordingTest, TooFewDescriptors) {
  const SharedPages memory(10);
  const ChildProcess child([&](const Steps& steps) {
    std::vector<std::thread> threads;
    threads.reserve(3);
    for (int i = 0; i < 3; ++i) threads.emplace_back([] { pause(); });
    steps.Report();
    steps.AwaitGo();
    memory.Write(0, 10);
    steps.Report();
    steps.AwaitGo();
    _exit(0);
    return 0;
  });
  ASSERT_TRUE(child.AwaitReport());
  Open();
  const size_t per_cpu = recorder().descriptors();
  Open({.max_descriptors = 3 * per_cpu});
  const auto added = recorder().Add(child.pid());
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().kind, ErrorKind::kTooLarge);
  EXPECT_NE(added.error().ToString().find("the limit of open files leaves " + std::to_string(3 * per_cpu)),
            std::string::npos)
      << added.error().ToString();
  EXPECT_EQ(recorder().unwatched_threads(), 2U);
  EXPECT_EQ(recorder().descriptors(), 3 * per_cpu);
  child.Go();
  ASSERT_TRUE(child.AwaitReport());
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()), Range(0, 10)) << "the threads that are watched";
}

TEST_F(RecordingTest, RingsAreAsLargeAsAllowed) {
  Open({.ring_bytes = size_t{4} << 20U});
  EXPECT_LE(recorder().ring_bytes(), size_t{4} << 20U);
  EXPECT_GT(recorder().ring_bytes(), size_t{2} << 20U);
}

TEST_F(RecordingTest, WaitsForRingsThatFill) {
  const SharedPages memory(4000);
  ChildProcess child([&](const Steps& steps) {
    steps.Report();
    if (!steps.AwaitGo()) return 1;
    memory.Write(0, 4000);
    return 0;
  });
  ASSERT_TRUE(child.AwaitReport());
  Open({.ring_bytes = size_t{128} << 10U});
  Add(child.pid());
  EXPECT_FALSE(recorder().Wait(std::chrono::milliseconds(1)));
  child.Go();
  EXPECT_TRUE(recorder().Wait(std::chrono::seconds(20)));
  EXPECT_EQ(child.Reap(), 0);
}

TEST_F(RecordingTest, AFilterThatRefusesTheCall) {
  ChildProcess refused([](const Steps&) {
    return RefuseCall(EPERM) ? ExpectRefusal(ErrorKind::kDenied, "despite CAP_SYS_ADMIN: a seccomp filter") : 1;
  });
  EXPECT_EQ(refused.Reap(), 0);
  ChildProcess hidden([](const Steps&) {
    return RefuseCall(ENOSYS) ? ExpectRefusal(ErrorKind::kIo, "or a seccomp filter hides them") : 1;
  });
  EXPECT_EQ(hidden.Reap(), 0);
}

// A user without rights: the user's own processes only, without the kernel's faults, with the rings that are allowed.
TEST_F(RecordingTest, AUserWithoutRights) {
  const SharedPages memory(100);
  const bool allowed = ParanoidLevel() <= 2;
  ChildProcess user([&](const Steps&) {
    if (setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0) return 77;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (!allowed) return ExpectRefusal(ErrorKind::kDenied, "needs CAP_PERFMON or CAP_SYS_ADMIN");
    auto recorder = FaultRecorder::Open(procfs::Root(), {.ring_bytes = size_t{256} << 20U});
    if (!recorder) return 1;
    if (recorder->records_kernel_faults() != (ParanoidLevel() <= 1)) return 2;
    if (recorder->ring_bytes() == 0 || recorder->ring_bytes() > size_t{64} << 20U) return 3;
    const auto other = recorder->Add(1);
    if (other || other.error().kind != ErrorKind::kDenied) return 4;
    const ChildProcess own([&](const Steps& steps) {
      steps.Report();
      if (!steps.AwaitGo()) return 1;
      memory.Write(0, 100);
      steps.Report();
      steps.AwaitGo();
      return 0;
    });
    if (!own.AwaitReport() || !recorder->Add(own.pid()) || !own.Go() || !own.AwaitReport()) return 5;
    std::vector<faults::Record> records;
    recorder->DrainAll(records);
    size_t found = 0;
    for (const auto& record : records) {
      const auto* fault = std::get_if<FaultRecord>(&record);
      if (fault != nullptr && memory.Find(fault->address)) ++found;
    }
    return found == 100 ? 0 : 6;
  });
  const int status = user.Reap();
  if (status == 77) GTEST_SKIP() << MissingPrivilege(kOtherUsers);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace cow::test
