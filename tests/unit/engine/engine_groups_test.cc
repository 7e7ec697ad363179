// Tests of groups by rules and of new options between passes, on a fake host.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/collector.h"
#include "collectors/engine/engine.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"

namespace cow::collectors {
namespace {

using Kind = GroupNamePart::Kind;
using test::Labels;

constexpr uint64_t kHeap = 0x10000000;
constexpr double kPage = 4096;

GroupName Fixed(std::string name) { return {{Kind::kText, std::move(name)}}; }

class Control : public PassControl {
 public:
  explicit Control(bool go_on = true) : go_on_(go_on) {}
  bool Continue() override { return go_on_; }

 private:
  bool go_on_;
};

class EngineGroupsTest : public testing::Test {
 protected:
  EngineGroupsTest() {
    options_.collectors = {"cow", "faults", "sharing"};
    options_.full_every = std::chrono::hours(1);
    host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\n");
  }

  void Start() {
    host_.Sync();
    engine_ = std::make_unique<Engine>(host_.Root(), options_);
  }
  void Pass() {
    host_.Sync();
    Control control;
    ASSERT_TRUE(engine_->RunPass(control));
    families_ = test::CollectDeclared(*engine_);
  }
  void AbandonPass() {
    host_.Sync();
    Control control(false);
    ASSERT_FALSE(engine_->RunPass(control));
  }
  void Reconfigure() { engine_->Reconfigure(options_); }

  std::optional<double> Value(const std::string& name, const Labels& labels) const {
    return test::ValueOf(families_, name, labels);
  }
  std::optional<double> Processes(const std::string& group) const { return Value("cow_processes", {{"group", group}}); }
  std::optional<double> Faults(const std::string& group) const {
    return Value("cow_minor_faults_total", {{"group", group}});
  }
  // Ended children.
  uint64_t Lives(const std::string& group) const {
    for (const prometheus::MetricFamily& family : families_) {
      if (family.name != "cow_fork_break_bytes") continue;
      for (const prometheus::ClientMetric& metric : family.metric) {
        if (metric.label.front().value == group) return metric.histogram.sample_count;
      }
    }
    return 0;
  }
  std::optional<double> ChildBreaks(const std::string& group) const {
    return Value("cow_breaks_total", {{"group", group}, {"side", "child"}});
  }
  std::optional<double> ExposurePages(const std::string& group) const {
    const auto bytes = Value("cow_exposure_bytes", {{"group", group}});
    return bytes ? std::optional(*bytes / kPage) : std::nullopt;
  }
  GroupRule& AddRule(GroupName name) {
    options_.groups.rules.emplace_back().name = std::move(name);
    return options_.groups.rules.back();
  }
  // Adds a parent with eight heap pages, shared with a child that exists from the start.
  void AddPair() {
    host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
    host_.Fork(100, 101);
  }
  std::optional<double> Forks(const std::string& group) const { return Value("cow_forks_total", {{"group", group}}); }
  void BreakOne(uint64_t page, uint64_t frame) {
    host_.At(101).SetPage(kHeap + page * static_cast<uint64_t>(kPage), frame);
    ++host_.At(101).minor_faults;
  }

