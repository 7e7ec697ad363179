#include "collectors/engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "collectors/collector.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace cow::collectors {
namespace {

using test::Labels;

constexpr uint64_t kHeap = 0x10000000;
constexpr uint64_t kAnon = 0x20000000;
constexpr uint64_t kLibrary = 0x30000000;
constexpr double kPage = 4096;

class EngineTest : public testing::Test {
 protected:
  void Start(EngineOptions options = {}) {
    if (options.collectors.empty()) {
      for (const CollectorInfo& info : AvailableCollectors()) options.collectors.emplace_back(info.name);
    }
    host_.Sync();
    engine_ = std::make_unique<Engine>(host_.Root(), std::move(options));
  }
  void Pass() {
    host_.Sync();
    test::NoControl control;
    ASSERT_TRUE(engine_->RunPass(control));
    families_ = test::CollectDeclared(*engine_);
  }

  const prometheus::MetricFamily* Find(const std::string& name) const {
    const auto found = std::find_if(families_.begin(), families_.end(),
                                    [&name](const prometheus::MetricFamily& family) { return family.name == name; });
    return found == families_.end() ? nullptr : &*found;
  }
  static Labels LabelsOf(const prometheus::ClientMetric& metric) {
    Labels labels;
    for (const auto& label : metric.label) labels[label.name] = label.value;
    return labels;
  }
  const prometheus::ClientMetric* FindSeries(const std::string& name, const Labels& labels) const {
    const prometheus::MetricFamily* family = Find(name);
    if (family == nullptr) return nullptr;
    for (const prometheus::ClientMetric& metric : family->metric) {
      if (LabelsOf(metric) == labels) return &metric;
    }
    return nullptr;
  }
  std::optional<double> Value(const std::string& name, const Labels& labels) const {
    const prometheus::ClientMetric* series = FindSeries(name, labels);
    if (series == nullptr) return std::nullopt;
    return Find(name)->type == prometheus::MetricType::Counter ? series->counter.value : series->gauge.value;
  }
  // Values of group "app", the name of the fixture processes.
  std::optional<double> App(const std::string& name, Labels labels = {}) const {
    labels["group"] = "app";
    return Value(name, labels);
  }
  std::optional<double> AppPages(const std::string& name, Labels labels = {}) const {
    const std::optional<double> value = App(name, std::move(labels));
    return value ? std::optional(*value / kPage) : std::nullopt;
  }
  size_t SeriesCount(const std::string& name) const {
    const prometheus::MetricFamily* family = Find(name);
    return family == nullptr ? 0 : family->metric.size();
  }

  // Adds a parent with eight heap pages, shared with a child that exists from the start.
  void AddPair() {
    host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    host_.Fork(100, 101);
  }

  test::FixtureHost host_;
  std::unique_ptr<Engine> engine_;
  std::vector<prometheus::MetricFamily> families_;
};

TEST_F(EngineTest, PairSharesEverything) {
  AddPair();
  Start();
  Pass();
  EXPECT_EQ(App("cow_processes"), 2);
  EXPECT_EQ(App("cow_families"), 1);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "shared"}}), 16);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 0);
  EXPECT_EQ(AppPages("cow_shared_bytes"), 16);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 8);
  EXPECT_EQ(AppPages("cow_unmatched_shared_bytes"), 0);
  EXPECT_EQ(AppPages("cow_swapped_bytes"), 0);
  EXPECT_EQ(AppPages("cow_unresolved_bytes"), 0);
  for (const char* side : {"parent", "child", "unknown"}) {
    EXPECT_EQ(App("cow_breaks_total", {{"side", side}}), 0) << side;
  }
  for (const char* mapping : {"heap", "stack", "anon", "file", "shmem"}) {
    EXPECT_EQ(App("cow_break_bytes_total", {{"mapping", mapping}}), 0) << mapping;
  }
  for (const char* cause : {"exit", "unmap", "collapse", "unknown"}) {
    EXPECT_EQ(App("cow_unshared_bytes_total", {{"cause", cause}}), 0) << cause;
  }
  EXPECT_EQ(App("cow_unattributed_bytes_total"), 0);
  EXPECT_EQ(App("cow_forks_total"), 0);
  EXPECT_EQ(App("cow_minor_faults_total"), 0);
  EXPECT_EQ(App("cow_scan_coverage_ratio"), 1);
  EXPECT_EQ(App("cow_group_mode", {{"mode", "full"}}), 1);
  EXPECT_EQ(App("cow_oldest_child_start_timestamp_seconds"), 1700000002);
  // Unknown without PAGEMAP_SCAN.
  EXPECT_EQ(SeriesCount("cow_huge_page_bytes"), 0U);
  EXPECT_EQ(SeriesCount("cow_huge_page_splits_total"), 0U);
}

TEST_F(EngineTest, BreaksAreCountedBySideAndMapping) {
  host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
  host_.At(100).MapPages(kAnon, 4, 1100);
  host_.Fork(100, 101);
  Start();
  Pass();
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 12);
  host_.At(101).SetPage(kHeap, 2000);
  host_.At(101).SetPage(kHeap + 4096, 2001);
  host_.At(100).SetPage(kAnon, 2002);
  host_.At(101).Drop(kAnon + 4096);
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 2);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "parent"}}), 1);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "unknown"}}), 0);
  EXPECT_EQ(AppPages("cow_break_bytes_total", {{"mapping", "heap"}}), 2);
  EXPECT_EQ(AppPages("cow_break_bytes_total", {{"mapping", "anon"}}), 1);
  EXPECT_EQ(AppPages("cow_unshared_bytes_total", {{"cause", "unmap"}}), 1);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  EXPECT_EQ(AppPages("cow_shared_bytes"), 16);
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 15);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 7);
  host_.Exit(101);
  Pass();
  EXPECT_EQ(AppPages("cow_unshared_bytes_total", {{"cause", "exit"}}), 8);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 0);
  EXPECT_EQ(AppPages("cow_shared_bytes"), 0);
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 12);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 12);
  EXPECT_EQ(App("cow_processes"), 1);
  EXPECT_EQ(App("cow_families"), 0);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 2);
  EXPECT_EQ(App("cow_oldest_child_start_timestamp_seconds"), std::nullopt);
}

