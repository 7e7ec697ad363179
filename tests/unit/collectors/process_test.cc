// Tests of the collector process on a fake host.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>

#include "collectors/engine/engine.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace cow::collectors {
namespace {

constexpr uint64_t kHeap = 0x10000000;
constexpr double kPage = 4096;

class ProcessTest : public testing::Test {
 protected:
  // Adds a family of two processes that share `pages` heap pages.
  void AddFamily(pid_t pid, uint64_t pages) {
    host_.Add(pid).MapPages(kHeap, pages, static_cast<uint64_t>(pid) * 100, "[heap]");
    host_.Exec(pid, 0x900000 + static_cast<uint64_t>(pid) * 0x100);
    host_.At(pid).MapPages(kHeap, pages, static_cast<uint64_t>(pid) * 100, "[heap]");
    host_.Fork(pid, pid + 1);
  }
  void Start(const ProcessOptions& process) {
    options_.collectors = {"process"};
    options_.full_every = std::chrono::hours(1);
    options_.collector_options.process = process;
    host_.Sync();
    engine_ = std::make_unique<Engine>(host_.Root(), options_);
  }
  void Switch(bool on) {
    options_.collectors = {on ? "process" : "cow"};
    engine_->Reconfigure(options_);
  }
  void Pass() {
    host_.Sync();
    test::NoControl control;
    ASSERT_TRUE(engine_->RunPass(control));
    values_.clear();
    for (const prometheus::MetricFamily& family : test::CollectDeclared(*engine_)) {
      for (const prometheus::ClientMetric& metric : family.metric) {
        std::map<std::string, std::string> labels;
        for (const auto& label : metric.label) labels[label.name] = label.value;
        if (!labels.contains("pid")) continue;
        EXPECT_EQ(labels.at("comm"), "app");
        EXPECT_EQ(labels.at("group"), "app");
        const bool counter = family.type == prometheus::MetricType::Counter;
        values_[family.name][std::stoi(labels.at("pid"))] = counter ? metric.counter.value : metric.gauge.value;
      }
    }
  }
  std::set<pid_t> Published() {
    std::set<pid_t> pids;
    for (const auto& [pid, value] : values_["cow_process_exposure_bytes"]) pids.insert(pid);
    return pids;
  }
  double Pages(const std::string& name, pid_t pid) { return values_.at(name).at(pid) / kPage; }
  double Breaks(pid_t pid) { return values_.at("cow_process_breaks_total").at(pid); }
  void Break(pid_t pid, uint64_t page) {
    host_.At(pid).SetPage(kHeap + page * 4096, next_frame_++);
    ++host_.At(pid).minor_faults;
  }

  test::FixtureHost host_;
  EngineOptions options_;
  uint64_t next_frame_ = 100000;
  std::unique_ptr<Engine> engine_;
  std::map<std::string, std::map<pid_t, double>> values_;
};

TEST_F(ProcessTest, SharedPrivateAndBrokenOfEach) {
  AddFamily(100, 8);
  Start({});
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{100, 101}));
  EXPECT_EQ(Pages("cow_process_exposure_bytes", 101), 8);
  EXPECT_EQ(Pages("cow_process_private_bytes", 101), 0);
  host_.At(101).SetPage(kHeap, 90000);
  host_.At(101).SetPage(kHeap + 4096, 90001);
  host_.At(100).SetPage(kHeap + 8192, 90002);
  Pass();
  EXPECT_EQ(Pages("cow_process_exposure_bytes", 100), 5);
  EXPECT_EQ(Pages("cow_process_exposure_bytes", 101), 5);
  EXPECT_EQ(Pages("cow_process_private_bytes", 100), 3);
  EXPECT_EQ(Pages("cow_process_private_bytes", 101), 3);
  EXPECT_EQ(values_["cow_process_breaks_total"][100], 1);
  EXPECT_EQ(values_["cow_process_breaks_total"][101], 2);
  // Unchanged values stay.
  Pass();
  EXPECT_EQ(values_["cow_process_breaks_total"][101], 2);
  host_.Exit(101);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{})) << "nothing is shared any more";
}

TEST_F(ProcessTest, TopOnesByTheOrderAskedFor) {
  for (pid_t i = 1; i <= 5; ++i) AddFamily(i * 100, static_cast<uint64_t>(i) * 4);
  ProcessOptions options;
  options.top = 2;
  Start(options);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{500, 501}));

  options.by = ProcessOptions::By::kPrivate;
  Start(options);
  for (uint64_t page = 0; page < 3; ++page) host_.At(201).SetPage(kHeap + page * 4096, 90000 + page);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{200, 201}));

  options.by = ProcessOptions::By::kBreaks;
  Start(options);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{})) << "none since the exporter looks";
  host_.At(301).SetPage(kHeap, 95000);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{301}));
}