  test::FixtureHost host_;
  EngineOptions options_;
  std::unique_ptr<Engine> engine_;
  std::vector<prometheus::MetricFamily> families_;
};

TEST_F(EngineGroupsTest, RulesAreAskedOfTheRoot) {
  AddPair();
  host_.At(100).command_line = std::string("app\0--port\0007001\0\0\0", 18);
  host_.At(100).uid = 4242;
  host_.At(100).cgroup = "0::/system.slice/app.service\n";
  host_.At(101).comm = "worker";
  GroupRule& rule = AddRule(
      {{Kind::kMatch, "port"}, {Kind::kText, "/"}, {Kind::kUsername, ""}, {Kind::kText, "/"}, {Kind::kUnit, ""}});
  rule.comm = {"app"};
  rule.exe = {"/usr/bin/app"};
  rule.cmdline = {R"(^app --port (?P<port>\d+)$)"};
  rule.user = {"4242"};
  rule.cgroup = {"^/system"};
  rule.unit = {"app.service"};
  Start();
  Pass();
  EXPECT_EQ(Processes("7001/4242/app.service"), 2);
  EXPECT_EQ(Processes("app"), std::nullopt);
}

TEST_F(EngineGroupsTest, JudgedAgainAfterExecAndRename) {
  host_.Add(100).MapPages(kHeap, 1, 1000);
  AddRule(Fixed("second")).exe = {"second"};
  AddRule(Fixed("renamed")).comm = {"other"};
  Start();
  Pass();
  EXPECT_EQ(Processes("app"), 1);
  EXPECT_EQ(Processes("second"), 0);
  host_.Exec(100, 0x900000).exe = "/bin/second";
  Pass();
  EXPECT_EQ(Processes("second"), 1);
  EXPECT_EQ(Processes("app"), 0);
  host_.At(100).comm = "other";
  host_.At(100).exe = "/bin/third";  // not read again: the program is the same
  Pass();
  EXPECT_EQ(Processes("second"), 1);
}

// Servers write their state into their command line after the start, some of them repeatedly.
class CommandLineTest : public EngineGroupsTest {
 protected:
  CommandLineTest() {
    AddPair();
    host_.At(100).command_line = "app /etc/app.conf";
    host_.At(100).minor_faults = 1000;
    GroupRule& rule = AddRule({{Kind::kText, "port-"}, {Kind::kMatch, "port"}});
    rule.comm = {"app"};
    rule.cmdline = {R"(:(?P<port>\d+)( |$))"};
  }
  // Longer than the pause between the first and the second reading.
  static void WaitForTheSecondLook() { std::this_thread::sleep_for(std::chrono::milliseconds(1050)); }
};

TEST_F(CommandLineTest, RewrittenSoonAfterTheFirstLook) {
  Start();
  Pass();
  EXPECT_EQ(Processes("app"), 2);
  const double faults = Faults("app").value_or(0);
  host_.At(100).command_line = "app ::1:7001";
  host_.At(100).minor_faults += 10;
  Pass();
  EXPECT_EQ(Processes("app"), 2) << "not looked at so soon";
  WaitForTheSecondLook();
  host_.At(100).minor_faults += 100;
  Pass();
  EXPECT_EQ(Processes("port-7001"), 2);
  EXPECT_EQ(Processes("app"), 0);
  // Earlier counts stay in the old group; later ones belong to the new group.
  EXPECT_EQ(Faults("app"), faults + 10);
  EXPECT_EQ(Faults("port-7001"), 100);
}

TEST_F(CommandLineTest, EachPassWhereEverythingIsReadInEachPass) {
  options_.full_every = std::chrono::milliseconds(0);
  Start();
  Pass();
  WaitForTheSecondLook();
  for (const std::string port : {"7001", "7002", "7003"}) {
    host_.At(100).command_line = "app *:" + port + " [cluster]";
    Pass();
    EXPECT_EQ(Processes("port-" + port), 2);
  }
}

TEST_F(CommandLineTest, SurvivorOfTheRootKeepsTheGroupUntilItRewritesItsOwn) {
  options_.full_every = std::chrono::milliseconds(0);
  host_.At(100).command_line = "app *:7001";
  host_.At(101).command_line = "app: worker";
  Start();
  Pass();
  EXPECT_EQ(Processes("port-7001"), 2);
  WaitForTheSecondLook();
  host_.Exit(100);
  Pass();
  EXPECT_EQ(Processes("port-7001"), 1);
  Pass();
  EXPECT_EQ(Processes("port-7001"), 1);
  host_.At(101).command_line = "app *:7002";
  Pass();
  EXPECT_EQ(Processes("port-7002"), 1);
}

TEST_F(CommandLineTest, NotReadAgainWhereNoRuleAskedForIt) {
  options_.full_every = std::chrono::milliseconds(0);
  options_.groups.rules.front().comm = {"another"};
  Start();
  Pass();
  WaitForTheSecondLook();
  host_.At(100).command_line = "app *:7001";
  Pass();
  EXPECT_EQ(Processes("app"), 2);
}

// Neither a process name nor a rule can put a family into the overflow group.
TEST_F(EngineGroupsTest, NoProcessIsInTheGroupOfThoseBeyondTheLimit) {
  options_.max_groups = 2;
  host_.Add(100).comm = "_other";
  host_.Add(200).comm = "ruled";
  host_.At(200).layout = 0x800000;
  host_.Add(300).comm = "third";
  host_.At(300).layout = 0x900000;
  AddRule(Fixed("_other")).comm = {"ruled"};
  Start();
  Pass();
  EXPECT_EQ(Processes("_other_"), 2);
  EXPECT_EQ(Processes("_other"), std::nullopt);
  host_.Add(400).comm = "fourth";
  host_.At(400).layout = 0xa00000;
  Pass();
  Pass();  // a group of single processes is exported from its second pass on
  EXPECT_EQ(Processes("_other_"), 2);
  EXPECT_EQ(Processes("_other"), 1);
}

TEST_F(EngineGroupsTest, GroupWithoutProcessIsExported) {
  AddPair();
  AddRule(Fixed("none")).comm = {"nothing"};
  AddRule({{Kind::kText, "x-"}, {Kind::kComm, ""}}).comm = {"nothing"};
  Start();
  Pass();
  EXPECT_EQ(Processes("none"), 0);
  EXPECT_EQ(ChildBreaks("none"), 0);
  EXPECT_EQ(
      Value("cow_group_info", {{"group", "none"}, {"unit", ""}, {"container_id", ""}, {"pod_uid", ""}, {"exe", ""}}),
      1);
  EXPECT_EQ(Processes("x-nothing"), std::nullopt);
}

TEST_F(EngineGroupsTest, DroppedFamiliesAreNotReadNorExported) {
  AddPair();
  host_.Add(200).MapPages(kHeap, 4, 2000);
  host_.At(200).comm = "kept";
  host_.At(200).layout = 0x800000;
  options_.groups.default_name.reset();
  AddRule(Fixed("kept")).comm = {"kept"};
  Start();
  Pass();
  EXPECT_EQ(Processes("kept"), 1);
  EXPECT_EQ(Processes("app"), std::nullopt);
  EXPECT_EQ(ExposurePages("kept"), 0);
  const auto pages = Value("cow_scan_pages_total", {});
  EXPECT_EQ(Value("cow_ledger_bytes", {}), 0);
  BreakOne(0, 3000);
  Pass();
  EXPECT_EQ(Value("cow_scan_pages_total", {}), pages);
  host_.Fork(100, 102, 300);
  Pass();
  host_.Exit(102);
  Pass();
  // Included again: breaks in between are not counted, later ones are.
  options_.groups.default_name = Fixed("rest");
  Reconfigure();
  Pass();
  EXPECT_EQ(Processes("rest"), 2);
  EXPECT_EQ(ExposurePages("rest"), 7);
  EXPECT_EQ(ChildBreaks("rest"), 0);
  EXPECT_EQ(Faults("rest"), 0);
  BreakOne(1, 3001);
  Pass();
  EXPECT_EQ(ChildBreaks("rest"), 1);
  EXPECT_EQ(Faults("rest"), 1);
  // Left out again: its records are dropped, and its group stays exported.
  EXPECT_GT(Value("cow_ledger_bytes", {}), 0);
  options_.groups.default_name.reset();
  Reconfigure();
  Pass();
  Pass();
  EXPECT_EQ(Value("cow_ledger_bytes", {}), 0);
  EXPECT_EQ(Processes("rest"), 0);
  EXPECT_EQ(ExposurePages("rest"), 0);
  EXPECT_EQ(ChildBreaks("rest"), 1);
}

// Breaks while a family is left out are not counted, even if no pass has seen them.
TEST_F(EngineGroupsTest, FamilyThatIsTakenInAgainIsBaseline) {
  AddPair();
  Start();
  Pass();
  host_.Fork(100, 102, 300);
  Pass();
  EXPECT_EQ(Forks("app"), 1);
  options_.groups.default_name.reset();
  Reconfigure();
  host_.Fork(100, 103, 400);
  Pass();
  host_.Fork(100, 104, 500);
  BreakOne(0, 3000);
  Pass();
  host_.Exit(102);
  Pass();
  host_.Exit(104);
  host_.Fork(100, 105, 600).SetPage(kHeap + 4096, 3001);
  BreakOne(1, 3002);
  options_.groups = GroupOptions();
  Reconfigure();
  AbandonPass();
  BreakOne(2, 3003);
  Pass();
  EXPECT_EQ(Processes("app"), 4);
  EXPECT_EQ(Forks("app"), 1);
  EXPECT_EQ(ChildBreaks("app"), 0);
  EXPECT_EQ(Faults("app"), 0);
  for (const char* cause : {"exit", "unmap", "collapse", "unknown"}) {
    EXPECT_EQ(Value("cow_unshared_bytes_total", {{"group", "app"}, {"cause", cause}}), 0) << cause;
  }
  EXPECT_EQ(Value("cow_unattributed_bytes_total", {{"group", "app"}}), 0);
  // From now on everything is counted. The cost of a child is unknown if part of its life was not scanned.
  host_.Fork(100, 106, 700);
  BreakOne(3, 3004);
  host_.Exit(103);
  Pass();
  host_.Exit(106);
  Pass();
  EXPECT_EQ(Forks("app"), 2);
  EXPECT_EQ(ChildBreaks("app"), 1);
  EXPECT_EQ(Faults("app"), 1);
  EXPECT_EQ(Lives("app"), 1U);
}

TEST_F(EngineGroupsTest, NewRulesMoveFamiliesAndNoCount) {
  AddPair();
  Start();
  Pass();
  BreakOne(0, 3000);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 1);
  AddRule(Fixed("named")).comm = {"app"};
  Reconfigure();
  BreakOne(1, 3001);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 1);
  EXPECT_EQ(ChildBreaks("named"), 1);
  EXPECT_EQ(Faults("app"), 1);
  EXPECT_EQ(Faults("named"), 1);
  EXPECT_EQ(Processes("app"), 0);
  EXPECT_EQ(Processes("named"), 2);
  EXPECT_EQ(ExposurePages("app"), 0);
  EXPECT_EQ(ExposurePages("named"), 6);
  options_.groups.rules.clear();
  Reconfigure();
  BreakOne(2, 3002);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 2);
  EXPECT_EQ(ChildBreaks("named"), 1);
}