TEST_F(EngineTest, ForksAndWhatTheyCost) {
  AddPair();
  Start();
  Pass();
  host_.Fork(100, 102, 300);
  Pass();
  EXPECT_EQ(App("cow_forks_total"), 1);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 16);
  host_.At(102).SetPage(kHeap, 2000);
  host_.At(102).SetPage(kHeap + 4096, 2001);
  host_.At(102).SetPage(kHeap + 8192, 2002);
  host_.At(100).SetPage(kHeap + 12288, 2003);
  host_.At(101).SetPage(kHeap + 16384, 2004);
  Pass();
  host_.Exit(102);
  Pass();
  const auto* series = FindSeries("cow_fork_break_bytes", {{"group", "app"}});
  ASSERT_NE(series, nullptr);
  EXPECT_EQ(series->histogram.sample_count, 1U);
  EXPECT_EQ(series->histogram.sample_sum, 4 * kPage);
  ASSERT_EQ(series->histogram.bucket.size(), 9U);
  double bound = 65536;
  for (size_t i = 0; i < 8; ++i, bound *= 8) {
    EXPECT_EQ(series->histogram.bucket[i].upper_bound, bound);
    EXPECT_EQ(series->histogram.bucket[i].cumulative_count, 1U);
  }
  EXPECT_EQ(App("cow_breaks_total", {{"side", "parent"}}), 1);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 4);
  EXPECT_EQ(App("cow_forks_total"), 1);
}

TEST_F(EngineTest, FirstLookInfersAndLeavesUnattributed) {
  host_.GrantAllRights();  // forks are known only if every process is visible; nothing came back from swap
  host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\npgmigrate_success 0\n");
  AddPair();
  Start();
  Pass();
  auto& child = host_.Fork(100, 102, 300);
  child.SetPage(kHeap, 2000);      // copied; the parent's page has lost its mark by the fork
  child.MapPages(kAnon, 2, 2100);  // both mapped it after the fork
  host_.At(100).MapPages(kAnon, 2, 2200);
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
  EXPECT_EQ(AppPages("cow_unattributed_bytes_total"), 2);
  Pass();
  EXPECT_EQ(AppPages("cow_unattributed_bytes_total"), 2);
}

TEST_F(EngineTest, BaselineIsNotCounted) {
  AddPair();
  host_.At(101).SetPage(kHeap, 2000);
  Start();
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 0);
  EXPECT_EQ(AppPages("cow_unattributed_bytes_total"), 0);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 7);
}

TEST_F(EngineTest, PrivateFilePages) {
  auto& parent = host_.Add(100);
  auto& library = parent.MapArea(kLibrary, 4, "/usr/lib/libx.so");
  library.device = "08:01";
  library.inode = 7;
  parent.SetPage(kLibrary, 1000);
  parent.SetFilePage(kLibrary + 4096, 900, true);
  parent.SetFilePage(kLibrary + 8192, 901, false);
  parent.SetFilePage(kLibrary + 12288, 902, false);
  Start();
  Pass();
  EXPECT_EQ(AppPages("cow_private_file_bytes", {{"state", "copied"}}), 1);
  EXPECT_EQ(AppPages("cow_private_file_bytes", {{"state", "original"}}), 3);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "file"}, {"sharing", "private"}}), 1);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "file"}, {"sharing", "shared"}}), 2);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 1);
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 1);
}

TEST_F(EngineTest, SharedMemoryAndHugetlb) {
  auto& process = host_.Add(100);
  process.MapArea(kAnon, 2, "/dev/zero (deleted)", "rw-s");
  process.SetFilePage(kAnon, 900, true);
  process.SetFilePage(kAnon + 4096, 901, false);
  auto& huge = process.MapArea(0x40000000, 512, "/anon_hugepage (deleted)");
  huge.inode = 9;
  for (uint64_t i = 0; i < 512; ++i) process.SetPage(0x40000000 + i * 4096, 8192 + i);
  Start();
  Pass();
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "shmem"}, {"sharing", "private"}}), 1);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "shmem"}, {"sharing", "shared"}}), 1);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "hugetlb"}, {"sharing", "private"}}), 512);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 0);
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 512);
}

TEST_F(EngineTest, ZeroPageAndSwap) {
  AddPair();
  for (const pid_t pid : {100, 101}) {
    host_.At(pid).MapArea(kAnon, 4);
    host_.At(pid).SetPage(kAnon, test::kFixtureZeroFrame);
  }
  Start();
  Pass();
  EXPECT_EQ(AppPages("cow_zero_page_bytes", {{"size", "base"}}), 2);
  EXPECT_EQ(AppPages("cow_zero_page_bytes", {{"size", "huge"}}), 0);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  host_.At(101).SwapOut(kHeap, 9);
  Pass();
  EXPECT_EQ(AppPages("cow_swapped_bytes"), 1);
  EXPECT_EQ(AppPages("cow_unresolved_bytes"), 1);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 7);
}

