// An engine that watches this host, and a workload in a group of its own for it to look at. Values are exact: the
// workload's test memory is in mappings whose kind nothing else of it writes to.
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

// The values of one group after a pass, with those that belong to no group.
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

// What changed between two passes.
class Change {
 public:
  Change(const Sample& before, const Sample& after) : before_(before), after_(after) {}
  double Of(const std::string& series) const { return after_.At(series) - before_.At(series); }
  bool Has(const std::string& series) const { return before_.Has(series) && after_.Has(series); }
  double Pages(const std::string& series) const { return Of(series) / static_cast<double>(PageBytes()); }
  double BreaksOfAllSides() const { return after_.BreaksOfAllSides() - before_.BreaksOfAllSides(); }
  // Of all causes.
  double UnsharedPages() const;

 private:
  const Sample& before_;
  const Sample& after_;
};

// Series that most tests ask for.
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

// Every pass reads everything, unless the environment's COW_LIVE_FULL_EVERY_MINUTES says otherwise.
std::chrono::minutes DefaultFullEvery();

// The program's own choice of collectors.
collectors::EngineOptions DefaultOptions(std::chrono::minutes full_every = DefaultFullEvery(),
                                         const std::vector<std::string>& more = {});

class LiveTest : public ::testing::Test {
 protected:
  // `more` are collectors besides those that are on by default.
  explicit LiveTest(std::chrono::minutes full_every = DefaultFullEvery(), const std::vector<std::string>& more = {},
                    procfs::Root root = procfs::Root());
  void SetUp() override;

  // A pass over the host; the values of the workload's group, or of another. Expects that all of the group was read,
  // unless told otherwise.
  Sample Pass() { return Pass(group_); }
  Sample Pass(std::string_view group) { return PassOf(engine_, group); }
  Sample PassOf(collectors::Engine& engine, std::string_view group) const;
  void AllowUnread() { all_is_read_ = false; }
  // The same where the pass may fail, in two steps: false if it was not completed.
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
  // Has the member dirty what any command dirties, so that it is dirty before the test's sample: its stack a few pages
  // deep (the depth at which a page ends is random), and libc's data.
  void Idle(int id) { workload_->Do("stack " + std::to_string(id) + " " + std::to_string(kIdleStackPages)); }
  // A mapping of the root, written to, and a child that shares it; both have executed a command since.
  int ForkOver(const std::string& name, size_t pages, std::string_view kind = "nohuge");
  int ForkWarm(int parent = testing::Workload::kRoot);
  void Write(int id, std::string_view name, size_t first, size_t pages);
  const std::string& group() const { return group_; }

 private:
  bool all_is_read_ = true;
  std::string group_;
  std::unique_ptr<testing::Workload> workload_;
  collectors::Engine engine_;
};

// Neither a break nor anything unshared or unattributed.
void ExpectNoVerdict(const Change& change);

// What a probe found the kernel to lack. tests/run accepts a test that skips for such a reason wherever it runs.
std::string KernelLacks(std::string_view feature);
// Why transparent huge pages can't be had on request; empty if they can.
std::string WhyNoHugePages();
// Empty if a page that is read before it is written is the zero page.
std::string WhyNoZeroPage();
// Empty if a huge page that is read before it is written is the huge zero page.
std::string WhyNoHugeZeroPage();
// Why populated ranges can't be asked for; empty if they can.
std::string WhyNoPagemapScan(const Sample& sample);

// ---- The kernel's own account, read page by page.

struct Area {
  uint64_t start = 0;
  uint64_t end = 0;
  std::string permissions;
};
// The mappings of a process, without [vsyscall].
std::vector<Area> ReadAreas(pid_t pid);

// The frame of the base zero page; procfs::kNoZeroPage where each page that is read gets a frame of its own.
uint64_t ZeroPageFrame();
// The frame of a present anonymous page, the zero page's too; 0 for everything else.
uint64_t AnonymousFrame(uint64_t entry);
// Swapped out or migrating.
bool IsAway(uint64_t entry);

// Pages of a range of a process' memory as pagemap shows them, less the soft-dirty bit.
std::vector<uint64_t> ReadPagemap(pid_t pid, uint64_t address, size_t pages);

struct AnonymousMemory {
  uint64_t private_pages = 0;  // process view
  uint64_t shared_pages = 0;
  uint64_t exposure_pages = 0;
  uint64_t footprint_pages = 0;
};
// Of processes that sleep, from all their page-table entries.
AnonymousMemory CountAnonymousMemory(const std::vector<pid_t>& pids);

// The sum of a field of smaps over the private mappings of a process, in bytes.
uint64_t SumOfSmaps(pid_t pid, std::string_view field);

}  // namespace cow::live