TEST_F(ProcessTest, HeldForAWhileAndBounded) {
  for (pid_t i = 1; i <= 6; ++i) AddFamily(i * 100, 32);
  ProcessOptions options;
  options.top = 1;
  options.by = ProcessOptions::By::kBreaks;
  Start(options);
  Pass();
  uint64_t frame = 90000;
  uint64_t breaks = 0;
  // The child of each family overtakes the earlier ones.
  for (pid_t i = 1; i <= 6; ++i) {
    ++breaks;
    for (uint64_t page = 0; page < breaks; ++page) host_.At(i * 100 + 1).SetPage(kHeap + page * 4096, frame++);
    Pass();
    EXPECT_TRUE(Published().contains(i * 100 + 1)) << i;
    EXPECT_LE(Published().size(), 4U) << "four times as many as asked for";
  }
  EXPECT_TRUE(Published().contains(501)) << "fell behind last";
  EXPECT_FALSE(Published().contains(101)) << "fell behind first";

  options.top = 2;
  options.hold = std::chrono::milliseconds(0);
  Start(options);
  Pass();
  for (const pid_t child : {201, 301, 401}) {
    host_.At(child).SetPage(kHeap + uint64_t{31} * 4096, frame++);
    if (child > 201) host_.At(child).SetPage(kHeap + uint64_t{30} * 4096, frame++);
  }
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{301, 401}));
}

TEST_F(ProcessTest, ShorterHoldCountsForThoseWhoAreHeld) {
  for (const pid_t pid : {100, 200}) AddFamily(pid, 8);
  ProcessOptions options;
  options.top = 1;
  options.by = ProcessOptions::By::kBreaks;
  Start(options);
  Pass();
  Break(101, 0);
  Pass();
  for (uint64_t page = 0; page < 2; ++page) Break(201, page);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{101, 201}));
  options_.collector_options.process.hold = std::chrono::milliseconds(0);
  engine_->Reconfigure(options_);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{201}));
}

TEST_F(ProcessTest, CountGoesOnWhereTheProcessIsAmongTheTopAgain) {
  for (const pid_t pid : {100, 200}) AddFamily(pid, 8);
  ProcessOptions options;
  options.top = 1;
  options.by = ProcessOptions::By::kBreaks;
  options.hold = std::chrono::milliseconds(0);
  Start(options);
  Pass();
  for (uint64_t page = 0; page < 2; ++page) Break(101, page);
  Pass();
  EXPECT_EQ(Breaks(101), 2);
  for (uint64_t page = 0; page < 3; ++page) Break(201, page);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{201}));
  Break(101, 2);
  Pass();
  EXPECT_EQ(Published(), (std::set<pid_t>{101}));
  Break(101, 3);
  Pass();
  EXPECT_EQ(Breaks(101), 4);
}

TEST_F(ProcessTest, CountGoesOnWhereTheCollectorIsSwitchedOnAgain) {
  AddFamily(100, 8);
  host_.Fork(100, 102);
  Start({});
  Pass();
  Break(101, 0);
  Break(101, 1);
  Break(102, 2);
  Pass();
  const double before = Breaks(101);
  EXPECT_EQ(before, 2);
  EXPECT_EQ(Breaks(102), 1);
  Switch(false);
  Break(101, 5);
  Pass();
  EXPECT_TRUE(values_.empty());
  // A process ends, and another one takes its place.
  host_.Exit(102);
  Pass();
  host_.Fork(100, 103, 300);
  Pass();
  Break(101, 6);
  Switch(true);
  Pass();
  EXPECT_EQ(Breaks(101), before) << "what happened meanwhile is not counted";
  EXPECT_EQ(Breaks(103), 0);
  EXPECT_FALSE(values_.at("cow_process_breaks_total").contains(102));
  Break(101, 7);
  Break(103, 7);
  Pass();
  EXPECT_EQ(Breaks(101), before + 1);
  EXPECT_EQ(Breaks(103), 1);
}

TEST_F(ProcessTest, CountGoesOnAfterPassesThatWereAbandoned) {
  AddFamily(100, 8);
  Start({});
  Pass();
  Break(101, 0);
  Pass();
  test::Abandon abandon;
  Switch(false);
  EXPECT_FALSE(engine_->RunPass(abandon));
  Switch(true);
  Break(101, 1);
  host_.Sync();
  EXPECT_FALSE(engine_->RunPass(abandon));
  Pass();
  EXPECT_EQ(Breaks(101), 1);
  Break(101, 2);
  Pass();
  EXPECT_EQ(Breaks(101), 2);
}

TEST_F(ProcessTest, CountGoesOnWhereTheFamilyIsTakenInAgain) {
  AddFamily(100, 8);
  Start({});
  Pass();
  Break(101, 0);
  Pass();
  options_.groups.default_name.reset();
  engine_->Reconfigure(options_);
  Pass();
  EXPECT_TRUE(values_.empty());
  Break(101, 1);
  Pass();
  Break(101, 2);
  // Forked and written to between the last pass that left it out and the first one that includes it.
  host_.Fork(100, 102, 300).SetPage(kHeap + uint64_t{3} * 4096, next_frame_++);
  options_.groups = GroupOptions();
  engine_->Reconfigure(options_);
  Pass();
  EXPECT_EQ(Breaks(101), 1);
  EXPECT_EQ(Breaks(102), 0);
  Break(101, 4);
  Break(102, 4);
  Pass();
  EXPECT_EQ(Breaks(101), 2);
  EXPECT_EQ(Breaks(102), 1);
}

}  // namespace
}  // namespace cow::collectors