TEST_F(EngineGroupsTest, NewRulesAfterAnAbandonedPass) {
  AddPair();
  Start();
  Pass();
  BreakOne(0, 3000);
  AbandonPass();
  AddRule(Fixed("named")).comm = {"app"};
  Reconfigure();
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 0);
  EXPECT_EQ(ChildBreaks("named"), 1);
  EXPECT_EQ(ExposurePages("named"), 7);
}

TEST_F(EngineGroupsTest, CollectorsSwitchedOffAndOnGoOn) {
  AddPair();
  Start();
  Pass();
  host_.Fork(100, 102, 300);
  BreakOne(0, 3000);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 1);
  EXPECT_EQ(Faults("app"), 1);
  EXPECT_EQ(Value("cow_forks_total", {{"group", "app"}}), 1);
  const auto exposure = ExposurePages("app");
  options_.collectors = {"sharing"};
  Reconfigure();
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(ExposurePages("app"), exposure);
  EXPECT_EQ(ChildBreaks("app"), std::nullopt);
  EXPECT_EQ(Faults("app"), std::nullopt);
  BreakOne(1, 3001);
  Pass();
  options_.collectors = {"faults", "thp", "cow", "sharing"};
  Reconfigure();
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(ExposurePages("app"), *exposure - 1);
  EXPECT_EQ(ChildBreaks("app"), std::nullopt);  // its sums are incomplete before a pass
  AbandonPass();
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(ChildBreaks("app"), std::nullopt);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 1);  // breaks while it was off are not counted
  EXPECT_EQ(Faults("app"), 1);
  EXPECT_EQ(Value("cow_forks_total", {{"group", "app"}}), 1);
  EXPECT_EQ(Value("cow_unresolved_bytes", {{"group", "app"}}), 0);
  EXPECT_EQ(ExposurePages("app"), *exposure - 1);
  BreakOne(2, 3002);
  host_.Fork(100, 103, 400);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 2);
  EXPECT_EQ(Faults("app"), 2);
  EXPECT_EQ(Value("cow_forks_total", {{"group", "app"}}), 2);
}