TEST_F(EngineTest, MovedPagesGoByFrame) {
  AddPair();
  Start();
  Pass();
  auto& child = host_.At(101);
  child.MapArea(kAnon, 1);
  child.SetPage(kAnon, 1000);
  child.Drop(kHeap);
  Pass();
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  EXPECT_EQ(AppPages("cow_shared_bytes"), 16);
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 8);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 0);
  EXPECT_EQ(AppPages("cow_unshared_bytes_total", {{"cause", "unmap"}}), 0);
  child.SetPage(kAnon, 2000);
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 7);
}

TEST_F(EngineTest, SharedWithTheUnseen) {
  AddPair();
  host_.At(100).MapPages(kAnon, 2, 1100);
  host_.unseen_mappers[1100] = 1;
  Start();
  Pass();
  EXPECT_EQ(AppPages("cow_unmatched_shared_bytes"), 1);
  EXPECT_EQ(AppPages("cow_shared_bytes"), 17);
  EXPECT_EQ(AppPages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), 1);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
}

TEST_F(EngineTest, FaultsOfPresentAndPastMembers) {
  AddPair();
  host_.At(100).minor_faults = 1000;
  Start();
  Pass();
  EXPECT_EQ(App("cow_minor_faults_total"), 0);
  host_.At(100).minor_faults = 1030;
  host_.Fork(100, 102, 300).minor_faults = 7;
  Pass();
  EXPECT_EQ(App("cow_minor_faults_total"), 37);
  host_.Exit(102);
  host_.At(101).minor_faults = 2;
  Pass();
  EXPECT_EQ(App("cow_minor_faults_total"), 39);
}

TEST_F(EngineTest, MemoryOutlivesItsLeader) {
  AddPair();
  Start();
  Pass();
  host_.EndLeader(101, 103);
  host_.At(101).SetPage(kHeap, 2000);
  Pass();
  EXPECT_EQ(App("cow_processes"), 2);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 7);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
  EXPECT_EQ(AppPages("cow_unshared_bytes_total", {{"cause", "exit"}}), 0);
  EXPECT_EQ(App("cow_unread_processes", {{"reason", "gone"}}), 0);
}

TEST_F(EngineTest, FamilyKeepsItsGroupWhenTheRootDies) {
  AddPair();
  host_.At(101).comm = "worker";
  host_.Fork(101, 102, 300);
  Start();
  Pass();
  EXPECT_EQ(App("cow_processes"), 3);
  host_.Exit(100);
  Pass();
  EXPECT_EQ(App("cow_processes"), 2);
  EXPECT_EQ(Value("cow_processes", {{"group", "worker"}}), std::nullopt);
  host_.At(101).SetPage(kHeap, 2000);
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "parent"}}), 1);
}

TEST_F(EngineTest, RenamedRootIsJudgedAnew) {
  AddPair();
  Start();
  Pass();
  host_.At(101).SetPage(kHeap, 2000);
  Pass();
  host_.At(100).comm = "renamed";
  Pass();
  EXPECT_EQ(Value("cow_processes", {{"group", "renamed"}}), 2);
  EXPECT_EQ(App("cow_processes"), 0);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
  EXPECT_EQ(Value("cow_breaks_total", {{"group", "renamed"}, {"side", "child"}}), 0);
}

TEST_F(EngineTest, EndedGroupIsExportedWithItsCounters) {
  AddPair();
  Start();
  Pass();
  host_.At(101).SetPage(kHeap, 2000);
  Pass();
  host_.Exit(101);
  host_.Exit(100);
  for (int pass = 0; pass < 2; ++pass) {
    Pass();
    EXPECT_EQ(App("cow_processes"), 0);
    EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
    EXPECT_EQ(AppPages("cow_footprint_bytes"), 0);
    EXPECT_EQ(AppPages("cow_exposure_bytes"), 0);
  }
}

TEST_F(EngineTest, ExecMovesTheProcessToAnotherGroup) {
  AddPair();
  Start();
  Pass();
  host_.Exec(101, 0x900000).comm = "other";
  host_.At(101).MapPages(kAnon, 3, 3000);
  Pass();
  EXPECT_EQ(App("cow_processes"), 1);
  EXPECT_EQ(Value("cow_processes", {{"group", "other"}}), std::nullopt) << "a single process' second pass exports it";
  Pass();
  EXPECT_EQ(Value("cow_processes", {{"group", "other"}}), 1);
  EXPECT_EQ(AppPages("cow_unshared_bytes_total", {{"cause", "exit"}}), 8);
  EXPECT_EQ(Value("cow_footprint_bytes", {{"group", "other"}}), 3 * kPage);
}

TEST_F(EngineTest, GroupsBeyondTheLimitAreOther) {
  host_.Add(100).MapPages(kHeap, 1, 1000);
  auto& second = host_.Add(200, 1, 150);
  second.comm = "second";
  second.layout = 0x800000;
  second.MapPages(kHeap, 2, 2000);
  auto& third = host_.Add(300, 1, 160);
  third.comm = "third";
  third.layout = 0xc00000;
  third.MapPages(kHeap, 4, 3000);
  EngineOptions options;
  options.max_groups = 1;
  Start(options);
  Pass();
  EXPECT_EQ(AppPages("cow_footprint_bytes"), 1);
  EXPECT_EQ(Value("cow_processes", {{"group", "_other"}}), 2);
  EXPECT_EQ(Value("cow_footprint_bytes", {{"group", "_other"}}), 6 * kPage);
  EXPECT_EQ(Value("cow_processes", {{"group", "second"}}), std::nullopt);
  EXPECT_EQ(Value("cow_groups_overflowed", {}), 2);
}

