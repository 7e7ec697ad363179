#include "collectors/delayacct.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/memory/family/family.h"
#include "tests/support/declared.h"

namespace cow::collectors {
namespace {

using netlink::Executable;
using netlink::TaskEnd;
using netlink::TaskStats;

constexpr Executable kProgram{1, 10};
constexpr Executable kOtherProgram{1, 11};

// A fake kernel.
struct FakeKernel {
  bool accounting = true;
  std::map<pid_t, uint64_t> copied;
  std::map<pid_t, TaskStats> first_threads;
  std::vector<TaskEnd> ends;
  uint64_t lost = 0;
  uint64_t now = 1'000'000;  // seconds

  // Ends a thread that is not the last one. If `pid` equals `process`, it is the first one.
  void EndThread(pid_t pid, pid_t process, uint64_t pages, bool forked_only = true) {
    ends.push_back({{pid, process, 0, forked_only, false, kProgram, now, pages}, std::nullopt});
  }
  // Ends the last thread. `all`: the kernel's own sum, if the process had other threads.
  TaskEnd& EndProcess(pid_t process, pid_t parent, uint64_t pages, std::optional<uint64_t> all = std::nullopt) {
    copied.erase(process);
    const auto thread = first_threads.extract(process);
    const uint64_t begin = thread.empty() ? now : thread.mapped().begin_seconds;
    ends.push_back({{process, process, parent, true, true, kProgram, begin, pages}, all});
    return ends.back();
  }
};

class FakeTaskstats : public netlink::Taskstats {
 public:
  explicit FakeTaskstats(FakeKernel& kernel) : kernel_(kernel) {}

  bool AccountingIsOn() override { return kernel_.accounting; }
  Result<uint64_t> CopiedPages(pid_t process) override { return Find(kernel_.copied, process); }
  Result<TaskStats> FirstThread(pid_t process) override { return Find(kernel_.first_threads, process); }
  void TakeEnds(std::vector<TaskEnd>& ends) override {
    ends.insert(ends.end(), kernel_.ends.begin(), kernel_.ends.end());
    kernel_.ends.clear();
  }
  uint64_t lost() const override { return kernel_.lost; }

 private:
  template <class T>
  static Result<T> Find(const std::map<pid_t, T>& values, pid_t pid) {
    const auto found = values.find(pid);
    if (found == values.end()) return tl::unexpected(Error::FromErrno("taskstats", ESRCH));
    return found->second;
  }

  FakeKernel& kernel_;
};

// Families in groups of their own, named by the family's number.
class DelayacctTest : public testing::Test {
 protected:
  DelayacctTest() : DelayacctTest(true) {}
  explicit DelayacctTest(bool has_source) { Switch(has_source); }

  void Switch(bool has_source = true) {
    collector_.reset();
    const CollectorContext context{procfs::Root(), {}, {}, totals_};
    collector_ = MakeDelayacct(context, has_source ? std::make_unique<FakeTaskstats>(kernel_) : nullptr);
  }

  // Adds a living process, in a new family or in another process' family.
  void Add(pid_t pid, uint64_t copied, uint64_t family = 0) {
    auto process = std::make_shared<memory::Process>();
    process->pid = pid;
    process->start_ticks = ++starts_;
    process->baseline = passes_ == 0;
    auto member = std::make_unique<memory::Member>();
    member->process = process;
    FamilyOf(family == 0 ? static_cast<uint64_t>(pid) : family).members.push_back(std::move(member));
    kernel_.copied[pid] = copied;
    kernel_.first_threads[pid] = {pid, pid, 0, true, false, kProgram, kernel_.now, copied};
  }
  // Removes a process from the list. Its family is still shown in the pass that notices the end.
  void Remove(pid_t pid) {
    for (auto& [id, family] : families_) {
      std::erase_if(family->members, [pid](const auto& member) { return member->process->pid == pid; });
    }
  }