TEST_F(EngineGroupsTest, WhatIsFirstSeenByACollectorSwitchedOnIsBaseline) {
  AddPair();
  Start();
  Pass();
  options_.collectors = {"sharing"};
  Reconfigure();
  Pass();
  BreakOne(0, 3000);
  host_.Fork(100, 102, 300).SetPage(kHeap + 4096, 3001);
  options_.collectors = {"cow", "faults", "sharing"};
  Reconfigure();
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 0);
  EXPECT_EQ(Faults("app"), 0);
  EXPECT_EQ(Forks("app"), 0);
  BreakOne(2, 3002);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 1);
  EXPECT_EQ(Faults("app"), 1);
}

constexpr Metric kPasses{
    .name = "passes", .type = prometheus::MetricType::Counter, .help = "Passes.", .of_groups = false};

// Counts its passes in no group.
class PassCounter : public CollectorWithHooks {
 public:
  explicit PassCounter(const CollectorContext& context)
      : CollectorWithHooks(context.geometry), totals_(context.totals) {
    totals_->resize(1, 0);
  }
  void OnPassEnd() override { ++totals_->front(); }
  void Publish(std::span<const GroupSums> /*groups*/, MetricWriter& writer) const override {
    writer.Begin(kPasses);
    writer.Add({}, static_cast<double>(totals_->front()));
  }

