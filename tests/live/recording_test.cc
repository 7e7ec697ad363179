// What a recorder tells about single processes.
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/procfs/stat.h"
#include "tests/live/recording.h"

namespace cow::test {
namespace {

using faults::ExecRecord;
using faults::ExitRecord;
using faults::FaultRecord;
using faults::ForkRecord;
using faults::MapRecord;
using faults::Stacks;
using Steps = ChildProcess::Steps;

// A child that does something each time it may go on, and reports after it.
class Actor {
 public:
  explicit Actor(std::vector<std::function<void()>> acts)
      : child_([acts = std::move(acts)](const Steps& steps) {
          steps.Report();
          for (const auto& act : acts) {
            if (!steps.AwaitGo()) return 1;
            act();
            steps.Report();
          }
          steps.AwaitGo();
          return 0;
        }) {
    EXPECT_TRUE(child_.AwaitReport());
  }

  pid_t pid() const { return child_.pid(); }
  void Act() const {
    ASSERT_TRUE(child_.Go());
    ASSERT_TRUE(child_.AwaitReport());
  }
  void End() {
    child_.Go();
    child_.Reap();
  }

 private:
  ChildProcess child_;
};

void PinTo(size_t cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  sched_setaffinity(0, sizeof(cpus), &cpus);
}

TEST_F(RecordingTest, EveryWriteOfAChild) {
  const SharedPages memory(3000);
  Actor child({[&] { memory.Write(500, 2000); }});
  Open();
  Add(child.pid());
  child.Act();
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()), Range(500, 2000));
  std::vector<uint64_t> writers;
  for (const auto& fault : Of<FaultRecord>(child.pid())) {
    EXPECT_EQ(fault.tid, child.pid());
    if (!memory.Find(fault.address)) continue;
    EXPECT_FALSE(fault.in_kernel);
    EXPECT_TRUE(fault.chain.empty());
    EXPECT_FALSE(fault.stack);
    writers.push_back(fault.ip);
  }
  ASSERT_FALSE(writers.empty());
  Dl_info info{};
  ASSERT_NE(dladdr(reinterpret_cast<void*>(writers.front()), &info), 0);
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe");
  EXPECT_EQ(std::filesystem::path(info.dli_fname).filename(), own.filename()) << "the code of this program";
  EXPECT_EQ(std::count(writers.begin(), writers.end(), writers.front()), 2000) << "one instruction";
  ExpectOrderOfTime();
  EXPECT_EQ(recorder().lost(), 0U);
  EXPECT_EQ(recorder().throttled(), 0U);
}

TEST_F(RecordingTest, OnlyWhatIsWatched) {
  const SharedPages memory(10);
  Actor watched({[&] { memory.Write(0, 5); }});
  Actor other({[&] { memory.Write(5, 5); }});
  Open();
  Add(watched.pid());
  watched.Act();
  other.Act();
  TakeAll();
  EXPECT_EQ(PagesOf(memory, watched.pid()), Range(0, 5));
  EXPECT_TRUE(Of<FaultRecord>(other.pid()).empty());
}

TEST_F(RecordingTest, SystemCallsThatWrite) {
  const SharedPages memory(4);
  Actor child({[&] {
    const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (read(zero, memory.At(2), 1) != 1) _exit(1);
  }});
  Open({.stacks = Stacks::kFramePointers});
  EXPECT_TRUE(recorder().records_kernel_faults());
  Add(child.pid());
  child.Act();
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()), Range(2, 1));
  for (const auto& fault : Of<FaultRecord>(child.pid())) {
    if (!memory.Find(fault.address)) continue;
    EXPECT_TRUE(fault.in_kernel);
    ASSERT_FALSE(fault.chain.empty());
    EXPECT_LT(fault.chain.front(), uint64_t{1} << 63U) << "the code that made the call";
  }
}

TEST_F(RecordingTest, CallChains) {
  const SharedPages memory(20);
  Actor child({[&] { memory.Write(0, 20); }});
  Open({.stacks = Stacks::kFramePointers});
  Add(child.pid());
  child.Act();
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()).size(), 20U);
  for (const auto& fault : Of<FaultRecord>(child.pid())) {
    if (!memory.Find(fault.address)) continue;
    ASSERT_FALSE(fault.chain.empty());
    EXPECT_EQ(fault.chain.front(), fault.ip);
  }
}

TEST_F(RecordingTest, CopiesOfTheStack) {
  const SharedPages memory(20);
  Actor child({[&] { memory.Write(0, 20); }});
  Open({.stacks = Stacks::kDwarf});
  Add(child.pid());
  child.Act();
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()).size(), 20U);
  for (const auto& fault : Of<FaultRecord>(child.pid())) {
    if (!memory.Find(fault.address)) continue;
    ASSERT_TRUE(fault.stack);
#if defined(__x86_64__)
    EXPECT_EQ(fault.stack->registers.at(8), fault.ip);
#else
    EXPECT_EQ(fault.stack->registers.at(32), fault.ip);
#endif
    EXPECT_GT(fault.stack->bytes.size(), 100U);
  }
}

TEST_F(RecordingTest, OneInSixteen) {
  const SharedPages memory(8000);
  Actor child({[] { PinTo(0); }, [&] { memory.Write(0, 8000); }});
  child.Act();
  Open({.one_in = 16});
  Add(child.pid());
  child.Act();
  TakeAll();
  // Other faults of the child are between these.
  EXPECT_NEAR(static_cast<double>(PagesOf(memory, child.pid()).size()), 500, 5);
  EXPECT_EQ(recorder().lost(), 0U);
}