TEST_F(EngineTest, ProcessesBeyondTheLimitAreCounted) {
  AddPair();
  host_.Add(200, 1, 300).layout = 0x800000;
  EngineOptions options;
  options.max_processes = 2;
  Start(options);
  Pass();
  EXPECT_EQ(App("cow_processes"), 2);
  double over = 0;
  for (const auto& metric : Find("cow_unread_processes")->metric) {
    if (LabelsOf(metric)["reason"] == "budget") over += metric.gauge.value;
  }
  EXPECT_EQ(over, 1);
}

TEST_F(EngineTest, ProcessWhoseStatMakesNoSenseIsCounted) {
  AddPair();
  host_.Add(200, 1, 300);
  host_.stats_of_its_own[200] = "200 nonsense\n";
  Start();
  Pass();
  double malformed = 0;
  for (const auto& metric : Find("cow_unread_processes")->metric) {
    if (LabelsOf(metric)["reason"] == "malformed") malformed += metric.gauge.value;
  }
  EXPECT_EQ(malformed, 1);
}

TEST_F(EngineTest, UnreadProcessesAreCountedByReason) {
  AddPair();
  host_.Fork(100, 102);
  host_.maps_of_its_own[102] = "nonsense\n";
  Start();
  Pass();
  EXPECT_EQ(App("cow_unread_processes", {{"reason", "malformed"}}), 1);
  EXPECT_EQ(App("cow_unread_processes", {{"reason", "gone"}}), 0);
  EXPECT_EQ(App("cow_processes"), 3);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  EXPECT_EQ(App("cow_scan_coverage_ratio").value_or(0), 16.0 / 24);
}

TEST_F(EngineTest, WhereThereIsNoBootTimeThereIsNoStartOfAChild) {
  AddPair();
  Start();
  Pass();
  EXPECT_TRUE(App("cow_oldest_child_start_timestamp_seconds"));
  host_.tree().Remove("proc/stat");
  Start();
  Pass();
  EXPECT_FALSE(App("cow_oldest_child_start_timestamp_seconds"));
}

TEST_F(EngineTest, LabelsAreValidAndBounded) {
  host_.Add(100).comm = "a\xFF" + std::string("b");
  EngineOptions options;
  options.label_value_length = 4;
  Start(options);
  Pass();
  EXPECT_EQ(Value("cow_processes", {{"group", "a\xEF\xBF\xBD"}}), 1);
}

TEST_F(EngineTest, OneInfoSeriesPerGroup) {
  AddPair();
  host_.At(100).cgroup = "0::/system.slice/app.service\n";
  auto& second = host_.Add(200, 1, 150);
  second.layout = 0x800000;
  second.cgroup = "0::/system.slice/app.service\n";
  second.exe = "/opt/app";
  Start();
  Pass();
  ASSERT_EQ(SeriesCount("cow_group_info"), 1U);
  const Labels labels = LabelsOf(Find("cow_group_info")->metric.front());
  EXPECT_EQ(labels,
            (Labels{{"group", "app"}, {"unit", "app.service"}, {"container_id", ""}, {"pod_uid", ""}, {"exe", ""}}));
  EXPECT_EQ(App("cow_families"), 1);
}

TEST_F(EngineTest, CgroupLimit) {
  AddPair();
  host_.At(100).cgroup = "0::/app.slice\n";
  host_.tree().WriteFile("sys/fs/cgroup/app.slice/memory.max", "1048576\n");
  host_.tree().WriteFile("sys/fs/cgroup/app.slice/memory.current", "40960\n");
  Start();
  Pass();
  EXPECT_EQ(App("cow_cgroup_memory_limit_bytes"), 1048576);
  EXPECT_EQ(App("cow_cgroup_memory_usage_bytes"), 40960);
  host_.tree().WriteFile("sys/fs/cgroup/app.slice/memory.max", "max\n");
  Pass();
  EXPECT_EQ(App("cow_cgroup_memory_limit_bytes"), std::nullopt);
  EXPECT_EQ(App("cow_cgroup_memory_usage_bytes"), std::nullopt);
}

TEST_F(EngineTest, CgroupsThatDifferHaveNoLimit) {
  AddPair();
  host_.At(100).cgroup = "0::/app.slice\n";
  host_.tree().WriteFile("sys/fs/cgroup/app.slice/memory.max", "1048576\n");
  host_.tree().WriteFile("sys/fs/cgroup/app.slice/memory.current", "40960\n");
  host_.Add(200, 1, 150).layout = 0x800000;
  Start();
  Pass();
  EXPECT_EQ(App("cow_cgroup_memory_limit_bytes"), std::nullopt);
}

TEST_F(EngineTest, HostSavedNeedsToSeeEverything) {
  AddPair();
  Start();
  Pass();
  EXPECT_EQ(Value("cow_host_saved_bytes", {}), std::nullopt);
  EXPECT_EQ(Value("cow_exporter_capability", {{"feature", "all_processes"}}), 0);
  host_.GrantAllRights();
  Start();
  Pass();
  EXPECT_EQ(Value("cow_host_saved_bytes", {}), 8 * kPage);
  EXPECT_EQ(Value("cow_exporter_capability", {{"feature", "all_processes"}}), 1);
}