 private:
  std::shared_ptr<std::vector<uint64_t>> totals_;
};

TEST_F(EngineGroupsTest, TotalsOfACollectorAreKept) {
  std::vector<Registration> registry(Registry().begin(), Registry().end());
  for (const char* name : {"first", "second"}) {
    registry.push_back({name, "counts passes", false, [](const CollectorContext& context) {
                          return std::unique_ptr<Collector>(std::make_unique<PassCounter>(context));
                        }});
  }
  AddPair();
  host_.Sync();
  options_.collectors = {"first"};
  engine_ = std::make_unique<Engine>(host_.Root(), options_, registry);
  for (int pass = 0; pass < 3; ++pass) Pass();
  EXPECT_EQ(Value("passes", {}), 3);
  options_.collectors = {"second"};
  Reconfigure();
  Pass();
  EXPECT_EQ(Value("passes", {}), 1);
  options_.collectors = {"first"};
  Reconfigure();
  Pass();
  EXPECT_EQ(Value("passes", {}), 4);
}

TEST_F(EngineGroupsTest, NewCollectorIsShownWhatHasNotChanged) {
  AddPair();
  options_.collectors = {"cow"};
  Start();
  Pass();
  options_.collectors = {"sharing", "cow"};
  Reconfigure();
  EXPECT_EQ(engine_->Families().front().exposure_bytes, std::nullopt) << "not known before a pass";
  Pass();
  EXPECT_EQ(ExposurePages("app"), 8);
  EXPECT_EQ(Value("cow_footprint_bytes", {{"group", "app"}}), 8 * kPage);
}

TEST_F(EngineGroupsTest, BadOptionsChangeNothing) {
  AddPair();
  Start();
  Pass();
  EngineOptions bad = options_;
  bad.collectors = {"nonsense"};
  EXPECT_THROW(engine_->Reconfigure(bad), std::invalid_argument);
  bad = options_;
  bad.groups.rules.emplace_back().cmdline = {"("};
  EXPECT_THROW(engine_->Reconfigure(bad), std::invalid_argument);
  BreakOne(0, 3000);
  Pass();
  EXPECT_EQ(ChildBreaks("app"), 1);
}

TEST_F(EngineGroupsTest, LimitsChange) {
  AddPair();
  for (pid_t pid = 200; pid < 203; ++pid) {
    test::FixtureProcess& process = host_.Add(pid);
    process.comm = "p" + std::to_string(pid);
    process.layout = 0x1000000 * static_cast<uint64_t>(pid);
  }
  options_.threads = 1;
  Start();
  Pass();
  EXPECT_EQ(Processes("p202"), 1);
  options_.max_groups = 2;
  options_.label_value_length = 3;
  options_.threads = 3;
  options_.max_processes = 5;
  options_.ledger_bytes = 0;
  Reconfigure();
  BreakOne(0, 3000);
  host_.Add(300).layout = 0x7000000;
  Pass();
  EXPECT_EQ(Processes("app"), 2);
  EXPECT_EQ(Processes("p202"), std::nullopt);
  EXPECT_EQ(Value("cow_unread_processes", {{"group", "_other"}, {"reason", "budget"}}), 1);
  EXPECT_EQ(ChildBreaks("app"), 1);
  options_.threads = 1;
  options_.max_groups = 10;
  options_.max_processes = 100;
  Reconfigure();
  BreakOne(1, 3001);
  Pass();
  // Without frames the side depends on marks, and forks are unknown on this host.
  EXPECT_EQ(ChildBreaks("app"), 1);
  EXPECT_EQ(Value("cow_breaks_total", {{"group", "app"}, {"side", "unknown"}}), 1);
  EXPECT_EQ(Processes("app"), 3);
  EXPECT_EQ(Processes("p20"), 3);
  EXPECT_GE(engine_->HelperCpuTime().count(), 0);
}

