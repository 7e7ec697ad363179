// Branches of a family fork, write, exec and end as fast as they can while passes run back to back.
//
// COW_STORM_SECONDS sets the duration.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/live/live.h"

namespace cow::live {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBranches = 3;
constexpr size_t kPages = 600;
constexpr double kOtherLedgerBytes = 1 << 17;  // families of other processes
constexpr int kDepth = 3;                      // generations below the first process of a branch
constexpr int kChildren = 2;                   // of one process at a time

std::chrono::seconds Duration() {
  const char* seconds = std::getenv("COW_STORM_SECONDS");  // NOLINT(concurrency-mt-unsafe): one thread
  return std::chrono::seconds(seconds == nullptr ? 5 : std::stoi(seconds));
}

// Shared by all processes of the storm.
struct Weather {
  std::atomic<bool> stormy = true;
  std::atomic<uint64_t> forks = 0;
  std::atomic<int> calm_roots = 0;
};

uint32_t Next(uint32_t& state) {
  state = state * 1664525U + 1013904223U;
  return state >> 8U;
}

void WriteSome(volatile char* memory, size_t page_bytes, uint32_t& random) {
  const size_t first = Next(random) % kPages;
  const size_t count = Next(random) % 64;
  for (size_t page = first; page < first + count && page < kPages; ++page) memory[page * page_bytes] = 1;
}

// Forks, writes and reaps until the calm. A child ends earlier, by exit, exec or a signal. Nothing here allocates.
void Rage(Weather& weather, char* memory, size_t page_bytes, int depth, uint32_t random) {
  int children = 0;
  for (uint32_t round = 0; weather.stormy && (depth == 0 || round < 8); ++round) {
    WriteSome(memory, page_bytes, random);
    if (depth < kDepth) {
      const uint32_t seed = Next(random);
      const pid_t child = fork();
      if (child == 0) {
        Rage(weather, memory, page_bytes, depth + 1, seed);
        if (seed % 4 == 0) execl("/bin/true", "true", nullptr);
        if (seed % 4 == 1) kill(getpid(), SIGKILL);
        _exit(0);
      }
      if (child > 0) {
        ++weather.forks;
        ++children;
      }
    }
    if (Next(random) % 8 == 0) madvise(memory + Next(random) % kPages / 2 * page_bytes, 8 * page_bytes, MADV_DONTNEED);
    while (waitpid(-1, nullptr, children < kChildren ? WNOHANG : 0) > 0) --children;
  }
  while (waitpid(-1, nullptr, 0) > 0) {
  }
}

class StormTest : public LiveTest {
 protected:
  StormTest() {
    AllowUnread();
    void* shared = mmap(nullptr, sizeof(Weather), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) throw std::runtime_error("mmap");
    weather_ = new (shared) Weather;
  }
  ~StormTest() override {
    Calm();
    for (const pid_t root : roots_) {
      kill(root, SIGKILL);
      waitpid(root, nullptr, 0);
    }
    munmap(weather_, sizeof(Weather));
  }

  // Starts a branch of this test's own family; the test is its root.
  void StartBranch(size_t branch) {
    const size_t page_bytes = PageBytes();
    const pid_t root = fork();
    if (root == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      void* memory = mmap(nullptr, kPages * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) _exit(1);
      Rage(*weather_, static_cast<char*>(memory), page_bytes, 0, static_cast<uint32_t>(branch) + 1);
      ++weather_->calm_roots;
      for (;;) pause();
    }
    roots_.push_back(root);
  }

  void Calm() {
    weather_->stormy = false;
    for (int i = 0; i < 20000 && weather_->calm_roots < static_cast<int>(roots_.size()); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  Weather* weather_ = nullptr;
  std::vector<pid_t> roots_;
};

// Returns the number of open page tables of ended processes.
size_t LeftOpen() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    const size_t file = target.find("/pagemap");
    if (file == std::string::npos) continue;
    if (!std::filesystem::exists(target.substr(0, file), error)) ++count;
  }
  return count;
}

TEST_F(StormTest, NothingIsLostInAStormOfForksAndExits) {
  // A name, and so a group, that no other run of these tests uses.
  const std::string group = std::string("storm").append(std::to_string(getpid()));
  prctl(PR_SET_NAME, group.c_str());
  Pass(group);
  const Sample before = Pass(group);
  for (size_t branch = 0; branch < kBranches; ++branch) StartBranch(branch);
  Sample last = Pass(group);
  uint64_t passes = 0;
  uint64_t unread = 0;
  for (const auto end = Clock::now() + Duration(); Clock::now() < end; ++passes) {
    const Sample now = Pass(group);
    for (const auto& [series, value] : last.values()) {
      const std::string name = series.substr(0, series.find('{'));
      if (!name.ends_with("_total") && !name.ends_with("_count") && !name.ends_with("_sum")) continue;
      ASSERT_TRUE(now.Has(series)) << series;
      ASSERT_GE(now.At(series), value) << series;
    }
    ASSERT_GE(now.At("cow_scan_coverage_ratio"), 0);
    ASSERT_LE(now.At("cow_scan_coverage_ratio"), 1);
    ASSERT_GE(now.At(kExposure), 0);
    ASSERT_GE(now.At("cow_footprint_bytes"), 0);
    ASSERT_GE(now.At("cow_shared_bytes"), 0);
    unread += now.At("cow_unread_processes{reason=gone}") > 0 ? 1U : 0U;
    last = now;
  }
  Calm();
  ASSERT_EQ(weather_->calm_roots, static_cast<int>(roots_.size()));
  Pass(group);
  Pass(group);
  const Sample settled = Pass(group);
  const Sample quiet = Pass(group);
  const Change change(settled, quiet);
  EXPECT_EQ(quiet.At("cow_unread_processes{reason=gone}"), 0);
  EXPECT_EQ(quiet.At("cow_scan_coverage_ratio"), 1);
  EXPECT_EQ(change.Of(Unshared("exit")), 0);
  EXPECT_LE(Change(before, quiet).Of("cow_forks_total"), static_cast<double>(weather_->forks + kBranches));
  EXPECT_GE(Change(before, quiet).Of("cow_forks_total"), static_cast<double>(kBranches));
  // The roots sleep. This process does not, but its own pages are not shared with them.
  std::vector<pid_t> family = roots_;
  family.push_back(getpid());
  EXPECT_EQ(quiet.At("cow_processes"), static_cast<double>(family.size()));
  EXPECT_NEAR(quiet.Pages(kExposure), static_cast<double>(CountAnonymousMemory(family).exposure_pages), 200);
  for (const pid_t root : roots_) {
    kill(root, SIGKILL);
    waitpid(root, nullptr, 0);
  }
  const uint64_t forks = weather_->forks;
  roots_.clear();
  Pass(group);
  const Sample after = Pass(group);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(after.At("cow_families"), 0);
  EXPECT_LE(after.At("cow_ledger_bytes"), before.At("cow_ledger_bytes") + kOtherLedgerBytes);
  EXPECT_EQ(LeftOpen(), 0U);
  std::printf("%lu passes, %lu with a process that ended in it, %lu forks, %.0f of them seen\n", passes, unread, forks,
              Change(before, after).Of("cow_forks_total"));
}

}  // namespace
}  // namespace cow::live