TEST_F(EngineTest, SandboxIsACapability) {
  AddPair();
  Start();
  Pass();
  EXPECT_EQ(Value("cow_exporter_capability", {{"feature", "sandbox"}}), std::nullopt);
  engine_->SetSandbox(true);
  Pass();
  EXPECT_EQ(Value("cow_exporter_capability", {{"feature", "sandbox"}}), 1);
  engine_->SetSandbox(false);
  Pass();
  EXPECT_EQ(Value("cow_exporter_capability", {{"feature", "sandbox"}}), 0);
}

// Rewrites the host's AnonPages when a process is read.
class AnonPages : public procfs::Interposer {
 public:
  explicit AnonPages(const test::FixtureHost& host) : host_(host) {}
  std::optional<Error> Before(procfs::Access access, const std::string& path) override {
    if (access == procfs::Access::kOpen && path.ends_with("/100/stat")) Write(after_kilobytes);
    return std::nullopt;
  }
  void Write(uint64_t kilobytes) const {
    host_.tree().WriteFile("proc/meminfo", "AnonPages:      " + std::to_string(kilobytes) + " kB\n");
  }
  uint64_t after_kilobytes = 0;

 private:
  const test::FixtureHost& host_;
};

TEST_F(EngineTest, HostSavedNeedsAHostThatStandsStill) {
  AddPair();
  for (pid_t pid = 200; pid < 240; ++pid) host_.Add(pid).MapPages(kHeap, 10, static_cast<uint64_t>(pid) * 100);
  host_.GrantAllRights();
  host_.Sync();
  const auto anon_pages = std::make_shared<AnonPages>(host_);
  const uint64_t mapped = uint64_t{2 * 8 + 40 * 10} * 4;  // kB, counted once per process
  struct Case {
    uint64_t before;
    uint64_t after;
    std::optional<double> saved;
  };
  for (const Case& each : {Case{mapped - 32, mapped - 32, 32.0}, Case{mapped - 32, mapped - 20, 26.0},
                           Case{mapped - 32, mapped - 10, std::nullopt},  // more than 1 %
                           Case{mapped - 10, mapped - 32, std::nullopt},  // more than 1 %
                           Case{mapped + 4, mapped + 4, std::nullopt},    // negative
                           Case{mapped, mapped, 0.0}}) {
    // A new engine for each case, so that it opens each file.
    Engine engine(procfs::Root(host_.tree().Path("proc"), host_.tree().Path("sys"), anon_pages), {});
    anon_pages->Write(each.before);
    anon_pages->after_kilobytes = each.after;
    test::NoControl control;
    ASSERT_TRUE(engine.RunPass(control));
    families_ = test::CollectDeclared(engine);
    const auto saved = Value("cow_host_saved_bytes", {});
    EXPECT_EQ(saved ? std::optional(*saved / 1024) : std::nullopt, each.saved) << each.before << " " << each.after;
  }
}

// The failure affects only this process, which is counted under its reason.
TEST_F(EngineTest, AProcessThatIsTooLargeIsUnread) {
  AddPair();
  host_.Fork(100, 102);
  std::string maps = "1000-2000 rw-p 0 0:0 0 " + std::string(size_t{17} << 20, 'x') + "\n";
  host_.maps_of_its_own[102] = maps;
  Start();
  Pass();
  EXPECT_EQ(App("cow_processes"), 3);
  EXPECT_EQ(App("cow_unread_processes", {{"reason", "too_large"}}), 1);
  EXPECT_EQ(App("cow_unread_processes", {{"reason", "malformed"}}), 0);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
}

TEST_F(EngineTest, Capabilities) {
  AddPair();
  Start();
  Pass();
  for (const char* feature : {"frames", "kpageflags", "kpagecount", "exclusive_marks"}) {
    EXPECT_EQ(Value("cow_exporter_capability", {{"feature", feature}}), 1) << feature;
  }
  EXPECT_EQ(Value("cow_exporter_capability", {{"feature", "pagemap_scan"}}), 0);
}

TEST_F(EngineTest, FamiliesAreUniqueAndFilledAndCountersGrow) {
  AddPair();
  Start();
  std::map<std::pair<std::string, Labels>, double> before;
  for (int pass = 0; pass < 6; ++pass) {
    if (pass == 1) host_.Fork(100, 102, 300);
    if (pass == 2) host_.At(102).SetPage(kHeap, 2000);
    if (pass == 3) host_.At(100).SetPage(kHeap + 4096, 2001);
    if (pass == 4) host_.Exit(100);
    if (pass == 5) host_.Exit(102);
    Pass();
    std::set<std::string> names;
    for (const prometheus::MetricFamily& family : families_) {
      EXPECT_TRUE(names.insert(family.name).second) << family.name;
      EXPECT_FALSE(family.metric.empty()) << family.name;
      EXPECT_FALSE(family.help.empty()) << family.name;
      std::set<Labels> series;
      for (const prometheus::ClientMetric& metric : family.metric) {
        EXPECT_TRUE(series.insert(LabelsOf(metric)).second) << family.name;
        if (family.type != prometheus::MetricType::Counter) continue;
        double& last = before[{family.name, LabelsOf(metric)}];
        EXPECT_GE(metric.counter.value, last) << family.name;
        last = metric.counter.value;
      }
    }
  }
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "parent"}}), 1);
}

TEST_F(EngineTest, PassAndCollectorsAreReported) {
  AddPair();
  Start();
  Pass();
  Pass();
  EXPECT_EQ(Value("cow_scan_passes_total", {{"kind", "full"}}), 2);
  EXPECT_GT(Value("cow_scan_pages_total", {}), 0);
  EXPECT_GT(Value("cow_ledger_bytes", {}), 0);
  for (const CollectorInfo& info : AvailableCollectors()) {
    EXPECT_EQ(Value("cow_scrape_collector_success", {{"collector", std::string(info.name)}}), 1);
  }
}