TEST_F(EngineGroupsTest, ProcessesThatAHigherLimitLetsInAreBaseline) {
  AddPair();
  options_.max_processes = 1;
  Start();
  Pass();
  EXPECT_EQ(Processes("app"), 1);
  host_.Fork(100, 102, 300);
  for (const pid_t pid : {101, 102}) host_.At(pid).minor_faults = 50;
  Pass();
  options_.max_processes = 10;
  Reconfigure();
  Pass();
  EXPECT_EQ(Processes("app"), 3);
  EXPECT_EQ(Faults("app"), 0);
  EXPECT_EQ(Forks("app"), 0);
  BreakOne(0, 3000);
  Pass();
  EXPECT_EQ(Faults("app"), 1);
  EXPECT_EQ(ChildBreaks("app"), 1);
}

TEST_F(EngineGroupsTest, GroupsBeyondALowerLimitAreOtherAtOnce) {
  AddPair();
  host_.Add(200).comm = "second";
  host_.At(200).layout = 0x800000;
  Start();
  Pass();
  options_.max_groups = 1;
  Reconfigure();
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(Processes("app"), 2);
  EXPECT_EQ(Processes("second"), std::nullopt);
  EXPECT_EQ(Processes("_other"), 1);
  options_.max_groups = 2;
  Reconfigure();
  Pass();
  EXPECT_EQ(Processes("second"), 1);
  EXPECT_EQ(Processes("_other"), 0);
}

// The first root has ended. By its second root the family would belong to another group.
TEST_F(EngineGroupsTest, LabelsThatAreCutAnewMoveNoFamily) {
  AddPair();
  host_.At(100).exe = "/usr/bin/parent";
  host_.At(101).comm = "worker";
  Start();
  Pass();
  host_.Exit(100);
  Pass();
  EXPECT_EQ(Processes("app"), 1);
  options_.label_value_length = 2;
  Reconfigure();
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(Processes("app"), 1) << "as of the last pass";
  Pass();
  Pass();  // a group of a single process is exported from its second pass on
  EXPECT_EQ(Processes("ap"), 1);
  EXPECT_EQ(Processes("wo"), std::nullopt);
  options_.label_value_length = 100;
  Reconfigure();
  Pass();
  EXPECT_EQ(Processes("app"), 1);
  EXPECT_EQ(Value("cow_group_info",
                  {{"group", "app"}, {"unit", ""}, {"container_id", ""}, {"pod_uid", ""}, {"exe", "/usr/bin/app"}}),
            1);
}

TEST_F(EngineGroupsTest, EverythingIsReadAtOnceWhereItIsToBeReadMoreOften) {
  AddPair();
  Start();
  Pass();
  Pass();
  EXPECT_EQ(Value("cow_scan_skipped_processes", {}), 2);
  options_.full_every = std::chrono::hours(2);
  Reconfigure();
  Pass();
  EXPECT_EQ(Value("cow_scan_skipped_processes", {}), 2);
  options_.full_every = std::chrono::minutes(10);
  Reconfigure();
  Pass();
  EXPECT_EQ(Value("cow_scan_skipped_processes", {}), 0);
  Pass();
  EXPECT_EQ(Value("cow_scan_skipped_processes", {}), 2);
}

class UserTest : public EngineGroupsTest {
 protected:
  UserTest() {
    host_.Add(100).MapPages(kHeap, 1, 1000);
    AddRule(Fixed("service")).user = {"4242"};
  }
  // No other signal of the process moves.
  void SetUser(uint32_t uid) { host_.At(100).uid = uid; }
};