  void Show() {
    for (auto& [id, family] : families_) {
      Group& group = groups_[group_of_.contains(id) ? group_of_.at(id) : std::to_string(id)];
      group.counters.resize(collector_->counters());
      group.gauges.assign(collector_->gauges(), 0);
      collector_->OnPass({family.get(), {}}, {group.gauges, group.counters});
    }
  }
  void Pass() {
    Show();
    collector_->OnPassEnd();
    ++passes_;
    std::vector<GroupSums> sums;
    for (const auto& [name, group] : groups_) sums.push_back({name, group.gauges, group.counters});
    published_.clear();
    std::vector<const Metric*> declared;
    MetricWriter writer(published_, declared);
    collector_->Publish(sums, writer);
    for (const prometheus::MetricFamily& family : published_) EXPECT_EQ(test::Undeclared(family, declared), "");
  }

  std::optional<double> Value(const std::string& name, const std::string& label = "") const {
    for (const prometheus::MetricFamily& family : published_) {
      if (family.name != name) continue;
      for (const prometheus::ClientMetric& metric : family.metric) {
        if (label.empty() ? !metric.label.empty() : metric.label.front().value != label) continue;
        return family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value;
      }
    }
    return std::nullopt;
  }
  std::optional<double> Copies(const std::string& group) const { return Value("cow_kernel_copies_total", group); }
  std::optional<double> UnseenForks(const std::string& group) const { return Value("cow_unseen_forks_total", group); }
  std::optional<double> Uncredited(const std::string& reason) const {
    return Value("cow_delayacct_uncredited_copies_total", reason);
  }
  // Moves a process to another group.
  void Move(uint64_t family, std::string group) { group_of_[family] = std::move(group); }
  void EndFamily(uint64_t family) { families_.erase(family); }
  // Moves the counters to another place and returns the old one.
  const std::vector<uint64_t>& MoveCounters(const std::string& name) {
    moved_ = groups_.at(name).counters;
    std::swap(moved_, groups_.at(name).counters);
    return moved_;
  }

  FakeKernel kernel_;
  std::shared_ptr<std::vector<uint64_t>> totals_ = std::make_shared<std::vector<uint64_t>>();
  std::unique_ptr<CollectorWithHooks> collector_;

 private:
  struct Group {
    std::vector<int64_t> gauges;
    std::vector<uint64_t> counters;
  };

  memory::Family& FamilyOf(uint64_t id) {
    auto& family = families_[id];
    if (family == nullptr) family = std::make_unique<memory::Family>(id, 512, Pfn(3), nullptr);
    return *family;
  }