TEST_F(EngineTest, UnchangedFamilyIsNotReadAgain) {
  AddPair();
  host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\n");
  EngineOptions options;
  options.full_every = std::chrono::hours(1);
  Start(options);
  Pass();
  Pass();
  const double pages = Value("cow_scan_pages_total", {}).value_or(-1);
  Pass();
  EXPECT_EQ(Value("cow_scan_pages_total", {}), pages);
  EXPECT_EQ(Value("cow_scan_skipped_processes", {}), 2);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  EXPECT_EQ(App("cow_processes"), 2);
  EXPECT_EQ(App("cow_scan_coverage_ratio"), 1);

  host_.At(101).SetPage(kHeap, 2000);
  host_.At(101).minor_faults = 1;
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
  EXPECT_EQ(App("cow_minor_faults_total"), 1);

  host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 1\nthp_collapse_alloc 0\n");
  host_.At(101).SetPage(kHeap + 4096, 2001);
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 2);

  Pass();
  host_.Exit(101);
  Pass();
  EXPECT_EQ(AppPages("cow_unshared_bytes_total", {{"cause", "exit"}}), 6);
}

TEST_F(EngineTest, OnlyEnabledCollectorsPublish) {
  AddPair();
  EngineOptions options;
  options.collectors = {"faults"};
  Start(options);
  Pass();
  EXPECT_EQ(App("cow_minor_faults_total"), 0);
  EXPECT_EQ(Find("cow_exposure_bytes"), nullptr);
  EXPECT_EQ(Find("cow_breaks_total"), nullptr);
}

constexpr Metric kFaltering{.name = "faltering", .unit = "windows", .help = "Windows."};

// Counts its reports and fails in the second pass.
class Faltering : public CollectorWithHooks {
 public:
  using CollectorWithHooks::CollectorWithHooks;
  size_t gauges() const override { return 1; }
  void Accumulate(const memory::Report& report, const Tally& tally) const override {
    const auto* window = std::get_if<memory::WindowReport>(&report);
    if (window == nullptr) return;
    tally.gauges[0] += static_cast<int64_t>(window->members.size());
    if (passes_ == 1) throw std::runtime_error("faltering");
  }
  void OnPassEnd() override { ++passes_; }
  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kFaltering);
    for (const GroupSums& sums : groups) writer.AddFor(sums, {}, static_cast<double>(sums.gauges[0]));
  }

 private:
  int passes_ = 0;
};

TEST_F(EngineTest, CollectorThatFailsCostsOnlyItsOwnMetrics) {
  std::vector<Registration> registry(Registry().begin(), Registry().end());
  registry.push_back({"faltering", "fails", true, [](const CollectorContext& context) -> std::unique_ptr<Collector> {
                        return std::make_unique<Faltering>(context.geometry);
                      }});
  AddPair();
  host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\n");
  host_.Sync();
  EngineOptions options;
  options.collectors = {"sharing", "faltering"};
  options.full_every = std::chrono::hours(1);
  engine_ = std::make_unique<Engine>(host_.Root(), options, registry);
  Pass();
  const std::optional<double> windows = App("faltering");
  ASSERT_TRUE(windows.has_value());
  EXPECT_GT(*windows, 0);

  host_.At(101).SetPage(kHeap, 2000);
  ++host_.At(101).minor_faults;
  Pass();
  EXPECT_FALSE(App("faltering").has_value());
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 7);
  EXPECT_EQ(Value("cow_scrape_collector_success", {{"collector", "faltering"}}), 0);
  EXPECT_EQ(Value("cow_scrape_collector_success", {{"collector", "sharing"}}), 1);
  std::vector<ModeNotice> notices = engine_->TakeNotices();
  std::erase_if(notices, [](const ModeNotice& notice) { return notice.collector.empty(); });
  ASSERT_EQ(notices.size(), 1U);  // one notice, not one per window
  EXPECT_EQ(notices[0].collector, "faltering");
  EXPECT_EQ(notices[0].reason, "faltering");

  test::Abandon control;
  EXPECT_FALSE(engine_->RunPass(control));
  Pass();  // nothing changed, but everything is reported again
  EXPECT_EQ(App("faltering"), windows);
  EXPECT_EQ(Value("cow_scrape_collector_success", {{"collector", "faltering"}}), 1);
}

TEST_F(EngineTest, AbandonedPassKeepsTheLastValues) {
  AddPair();
  Start();
  Pass();
  host_.At(101).SetPage(kHeap, 2000);
  host_.Sync();
  test::Abandon control;
  EXPECT_FALSE(engine_->RunPass(control));
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 0);
  EXPECT_EQ(Value("cow_scan_passes_total", {{"kind", "full"}}), 1);
  Pass();
  EXPECT_EQ(App("cow_breaks_total", {{"side", "child"}}), 1);
}

