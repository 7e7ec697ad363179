// Tests of the collectors smaps and ksm on a fake host.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace cow::collectors {
namespace {

using test::Labels;

constexpr uint64_t kHeap = 0x10000000;
constexpr double kPage = 4096;
constexpr uint64_t kPageBytes = 4096;

class WitnessTest : public testing::Test {
 protected:
  void SetUp() override {
    host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    host_.Fork(100, 101);
    host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\n");
  }
  void Start(const std::string& collector, uint64_t max_rss_bytes = uint64_t{1} << 30) {
    EngineOptions options;
    options.collectors = {collector};
    options.full_every = std::chrono::hours(1);
    options.collector_options.smaps.max_rss_bytes = max_rss_bytes;
    host_.Sync();
    engine_ = std::make_unique<Engine>(host_.Root(), std::move(options));
  }
  void Pass() {
    host_.Sync();
    test::NoControl control;
    ASSERT_TRUE(engine_->RunPass(control));
    families_ = test::CollectDeclared(*engine_);
  }

  std::optional<double> App(const std::string& name, Labels labels = {}) const {
    labels["group"] = "app";
    return test::ValueOf(families_, name, labels);
  }
  std::optional<double> Smaps(const std::string& field) const { return App("cow_smaps_bytes", {{"field", field}}); }
  std::optional<double> Skipped(const std::string& reason) const {
    return App("cow_smaps_skipped_processes", {{"reason", reason}});
  }

  void WriteFile(pid_t pid, const std::string& file, const std::string& text) const {
    host_.tree().WriteFile("proc/" + std::to_string(pid) + "/" + file, text);
  }
  // Writes pss and private_dirty in kB, the rest zero.
  void WriteRollup(pid_t pid, int pss, int private_dirty, const std::string& more = "") const {
    std::string text = "1000-2000 ---p 0 00:00 0 [rollup]\n";
    for (const char* field :
         {"Rss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Referenced", "Anonymous", "LazyFree",
          "AnonHugePages", "ShmemPmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss", "Locked"}) {
      text.append(field).append(": 0 kB\n");
    }
    text.append("Pss: ").append(std::to_string(pss)).append(" kB\nPrivate_Dirty: ");
    text.append(std::to_string(private_dirty)).append(" kB\n");
    WriteFile(pid, "smaps_rollup", text.append(more));
  }