// The kernel's own count of a process' faults equals the records with what was lost.
TEST_F(RecordingTest, NothingIsMissing) {
  const procfs::Root root;
  for (const size_t ring_bytes : {size_t{8} << 20U, size_t{1}}) {
    const SharedPages memory(6000);
    Actor child({[&] { memory.Write(0, 6000); }});
    Open({.ring_bytes = ring_bytes});
    Add(child.pid());
    const auto before = procfs::ReadStat(root, child.pid());
    child.Act();
    const auto after = procfs::ReadStat(root, child.pid());
    ASSERT_TRUE(before && after);
    const size_t earlier = Of<FaultRecord>(child.pid()).size();
    TakeAll();
    EXPECT_EQ(Of<FaultRecord>(child.pid()).size() - earlier + recorder().lost(),
              after->minor_faults - before->minor_faults);
    EXPECT_EQ(recorder().lost() > 0, ring_bytes == 1);
    // What is lost counts once, and later records are complete.
    const uint64_t lost = recorder().lost();
    child.End();
    TakeAll();
    EXPECT_EQ(recorder().lost(), lost);
    EXPECT_EQ(Of<ExitRecord>(child.pid()).size(), 1U);
  }
}

TEST_F(RecordingTest, LibrariesLoadedLater) {
  constexpr const char* kLibrary = "libutil.so.1";
  Actor child({[] {
    if (dlopen(kLibrary, RTLD_NOW) == nullptr) _exit(1);
  }});
  Open();
  Add(child.pid());
  child.Act();
  TakeAll();
  const auto maps = Of<MapRecord>(child.pid());
  const auto library =
      std::find_if(maps.begin(), maps.end(), [&](const MapRecord& map) { return map.path.ends_with(kLibrary); });
  ASSERT_NE(library, maps.end());
  EXPECT_GT(library->length_bytes, 0U);
  if (library->build_id.empty()) {
    struct stat status {};
    ASSERT_EQ(stat(library->path.c_str(), &status), 0);
    EXPECT_EQ(library->inode, status.st_ino);
  } else {
    EXPECT_EQ(library->build_id.size(), 20U);
  }
}

TEST_F(RecordingTest, Programs) {
  const ChildProcess child([](const Steps& steps) {
    steps.Report();
    if (!steps.AwaitGo()) return 1;
    execl("/bin/true", "true", nullptr);
    return 1;
  });
  ASSERT_TRUE(child.AwaitReport());
  Open();
  Add(child.pid());
  child.Go();
  child.AwaitZombie();
  TakeAll();
  const auto execs = Of<ExecRecord>(child.pid());
  ASSERT_EQ(execs.size(), 1U);
  const auto maps = Of<MapRecord>(child.pid());
  EXPECT_TRUE(std::any_of(maps.begin(), maps.end(), [&](const MapRecord& map) {
    return map.path.ends_with("/true") && map.time_ns > execs.front().time_ns;
  }));
  EXPECT_EQ(Of<ExitRecord>(child.pid()).size(), 1U);
}

TEST_F(RecordingTest, ChildrenForkedWhileWatching) {
  const SharedPages memory(300);
  const SharedCounter child;
  const SharedCounter grandchild;
  // Both return to the parent after they and their children have ended.
  const auto fork_and_write = [&](const SharedCounter& made, size_t first, size_t count, const auto& then) {
    const pid_t pid = fork();
    if (pid == 0) {
      memory.Write(first, count);
      then();
      _exit(0);
    }
    *made = static_cast<size_t>(pid);
    waitpid(pid, nullptr, 0);
  };
  Actor parent({[&] { fork_and_write(child, 100, 100, [&] { fork_and_write(grandchild, 0, 300, [] {}); }); }});
  Open();
  Add(parent.pid());
  parent.Act();
  TakeAll();
  const auto child_pid = static_cast<pid_t>(size_t{*child});
  const auto grandchild_pid = static_cast<pid_t>(size_t{*grandchild});
  const auto forks = Of<ForkRecord>(child_pid);
  ASSERT_EQ(forks.size(), 1U);
  EXPECT_EQ(forks.front().tid, child_pid);
  EXPECT_EQ(forks.front().parent, parent.pid());
  EXPECT_FALSE(forks.front().is_thread);
  ASSERT_EQ(Of<ForkRecord>(grandchild_pid).size(), 1U);
  EXPECT_EQ(Of<ForkRecord>(grandchild_pid).front().parent, child_pid);
  EXPECT_EQ(PagesOf(memory, child_pid), Range(100, 100));
  EXPECT_EQ(PagesOf(memory, grandchild_pid), Range(0, 300));
  EXPECT_EQ(Of<ExitRecord>(child_pid).size(), 1U);
  EXPECT_EQ(Of<ExitRecord>(grandchild_pid).size(), 1U);
  ExpectOrderOfTime();
}

TEST_F(RecordingTest, OrderOfTimeAcrossProcessors) {
  const SharedPages memory(20000);
  Actor one({[&] {
    PinTo(0);
    memory.Write(0, 10000);
  }});
  Actor other({[&] {
    PinTo(1);
    memory.Write(10000, 10000);
  }});
  Open();
  Add(one.pid());
  Add(other.pid());
  std::thread first([&] { one.Act(); });
  std::thread second([&] { other.Act(); });
  std::vector<faults::Record> records;
  for (int i = 0; i < 30; ++i) {
    recorder().Drain(records);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  first.join();
  second.join();
  recorder().DrainAll(records);
  EXPECT_GE(records.size(), 20000U);
  EXPECT_TRUE(std::is_sorted(records.begin(), records.end(),
                             [](const auto& a, const auto& b) { return faults::TimeOf(a) < faults::TimeOf(b); }));
}

}  // namespace
}  // namespace cow::test