// Makes breaks, moved pages, an end, an exec and a fork after a completed pass.
class ChangedHost {
 public:
  ChangedHost() {
    host_.GrantAllRights();
    host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\npgmigrate_success 0\n");
    host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    host_.At(100).MapPages(kAnon, 600, 2000);
    for (const pid_t pid : {101, 102, 103}) host_.Fork(100, pid);
    host_.Add(200).layout = 0x900000;
    host_.At(200).MapPages(kHeap, 4, 5000);
    host_.Fork(200, 201);
    host_.Sync();
    EngineOptions options;
    for (const CollectorInfo& info : AvailableCollectors()) options.collectors.emplace_back(info.name);
    engine_ = std::make_unique<Engine>(host_.Root(), std::move(options));
    test::NoControl control;
    EXPECT_TRUE(engine_->RunPass(control));
    for (uint64_t page = 0; page < 20; ++page) host_.At(101).SetPage(kAnon + page * 4096 * 20, 6000 + page);
    host_.At(100).SetPage(kHeap, 6100);
    host_.At(103).MapPages(kLibrary, 4, 2100);
    for (uint64_t page = 100; page < 104; ++page) host_.At(103).Drop(kAnon + page * 4096);
    host_.Exit(102);
    host_.Fork(100, 104, 300);
    host_.Fork(200, 202, 300).SetPage(kHeap, 6200);
    host_.Exec(201, 0xa00000).MapPages(kHeap, 4, 6300);
    for (const pid_t pid : {100, 101, 103, 104, 200, 201, 202}) host_.At(pid).minor_faults += 50;
    host_.Sync();
  }

  bool Pass(PassControl& control) { return engine_->RunPass(control); }
  // Returns all series of the processes' group without the time of the pass.
  std::map<std::string, double> Values() const {
    std::map<std::string, double> values;
    for (const prometheus::MetricFamily& family : test::CollectDeclared(*engine_)) {
      for (const prometheus::ClientMetric& metric : family.metric) {
        std::string name = family.name;
        bool of_group = false;
        for (const auto& label : metric.label) {
          name.append(",").append(label.name).append("=").append(label.value);
          of_group = of_group || (label.name == "group" && label.value == "app");
        }
        if (!of_group || family.name.starts_with("cow_scan_")) continue;
        values[name] = metric.counter.value + metric.gauge.value + metric.histogram.sample_sum;
      }
    }
    return values;
  }

 private:
  test::FixtureHost host_;
  std::unique_ptr<Engine> engine_;
};

TEST(EngineAbandonTest, PassThatIsAbandonedAnywhereLosesNothing) {
  test::NoControl whole;
  ChangedHost undisturbed;
  ASSERT_TRUE(undisturbed.Pass(whole));
  const auto expected = undisturbed.Values();
  EXPECT_EQ(expected.at("cow_breaks_total,group=app,side=child"), 21);
  EXPECT_EQ(expected.at("cow_forks_total,group=app"), 2);
  uint64_t steps = 0;
  for (bool completed = false; !completed; ++steps) {
    SCOPED_TRACE(steps);
    ChangedHost host;
    test::AbandonAfter control(steps);
    completed = host.Pass(control);
    if (!completed) {
      ASSERT_TRUE(host.Pass(whole));
    }
    ASSERT_EQ(host.Values(), expected);
  }
  std::printf("a pass has %llu places where it can be abandoned\n", static_cast<unsigned long long>(steps));
  EXPECT_GT(steps, 40U);
}

// Continues the pass and runs a function in each call.
class DoingControl : public PassControl {
 public:
  explicit DoingControl(std::function<void()> act) : act_(std::move(act)) {}
  bool Continue() override {
    act_();
    return true;
  }

 private:
  std::function<void()> act_;
};

TEST_F(EngineTest, CollectWithinAPassIsConsistent) {
  AddPair();
  host_.At(100).MapPages(kAnon, 4, 1100);
  host_.At(101).MapPages(kAnon, 4, 1100);
  Start();
  Pass();
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 12);
  std::set<double> exposures;
  DoingControl control([&] {
    families_ = test::CollectDeclared(*engine_);
    exposures.insert(AppPages("cow_exposure_bytes").value_or(-1));
  });
  ASSERT_TRUE(engine_->RunPass(control));
  EXPECT_EQ(exposures, std::set<double>{12});
}

TEST_F(EngineTest, WhatAFirstPassHasReadHasAMode) {
  AddPair();
  Start();
  size_t looks = 0;
  DoingControl control([&] {
    families_ = test::CollectDeclared(*engine_);
    if (App("cow_exposure_bytes").value_or(0) == 0) return;
    ++looks;
    EXPECT_EQ(App("cow_group_mode", {{"mode", "full"}}), 1);
  });
  ASSERT_TRUE(engine_->RunPass(control));
  EXPECT_GT(looks, 0U);
}

TEST_F(EngineTest, WhatAwaitsItsFirstLookIsAbsentNotZero) {
  AddPair();
  Start();
  size_t unseen = 0;
  DoingControl control([&] {
    families_ = test::CollectDeclared(*engine_);
    EXPECT_EQ(App("cow_huge_page_splits_total"), std::nullopt) << "no PAGEMAP_SCAN here";
    if (SeriesCount("cow_group_mode") != 0 || !App("cow_processes")) return;
    ++unseen;
    for (const char* name : {"cow_families", "cow_shared_bytes", "cow_exposure_bytes", "cow_forks_total"}) {
      EXPECT_EQ(App(name), std::nullopt) << name;
    }
  });
  ASSERT_TRUE(engine_->RunPass(control));
  EXPECT_GT(unseen, 0U);
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(App("cow_forks_total"), 0);
  EXPECT_EQ(AppPages("cow_exposure_bytes"), 8);
}