  test::FixtureHost host_;
  std::unique_ptr<Engine> engine_;
  std::vector<prometheus::MetricFamily> families_;
};

TEST_F(WitnessTest, SmapsAreSummedOverTheGroup) {
  WriteRollup(100, 16, 4);
  WriteRollup(101, 20, 8);
  Start("smaps");
  Pass();
  EXPECT_EQ(Smaps("pss"), 36 * 1024);
  EXPECT_EQ(Smaps("private_dirty"), 12 * 1024);
  EXPECT_EQ(Smaps("shared_dirty"), 0);
  EXPECT_EQ(Smaps("pss_anon"), std::nullopt) << "this kernel does not tell";
  EXPECT_EQ(Skipped("max_rss"), 0);
  EXPECT_EQ(Skipped("unreadable"), 0);
}

TEST_F(WitnessTest, SmapsOfNewerKernelsHaveMore) {
  WriteRollup(100, 16, 4, "Pss_Anon: 7 kB\n");
  WriteRollup(101, 20, 8, "Pss_Anon: 8 kB\n");
  Start("smaps");
  Pass();
  EXPECT_EQ(Smaps("pss_anon"), 15 * 1024);
  EXPECT_EQ(Smaps("pss_file"), std::nullopt);
}

TEST_F(WitnessTest, LargeProcessesAreNotAskedForSmapsAndCounted) {
  WriteRollup(100, 16, 4);
  WriteRollup(101, 20, 8);
  host_.At(101).SwapOut(kHeap + 16 * kPageBytes, 5);  // swapped pages are walked too
  host_.At(101).MapArea(kHeap + 16 * kPageBytes, 1);
  Start("smaps", 8 * kPageBytes);
  Pass();
  EXPECT_EQ(Smaps("pss"), 16 * 1024);
  EXPECT_EQ(Skipped("max_rss"), 1);
  host_.At(100).SetPage(kHeap + 8 * kPageBytes, 3000);
  host_.At(100).MapArea(kHeap + 8 * kPageBytes, 1);
  ++host_.At(100).minor_faults;
  Pass();
  EXPECT_EQ(Smaps("pss"), std::nullopt) << "no process was asked: nothing is known, not zero";
  EXPECT_EQ(Skipped("max_rss"), 2);
}

TEST_F(WitnessTest, UnreadableSmapsAreCounted) {
  WriteRollup(100, 16, 4);
  WriteFile(101, "smaps_rollup", "nonsense\n");
  Start("smaps");
  Pass();
  EXPECT_EQ(Smaps("pss"), 16 * 1024);
  EXPECT_EQ(Skipped("unreadable"), 1);
}

TEST_F(WitnessTest, SmapsAreReadWithTheFamily) {
  WriteRollup(100, 16, 4);
  WriteRollup(101, 20, 8);
  Start("smaps");
  Pass();
  Pass();
  WriteRollup(101, 99, 9);
  Pass();
  EXPECT_EQ(Smaps("pss"), 36 * 1024) << "nothing of the family changed: it was not read, and its values stand";
  ++host_.At(101).minor_faults;
  Pass();
  EXPECT_EQ(Smaps("pss"), 115 * 1024);
  host_.Exit(101);
  Pass();
  EXPECT_EQ(Smaps("pss"), 16 * 1024);
}

TEST_F(WitnessTest, KsmIsReadInEveryPass) {
  WriteFile(100, "ksm_stat", "ksm_rmap_items 9\nksm_zero_pages 1\nksm_merging_pages 3\nksm_process_profit -100\n");
  WriteFile(101, "ksm_stat", "ksm_rmap_items 1\nksm_zero_pages 2\nksm_merging_pages 0\nksm_process_profit 40\n");
  Start("ksm");
  Pass();
  EXPECT_EQ(App("cow_ksm_bytes"), 3 * kPage);
  EXPECT_EQ(App("cow_ksm_zero_page_bytes"), 3 * kPage);
  EXPECT_EQ(App("cow_ksm_tracked_bytes"), 10 * kPage);
  EXPECT_EQ(App("cow_ksm_profit_bytes"), -60);
  Pass();
  // KSM moves no change signal: the family is not read, but the value is new.
  WriteFile(101, "ksm_stat", "ksm_rmap_items 1\nksm_zero_pages 2\nksm_merging_pages 4\nksm_process_profit 40\n");
  Pass();
  EXPECT_EQ(App("cow_ksm_bytes"), 7 * kPage);
}

TEST_F(WitnessTest, OlderKernelsTellLessOfKsm) {
  host_.At(100).ksm_pages = 3;
  Start("ksm");
  Pass();
  EXPECT_EQ(App("cow_ksm_bytes"), 3 * kPage);
  for (const char* name : {"cow_ksm_zero_page_bytes", "cow_ksm_tracked_bytes", "cow_ksm_profit_bytes"}) {
    EXPECT_EQ(App(name), std::nullopt) << name;
  }
}

TEST_F(WitnessTest, KsmThatIsNotReadableIsAbsent) {
  WriteFile(100, "ksm_stat", "ksm_merging_pages 3\n");
  WriteFile(101, "ksm_stat", "ksm_merging_pages nonsense\n");
  Start("ksm");
  Pass();
  EXPECT_EQ(App("cow_ksm_bytes"), std::nullopt);
  WriteFile(101, "ksm_stat", "");  // the process ends now
  Pass();
  EXPECT_EQ(App("cow_ksm_bytes"), 3 * kPage);
}

}  // namespace
}  // namespace cow::collectors