TEST_F(UserTest, AnotherUserIsJudgedAnewWhereSomethingMoved) {
  Start();
  Pass();
  EXPECT_EQ(Processes("app"), 1);
  SetUser(4242);
  ++host_.At(100).minor_faults;
  Pass();
  EXPECT_EQ(Processes("service"), 1);
  EXPECT_EQ(Processes("app"), std::nullopt) << "it ended, and never had a family";
  EXPECT_EQ(Faults("service"), 1);
  SetUser(0);
  ++host_.At(100).minor_faults;
  Pass();
  EXPECT_EQ(Processes("service"), 0);
  EXPECT_EQ(Processes("app"), 1);
}

TEST_F(UserTest, AnotherUserOfAnIdleRootIsSeenWithinTheTimeOfAFullReading) {
  options_.full_every = std::chrono::milliseconds(150);
  Start();
  Pass();
  SetUser(4242);
  std::this_thread::sleep_for(options_.full_every);
  Pass();
  EXPECT_EQ(Processes("service"), 1);
}

TEST_F(UserTest, NewRulesAskForTheUserOfNow) {
  options_.groups.rules.clear();
  Start();
  Pass();
  SetUser(4242);
  Pass();
  EXPECT_EQ(Processes("app"), 1);
  AddRule(Fixed("service")).user = {"4242"};
  Reconfigure();
  Pass();
  EXPECT_EQ(Processes("service"), 1);
}

// The family keeps its group when another process becomes its root, even one of another user.
TEST_F(UserTest, SurvivorOfTheRootKeepsTheGroup) {
  SetUser(4242);
  host_.Fork(100, 101).uid = 33;
  Start();
  Pass();
  EXPECT_EQ(Processes("service"), 2);
  host_.Exit(100);
  Pass();
  EXPECT_EQ(Processes("service"), 1);
}

class StatusCounter : public procfs::Interposer {
 public:
  std::optional<Error> Before(procfs::Access access, const std::string& path) override {
    if (access == procfs::Access::kOpen && path.ends_with("/status")) ++opened;
    return std::nullopt;
  }
  int opened = 0;
};

TEST_F(UserTest, IdleProcessesAreNotAskedInEachPass) {
  for (pid_t pid = 200; pid < 210; ++pid) host_.Add(pid).layout = 0x1000000 * static_cast<uint64_t>(pid);
  host_.Sync();
  const auto counter = std::make_shared<StatusCounter>();
  const procfs::Root root(host_.Root().procfs(), host_.Root().sysfs(), counter);
  engine_ = std::make_unique<Engine>(root, options_);
  for (int pass = 0; pass < 2; ++pass) Pass();
  const int before = counter->opened;
  for (int pass = 0; pass < 5; ++pass) Pass();
  EXPECT_EQ(counter->opened, before);
  // New rules read the user of each root once; rules that do not use the user do not read it.
  options_.groups.rules.back().user = {"33"};
  Reconfigure();
  for (int pass = 0; pass < 3; ++pass) Pass();
  EXPECT_EQ(counter->opened, before + 11);
  options_.groups.rules.back().user.clear();
  options_.groups.rules.back().comm = {"app"};
  Reconfigure();
  Pass();
  EXPECT_EQ(counter->opened, before + 11);
  EXPECT_EQ(Processes("service"), 11);
}

TEST_F(EngineGroupsTest, WhatCantBeReadIsToldOnce) {
  AddPair();
  AddRule(Fixed("a")).cmdline = {"x"};
  Start();
  host_.tree().Remove("proc/100/cmdline");
  host_.tree().MakeDirectory("proc/100/cmdline");
  Control control;
  ASSERT_TRUE(engine_->RunPass(control));
  families_ = test::CollectDeclared(*engine_);
  EXPECT_EQ(Processes("app"), 2);
  EXPECT_EQ(Value("cow_group_keys_unread_total", {{"key", "cmdline"}}), 1);
  const std::vector<ModeNotice> notices = engine_->TakeNotices();
  const auto told = std::find_if(notices.begin(), notices.end(), [](const ModeNotice& n) { return n.mode.empty(); });
  ASSERT_NE(told, notices.end());
  EXPECT_EQ(told->group, "app");
  EXPECT_EQ(told->pid, 100);
  Reconfigure();
  EXPECT_TRUE(engine_->TakeNotices().empty());
}

}  // namespace
}  // namespace cow::collectors