  std::map<uint64_t, std::unique_ptr<memory::Family>> families_;
  std::map<std::string, Group> groups_;
  std::map<uint64_t, std::string> group_of_;
  std::vector<uint64_t> moved_;
  std::vector<prometheus::MetricFamily> published_;
  uint64_t starts_ = 0;
  int passes_ = 0;
};

class WithoutSourceTest : public DelayacctTest {
 protected:
  WithoutSourceTest() : DelayacctTest(false) {}
};

TEST_F(WithoutSourceTest, NothingIsPublished) {
  Add(100, 5);
  Pass();
  EXPECT_EQ(collector_->capability(), false);
  for (const char* name : {"cow_kernel_copies_total", "cow_unseen_forks_total"}) EXPECT_FALSE(Value(name, "100"));
  EXPECT_FALSE(Value("cow_delayacct_lost_records_total"));
}

TEST_F(DelayacctTest, CountsWhatIsNewSinceTheBaseline) {
  Add(100, 1000);
  Pass();
  EXPECT_EQ(collector_->capability(), true);
  EXPECT_EQ(Copies("100"), 0);
  kernel_.copied[100] = 1010;
  Add(200, 30);
  Pass();
  EXPECT_EQ(Copies("100"), 10);
  EXPECT_EQ(Copies("200"), 30);  // it is younger than the exporter
}

TEST_F(DelayacctTest, RecordBringsWhatCameAfterTheLastLook) {
  Add(100, 1000);
  Pass();
  kernel_.copied[100] = 1010;
  Pass();
  kernel_.EndProcess(100, 1, 1025);
  Remove(100);
  Pass();
  EXPECT_EQ(Copies("100"), 25);
  Pass();
  EXPECT_EQ(Copies("100"), 25);
  EXPECT_EQ(UnseenForks("100"), 0);
}

// The process was listed but had ended when its copies were read.
TEST_F(DelayacctTest, ProcessThatEndsDuringThePassIsCountedByItsRecord) {
  Pass();
  Add(100, 0);
  kernel_.EndProcess(100, 1, 40);
  Pass();
  EXPECT_EQ(Copies("100"), 40);
}

TEST_F(DelayacctTest, RecordsOfThreadsAreInTheProcessSum) {
  Add(1, 0);
  Pass();
  Add(100, 10);
  Pass();
  kernel_.EndThread(101, 100, 7);
  kernel_.copied[100] = 17;
  Pass();
  EXPECT_EQ(Copies("100"), 17);
  kernel_.EndThread(102, 100, 5);
  kernel_.EndProcess(100, 1, 12, 24);
  Remove(100);
  Pass();
  EXPECT_EQ(Copies("100"), 24);
}

// The last two threads ended at once: the kernel's sum lacks one of them, and its record comes late.
TEST_F(DelayacctTest, ThreadThatTheKernelsSumLacksIsCounted) {
  Add(1, 0);
  Pass();
  Add(100, 10);
  Pass();
  kernel_.EndProcess(100, 1, 12, 12);
  kernel_.EndThread(101, 100, 7);
  Remove(100);
  Pass();
  EXPECT_EQ(Copies("100"), 19);
}

// An ending thread briefly counts twice.
TEST_F(DelayacctTest, SumThatShrinksIsNotCountedTwice) {
  Add(100, 0);
  Pass();
  kernel_.copied[100] = 50;
  Pass();
  kernel_.copied[100] = 40;
  Pass();
  kernel_.copied[100] = 60;
  Pass();
  EXPECT_EQ(Copies("100"), 60);
}

TEST_F(DelayacctTest, UnseenChildIsItsParentsFamilys) {
  Add(100, 0);
  Add(200, 0, 100);
  Pass();
  kernel_.EndProcess(300, 200, 50);
  Pass();
  EXPECT_EQ(Copies("100"), 50);
  EXPECT_EQ(UnseenForks("100"), 1);
}

TEST_F(DelayacctTest, UnseenChildOfAnEndedParentIsCounted) {
  Add(100, 0);
  Pass();
  kernel_.EndProcess(300, 100, 50);
  kernel_.EndProcess(100, 1, 3);
  Remove(100);
  Pass();
  EXPECT_EQ(Copies("100"), 53);
  EXPECT_EQ(UnseenForks("100"), 1);
}

TEST_F(DelayacctTest, ChainOfUnseenChildrenIsFollowed) {
  Add(100, 0);
  Pass();
  kernel_.EndProcess(302, 301, 5);
  kernel_.EndProcess(301, 300, 6);
  kernel_.EndProcess(300, 100, 7);
  Pass();
  EXPECT_EQ(Copies("100"), 18);
  EXPECT_EQ(UnseenForks("100"), 3);
}

TEST_F(DelayacctTest, UnseenChildWaitsForItsParentToBeSeen) {
  Add(100, 0);
  Pass();
  kernel_.EndProcess(301, 300, 50);
  Pass();
  EXPECT_EQ(UnseenForks("100"), 0);
  Add(300, 2, 100);
  Pass();
  EXPECT_EQ(Copies("100"), 52);
  EXPECT_EQ(UnseenForks("100"), 1);
}

TEST_F(DelayacctTest, UnknownParentsAreNotGuessedAt) {
  Add(1, 0);
  Pass();
  kernel_.first_threads[1].executable = kOtherProgram;
  kernel_.EndProcess(300, 1, 50);   // an orphan: its first parent is unknown
  kernel_.EndProcess(301, 999, 7);  // no process with that pid appears
  Pass();
  EXPECT_EQ(Uncredited("parent"), 50);
  Pass();
  EXPECT_EQ(Uncredited("parent"), 57);
  EXPECT_EQ(Uncredited("exec"), 0);
  EXPECT_EQ(Copies("1"), std::nullopt);
  EXPECT_EQ(UnseenForks("1"), 0);
}

TEST_F(DelayacctTest, UnseenProgramsAndTheirForksAreNoForks) {
  Add(100, 1);
  Pass();
  kernel_.EndProcess(301, 300, 5);
  kernel_.EndProcess(300, 100, 7).task.forked_only = false;
  Pass();
  EXPECT_EQ(Uncredited("exec"), 7);
  EXPECT_EQ(Uncredited("parent"), 5);
  EXPECT_EQ(Copies("100"), 0);
  EXPECT_EQ(UnseenForks("100"), 0);
}

// The first thread's record shows the origin; later threads of an exec'ed process were cloned too.
TEST_F(DelayacctTest, FirstThreadTellsOfAnExec) {
  Add(100, 1);
  Pass();
  kernel_.EndThread(300, 300, 1, false);
  kernel_.EndProcess(300, 100, 2, 3).task.pid = 301;
  kernel_.EndThread(400, 400, 10, true);
  kernel_.EndProcess(400, 100, 20, 30).task.pid = 401;
  kernel_.EndProcess(500, 100, 40).task.pid = 501;  // the record of its first thread was lost
  Pass();
  EXPECT_EQ(Uncredited("exec"), 3);
  EXPECT_EQ(Uncredited("parent"), 40);
  EXPECT_EQ(Copies("100"), 30);
  EXPECT_EQ(UnseenForks("100"), 1);
}

// A pid is reused for an unseen child while its former owner was seen.
TEST_F(DelayacctTest, NumberUsedAgainIsAnotherProcess) {
  Add(100, 0);
  Pass();
  Add(200, 5, 100);
  Pass();
  kernel_.EndProcess(200, 100, 8);
  kernel_.EndProcess(200, 100, 30);
  Remove(200);
  Pass();
  EXPECT_EQ(Copies("100"), 38);
  EXPECT_EQ(UnseenForks("100"), 1);

  // Here the later process is seen and continues to live.
  kernel_.EndProcess(200, 100, 4);
  kernel_.now += 5;
  Add(200, 1, 100);
  Pass();
  EXPECT_EQ(Copies("100"), 43);
  EXPECT_EQ(UnseenForks("100"), 2);
  kernel_.EndProcess(200, 100, 3);
  Remove(200);
  Pass();
  EXPECT_EQ(Copies("100"), 45);
  EXPECT_EQ(UnseenForks("100"), 2);
}

TEST_F(DelayacctTest, WhatEndedBeforeTheFirstLookIsOlder) {
  Add(100, 0);
  kernel_.EndProcess(300, 100, 50);
  Pass();
  Pass();
  EXPECT_EQ(UnseenForks("100"), 0);
}

TEST_F(DelayacctTest, WithoutAccountingCopiesAreUnknownAndForksAreNot) {
  kernel_.accounting = false;
  Add(100, 0);
  Pass();
  kernel_.EndProcess(300, 100, 0);
  Pass();
  EXPECT_EQ(collector_->capability(), false);
  EXPECT_EQ(Copies("100"), std::nullopt);
  EXPECT_EQ(Uncredited("parent"), std::nullopt);
  EXPECT_EQ(UnseenForks("100"), 1);
}

// A process that started before accounting was on never shows a copy, so no zero is published for it.
TEST_F(DelayacctTest, ProcessesThatStartedWithoutAccountingAreUncounted) {
  const char* uncounted = "cow_delayacct_uncounted_processes";
  kernel_.accounting = false;
  Add(100, 0);
  Pass();
  kernel_.accounting = true;
  Add(200, 0);  // whether before or after is unknown
  Pass();
  Add(300, 0);
  Pass();
  EXPECT_EQ(collector_->capability(), true);
  Add(400, 0);
  Pass();
  EXPECT_EQ(Copies("100"), std::nullopt);
  EXPECT_EQ(Copies("200"), std::nullopt);
  EXPECT_EQ(Copies("300"), std::nullopt);
  EXPECT_EQ(Copies("400"), 0);
  EXPECT_EQ(Value(uncounted, "300"), 1);
  EXPECT_EQ(Value(uncounted, "400"), 0);
  kernel_.copied[300] = 4;  // so it is accounted
  Pass();
  EXPECT_EQ(Copies("300"), 4);
  EXPECT_EQ(Value(uncounted, "300"), 0);
}

TEST_F(DelayacctTest, LostRecordsArePublished) {
  kernel_.lost = 12;
  Add(100, 0);
  Pass();
  EXPECT_EQ(Value("cow_delayacct_lost_records_total"), 12);
}

TEST_F(DelayacctTest, TotalsGoOnWhereItIsSwitchedOnAgain) {
  Add(1, 0);
  Pass();
  kernel_.first_threads[1].executable = kOtherProgram;
  kernel_.EndProcess(300, 1, 50);
  kernel_.EndProcess(301, 1, 7).task.forked_only = false;
  kernel_.lost = 12;
  Pass();
  kernel_.lost = 13;
  Pass();
  // A new connection that has not lost a record yet.
  kernel_.lost = 0;
  Switch();
  Pass();
  EXPECT_EQ(Uncredited("parent"), 50);
  EXPECT_EQ(Uncredited("exec"), 7);
  EXPECT_EQ(Value("cow_delayacct_lost_records_total"), 13);
  kernel_.EndProcess(302, 1, 5);
  kernel_.EndProcess(303, 1, 2).task.forked_only = false;
  kernel_.lost = 4;
  Pass();
  EXPECT_EQ(Uncredited("parent"), 55);
  EXPECT_EQ(Uncredited("exec"), 9);
  EXPECT_EQ(Value("cow_delayacct_lost_records_total"), 17);
}

TEST_F(DelayacctTest, WhatWasCopiedWhileItWasOffIsNotCounted) {
  Add(1, 0);
  Pass();
  Add(100, 10);  // younger than the exporter
  Pass();
  EXPECT_EQ(Copies("100"), 10);
  Switch();
  kernel_.copied[100] = 15;
  kernel_.EndProcess(300, 100, 50);
  Pass();
  EXPECT_EQ(Copies("100"), 10);
  EXPECT_EQ(UnseenForks("100"), 0);
  kernel_.copied[100] = 18;
  Pass();
  EXPECT_EQ(Copies("100"), 13);
}

// Once a process is known to be accounted, its copies count in any group.
TEST_F(DelayacctTest, CopiesAreKnownInTheGroupThatAFamilyMovesTo) {
  Add(100, 1000);
  Pass();
  kernel_.copied[100] = 1010;
  Move(100, "other");
  Pass();
  EXPECT_EQ(Copies("other"), 10);
  EXPECT_EQ(Copies("100"), 0);
}

// Other collectors have changed the engine's layout of counters, and the family has ended.
TEST_F(DelayacctTest, CountersOfAnAbandonedPassAreNotCountedInto) {
  Add(100, 0);
  Pass();
  Show();
  EndFamily(100);
  collector_->SetOptions({});
  const std::vector<uint64_t>& old = MoveCounters("100");
  kernel_.EndProcess(300, 100, 50);
  kernel_.EndProcess(100, 1, 7);
  Pass();
  EXPECT_EQ(old, std::vector<uint64_t>(collector_->counters(), 0));
  EXPECT_EQ(UnseenForks("100"), 0);
}

}  // namespace
}  // namespace cow::collectors
