// An engine that watches this host, and a workload in its own group. Values are exact: the workload writes to no other
// memory in mappings of the same kind as its test memory.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/procfs/root.h"
#include "tests/support/declared.h"
#include "tests/support/workload.h"

namespace cow::live {

uint64_t PageBytes();
uint64_t HugePageBytes();

// The values of one group after a pass, and those without a group.
class Sample {
 public:
  Sample() = default;
  Sample(const std::vector<prometheus::MetricFamily>& families, std::string_view group);

  // `series` is name{label=value,…}, labels by name and without the group. Throws if there is none.
  double At(const std::string& series) const;
  bool Has(const std::string& series) const { return values_.contains(series); }
  double Pages(const std::string& series) const { return At(series) / static_cast<double>(PageBytes()); }
  double BreaksOfAllSides() const;
  const std::map<std::string, double>& values() const { return values_; }

 private:
  std::map<std::string, double> values_;
};

// The change between two passes.
class Change {
 public:
  Change(const Sample& before, const Sample& after) : before_(before), after_(after) {}
  double Of(const std::string& series) const { return after_.At(series) - before_.At(series); }
  bool Has(const std::string& series) const { return before_.Has(series) && after_.Has(series); }
  double Pages(const std::string& series) const { return Of(series) / static_cast<double>(PageBytes()); }
  double BreaksOfAllSides() const { return after_.BreaksOfAllSides() - before_.BreaksOfAllSides(); }
  // Sums all causes.
  double UnsharedPages() const;

 private:
  const Sample& before_;
  const Sample& after_;
};

// Series that most tests use.
inline constexpr const char* kParentBreaks = "cow_breaks_total{side=parent}";
inline constexpr const char* kChildBreaks = "cow_breaks_total{side=child}";
inline constexpr const char* kUnknownBreaks = "cow_breaks_total{side=unknown}";
inline constexpr const char* kAnonBreaks = "cow_break_bytes_total{mapping=anon}";
inline constexpr const char* kExposure = "cow_exposure_bytes";
inline constexpr const char* kUnattributed = "cow_unattributed_bytes_total";
inline constexpr const char* kUnresolved = "cow_unresolved_bytes";
inline constexpr const char* kUnmatched = "cow_unmatched_shared_bytes";
inline constexpr const char* kFootprint = "cow_footprint_bytes";

std::string Unshared(std::string_view cause);

constexpr int kIdleStackPages = 4;

// Every pass reads everything by default; COW_LIVE_FULL_EVERY_MINUTES changes that.
std::chrono::minutes DefaultFullEvery();

// The collectors that the program enables by default.
collectors::EngineOptions DefaultOptions(std::chrono::minutes full_every = DefaultFullEvery(),
                                         const std::vector<std::string>& more = {});

class LiveTest : public ::testing::Test {
 protected:
  // `more`: collectors besides the default ones.
  explicit LiveTest(std::chrono::minutes full_every = DefaultFullEvery(), const std::vector<std::string>& more = {},
                    procfs::Root root = procfs::Root());
  void SetUp() override;

  // Runs a pass over the host and returns the values of the workload's group or of another. Expects that all of the
  // group was read, unless AllowUnread was called.
  Sample Pass() { return Pass(group_); }
  Sample Pass(std::string_view group) { return PassOf(engine_, group); }
  Sample PassOf(collectors::Engine& engine, std::string_view group) const;
  void AllowUnread() { all_is_read_ = false; }
  // Likewise in two steps, for a pass that may fail: false if it was not completed.
  bool TryPass();
  bool TryPass(collectors::PassControl& control) { return engine_.RunPass(control); }
  Sample Collect(std::string_view group) const { return Collect(engine_, group); }
  static Sample Collect(const collectors::Engine& engine, std::string_view group) {
    return {test::CollectDeclared(engine), group};
  }
  // Starts a workload in a group of this name; it is not in the baseline once a pass was made.
  static std::unique_ptr<testing::Workload> StartWorkload(const std::string& group);

  testing::Workload& workload() { return *workload_; }
  void Do(std::string_view command) { workload_->Do(command); }
  int Fork(int id = testing::Workload::kRoot) { return workload_->Fork(id).id; }
  // Makes the member dirty what every command dirties before the test's sample: its stack a few pages deep (the depth
  // at which a page ends is random), and libc's data.
  void Idle(int id) { workload_->Do("stack " + std::to_string(id) + " " + std::to_string(kIdleStackPages)); }
  // Maps memory of the root, writes to it and forks a child; both have executed a command since.
  int ForkOver(const std::string& name, size_t pages, std::string_view kind = "nohuge");
  int ForkWarm(int parent = testing::Workload::kRoot);
  void Write(int id, std::string_view name, size_t first, size_t pages);
  // Compares the kernel's sums of both members with the published values.
  void ExpectKernelsAccount(const Sample& sample, int child);
  const std::string& group() const { return group_; }

 private:
  bool all_is_read_ = true;
  std::string group_;
  std::unique_ptr<testing::Workload> workload_;
  collectors::Engine engine_;
};

// Expects no break and no unshared or unattributed pages.
void ExpectNoVerdict(const Change& change);

// The skip message for a feature that a probe found missing. tests/run accepts a test that skips for this reason.
std::string KernelLacks(std::string_view feature);
// Why transparent huge pages are not available on request; empty if they are.
std::string WhyNoHugePages();
// Empty if a page that is read before it is written is the zero page.
std::string WhyNoZeroPage();
// Empty if a huge page that is read before it is written is the huge zero page.
std::string WhyNoHugeZeroPage();
// Why PAGEMAP_SCAN is not available; empty if it is.
std::string WhyNoPagemapScan(const Sample& sample);

// ---- The kernel's own account, read page by page.

struct Area {
  uint64_t start = 0;
  uint64_t end = 0;
  std::string permissions;
};
// Returns the mappings of a process without [vsyscall].
std::vector<Area> ReadAreas(pid_t pid);

// Returns the frame of the base zero page; procfs::kNoZeroPage if each page that is only read gets its own frame.
uint64_t ZeroPageFrame();
// Returns the frame of a present anonymous page or zero page; 0 for all other entries.
uint64_t AnonymousFrame(uint64_t entry);
// True if the entry is swapped out or migrating.
bool IsAway(uint64_t entry);

// Returns the pagemap entries of a range of a process' memory without the soft-dirty bit.
std::vector<uint64_t> ReadPagemap(pid_t pid, uint64_t address, size_t pages);

struct AnonymousMemory {
  uint64_t private_pages = 0;  // process view
  uint64_t shared_pages = 0;
  uint64_t exposure_pages = 0;
  uint64_t footprint_pages = 0;
};
// Adds up the page-table entries of sleeping processes.
AnonymousMemory CountAnonymousMemory(const std::vector<pid_t>& pids);

// Returns the sum of a field of smaps over the private mappings of a process, in bytes.
uint64_t SumOfSmaps(pid_t pid, std::string_view field);

}  // namespace cow::live