// A pass waits for its budget: the unread families are those that have changed least.
TEST_F(EngineTest, WhatIsLeftForLaterMattersLeastAndIsNotCovered) {
  constexpr auto kInterval = std::chrono::milliseconds(20);
  struct Look {
    std::map<std::string, std::optional<double>> coverage;
    std::map<std::string, std::optional<double>> read_at;
  };
  const auto add = [this](pid_t pid, const std::string& name) {
    test::FixtureProcess& process = host_.Add(pid);
    process.layout = 0x400000 + 0x100000 * static_cast<uint64_t>(pid);
    process.comm = name;
    process.MapPages(kHeap, 8, 1000 * static_cast<uint64_t>(pid), "[heap]");
    host_.Fork(pid, pid + 1);
  };
  add(100, "cold");
  add(200, "hot");
  EngineOptions options;
  options.interval = kInterval;
  options.collectors = {"sharing"};  // needs only windows
  Start(options);
  Pass();
  add(300, "new");
  host_.At(201).SetPage(kHeap, 2000);
  host_.At(201).minor_faults += 100000;
  host_.Sync();
  std::this_thread::sleep_for(2 * kInterval);

  std::vector<Look> looks;
  DoingControl control([&] {
    families_ = test::CollectDeclared(*engine_);
    Look look;
    for (const char* group : {"cold", "hot", "new"}) {
      look.coverage[group] = Value("cow_scan_coverage_ratio", {{"group", group}});
      look.read_at[group] = Value("cow_scan_timestamp_seconds", {{"group", group}});
    }
    if (!look.coverage["new"]) return;  // the processes are still being listed
    if (looks.empty() || looks.back().coverage != look.coverage) looks.push_back(look);
  });
  ASSERT_TRUE(engine_->RunPass(control));
  using Coverage = std::map<std::string, std::optional<double>>;
  ASSERT_GE(looks.size(), 3U);  // one per family that was read meanwhile
  EXPECT_EQ(looks[0].coverage, (Coverage{{"cold", 0}, {"hot", 0}, {"new", 0}}));
  EXPECT_EQ(looks[1].coverage, (Coverage{{"cold", 0}, {"hot", 0}, {"new", 1}}));
  EXPECT_EQ(looks[2].coverage, (Coverage{{"cold", 0}, {"hot", 1}, {"new", 1}}));
  EXPECT_FALSE(looks[0].read_at["new"].has_value());
  EXPECT_EQ(looks[2].read_at["cold"], looks[0].read_at["cold"]);
  EXPECT_GE(looks[2].read_at["hot"].value_or(0) - looks[2].read_at["cold"].value_or(0),
            std::chrono::duration<double>(2 * kInterval).count());
  families_ = test::CollectDeclared(*engine_);
  for (const char* group : {"cold", "hot", "new"}) {
    EXPECT_EQ(Value("cow_scan_coverage_ratio", {{"group", group}}), 1) << group;
  }
}

// Memory that no pass has read counts as known memory.
TEST_F(EngineTest, FamilyThatWasNeverReadIsNotCovered) {
  AddPair();
  Start();
  Pass();
  EXPECT_EQ(App("cow_scan_coverage_ratio"), 1);
  test::FixtureProcess& other = host_.Add(200);
  other.layout = 0x800000;
  other.MapPages(kHeap, 8, 5000, "[heap]");
  host_.Sync();
  test::Abandon control;
  EXPECT_FALSE(engine_->RunPass(control));
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(App("cow_scan_coverage_ratio"), 0);
  EXPECT_EQ(App("cow_processes"), 3) << "it counts, whether or not it was read";
  Pass();
  EXPECT_EQ(App("cow_scan_coverage_ratio"), 1);
  EXPECT_EQ(App("cow_processes"), 3);
}

TEST_F(EngineTest, ListThatCannotBeReadFailsThePass) {
  AddPair();
  Start();
  Pass();
  host_.tree().Remove("proc");
  test::NoControl control;
  EXPECT_FALSE(engine_->RunPass(control));
  EXPECT_FALSE(test::CollectDeclared(*engine_).empty());
}

TEST_F(EngineTest, SaysWhoMadeAFamily) {
  AddPair();
  EngineOptions options;
  options.collectors = {"cow", "sharing"};
  Start(std::move(options));
  Pass();
  std::map<std::string, std::string> makers;  // collector by metric family
  std::set<std::string_view> collectors;
  for (const CollectedFamilies& made : engine_->CollectByCollector()) {
    collectors.insert(made.collector);
    for (const auto& family : made.families) makers[family.name] = made.collector;
  }
  EXPECT_EQ(collectors, (std::set<std::string_view>{"", "cow", "sharing"}));
  EXPECT_EQ(makers.size(), families_.size());
  EXPECT_EQ(makers.at("cow_breaks_total"), "cow");
  EXPECT_EQ(makers.at("cow_exposure_bytes"), "sharing");
  EXPECT_EQ(makers.at("cow_processes"), "");
  EXPECT_EQ(makers.at("cow_scan_pages_total"), "");
}

TEST(EngineOptionsTest, UnknownCollectorThrows) {
  test::FixtureHost host;
  host.Sync();
  EngineOptions options;
  options.collectors = {"sharing", "nonsense"};
  EXPECT_THROW(Engine(host.Root(), options), std::invalid_argument);
}

TEST(EngineOptionsTest, MissingRootThrows) {
  const test::FixtureTree tree;
  EXPECT_THROW(Engine(procfs::Root(tree.Path("none"), tree.Path("none")), {}), std::runtime_error);
}

TEST(RegistryTest, CollectorsAreNamedAndDescribed) {
  std::set<std::string_view> names;
  for (const CollectorInfo& info : AvailableCollectors()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_FALSE(info.help.empty()) << info.name;
  }
  for (const char* name : {"cow", "faults", "sharing", "thp", "zero_page"}) EXPECT_TRUE(names.contains(name)) << name;
}

}  // namespace
}  // namespace cow::collectors
