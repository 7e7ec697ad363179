// Collector `delayacct`: publishes the kernel's own count of pages copied on write (wpcopy_count of taskstats), a
// witness of the breaks that page tables show. It counts more than breaks: the first write to a zero page, or to a
// private file page that was only read before, is a copy too. It also counts the copies of children that live and die
// between two passes, from the records that the kernel sends at their end.
//
// Each pass reads the copies of every process. The record of its end adds the copies since the last pass. A process
// that no pass has seen is credited to the family of its parent if the parent is known and the process ran the parent's
// program; otherwise it counts as uncredited. Pages are base pages.
#include "collectors/delayacct.h"

#include <prometheus/metric_family.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cow::collectors {
namespace {

using netlink::Executable;
using netlink::TaskEnd;
using netlink::TaskStats;
using prometheus::MetricType;

constexpr std::array<std::string_view, 2> kUncreditedReasons{"exec", "parent"};
constexpr std::string_view kNoSource =
    "Without CAP_NET_ADMIN, outside the initial user, PID and network namespaces, and before Linux 5.19.";
constexpr std::string_view kNoAccounting =
    "Without CAP_NET_ADMIN, outside the initial user, PID and network namespaces, before Linux 5.19, and while "
    "kernel.task_delayacct is 0.";

constexpr Metric kUnseenForksTotal{
    .name = "cow_unseen_forks_total",
    .type = MetricType::Counter,
    .unit = "processes",
    .help = "Forked children that lived and ended between two scans.",
    .source = "The kernel's taskstats record of each thread's end.",
    .absent = kNoSource,
};
constexpr Metric kLostRecords{
    .name = "cow_delayacct_lost_records_total",
    .type = MetricType::Counter,
    .unit = "records",
    .help = "Records of ended threads that the kernel dropped because the exporter did not read them in time.",
    .of_groups = false,
    .source = "The drop counter of the netlink socket.",
    .absent = kNoSource,
};
constexpr Metric kKernelCopies{
    .name = "cow_kernel_copies_total",
    .type = MetricType::Counter,
    .unit = "pages",
    .help =
        "Pages that the kernel copied on write, by its own count (wpcopy_count). It counts breaks, and first writes to "
        "zero pages and to private file pages that were read before.",
    .source = "taskstats of each process at each pass, and of each thread at its end. A hugetlb page counts once.",
    .absent =
        "Without CAP_NET_ADMIN, outside the initial user, PID and network namespaces, before Linux 5.19, while "
        "kernel.task_delayacct is 0, and if no process of the group started while accounting was on.",
    .query =
        "rate(cow_kernel_copies_total[5m]) - on (instance, group) sum by (instance, group) "
        "(rate(cow_breaks_total[5m]))",
};
constexpr Metric kUncountedProcesses{
    .name = "cow_delayacct_uncounted_processes",
    .unit = "processes",
    .help =
        "Processes that may have started before delay accounting was on and for which the kernel reports no copy. "
        "cow_kernel_copies_total may lack their copies.",
    .source = "taskstats, and the time when a process was first seen.",
    .absent = kNoAccounting,
};
constexpr Metric kUncreditedCopies{
    .name = "cow_delayacct_uncredited_copies_total",
    .type = MetricType::Counter,
    .unit = "pages",
    .help =
        "Pages copied by processes that no scan saw and that belong to no group, because they ran another program or "
        "their parent is unknown.",
    .labels = {{{"reason", kUncreditedReasons}}},
    .of_groups = false,
    .source = "The kernel's taskstats record of each thread's end.",
    .absent = kNoAccounting,
};

class Delayacct : public CollectorWithHooks {
 public:
  Delayacct(procfs::PageGeometry geometry, Result<std::unique_ptr<netlink::Taskstats>> source,
            std::shared_ptr<std::vector<uint64_t>> totals)
      : CollectorWithHooks(geometry), totals_(std::move(totals)) {
    if (source) {
      source_ = std::move(*source);
    } else {
      limitation_ = source.error().ToString();
    }
    if (totals_ == nullptr) totals_ = std::make_shared<std::vector<uint64_t>>();
    totals_->resize(kTotals, 0);
    accounting_ = source_ != nullptr && source_->AccountingIsOn();
    if (accounting_) accounting_since_ = -1;
  }

  size_t gauges() const override { return 1; }
  size_t counters() const override { return kCounters; }
  std::optional<bool> capability() const override { return accounting_; }
  std::string limitation() const override { return limitation_; }
  // Counters of an abandoned pass may have moved.
  void SetOptions(const CollectorOptions& /*options*/) override { counters_.clear(); }

  // The kernel's queue of records is bounded, so it is emptied during the pass too.
  void OnFamily(const memory::FamilyReport& /*view*/, const Tally& /*tally*/) override {
    if (source_ != nullptr) TakeEnds();
  }

  void OnPass(const FamilyPass& pass, const Tally& tally) override {
    if (source_ == nullptr) return;
    counters_.insert_or_assign(pass.family->id, tally.counters);
    for (const auto& member : pass.family->members) Ask(*member->process, pass.family->id, tally);
    for (const auto& alias : pass.family->aliases) Ask(*alias.process, pass.family->id, tally);
  }

  void OnPassEnd() override {
    if (source_ == nullptr) return;
    TakeEnds();
    // Processes that ended before the first pass was complete are not counted.
    if (pass_ != 0) Judge();
    ends_.clear();
    counters_.clear();
    std::erase_if(seen_, [this](const auto& item) { return item.second.pass != pass_; });
    // Threads of a seen process are kept until its end, others until the second pass after their end.
    std::erase_if(threads_, [this](const auto& item) {
      return item.second.pass + 1 < pass_ && FindSeen(item.first) == seen_.end();
    });
    accounting_ = source_->AccountingIsOn();
    if (!accounting_) {
      accounting_since_.reset();
    } else if (!accounting_since_) {
      accounting_since_ = pass_;
    }
    ++pass_;
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kUnseenForksTotal);
    if (source_ != nullptr) {
      for (const GroupSums& sums : groups) writer.AddFor(sums, {}, static_cast<double>(sums.counters[kUnseenForks]));
    }
    writer.Begin(kLostRecords);
    if (source_ != nullptr) writer.Add({}, static_cast<double>(totals_->at(kLost)));
    writer.Begin(kKernelCopies);
    for (const GroupSums& sums : groups) {
      if (accounting_ && sums.counters[kAccounted] != 0) {
        writer.AddFor(sums, {}, static_cast<double>(sums.counters[kCopies]));
      }
    }
    writer.Begin(kUncountedProcesses);
    for (const GroupSums& sums : groups) {
      if (accounting_) writer.AddFor(sums, {}, static_cast<double>(sums.gauges[0]));
    }
    writer.Begin(kUncreditedCopies);
    if (accounting_) {
      writer.Add({"exec"}, static_cast<double>(totals_->at(kUncreditedExec)));
      writer.Add({"parent"}, static_cast<double>(totals_->at(kUncreditedParent)));
    }
  }

 private:
  // kAccounted is 1 once the group has had a process whose copies the kernel counts.
  enum Cell : size_t { kCopies, kUnseenForks, kAccounted, kCounters };
  enum Total : size_t { kLost, kUncreditedExec, kUncreditedParent, kTotals };
  using Identity = std::pair<pid_t, uint64_t>;  // pid, start time

  // How an unseen process came to run its program, by the record of its first thread.
  enum class Origin { kUnknown, kFork, kExec };
  static Origin OriginOf(const TaskStats& first_thread) {
    return first_thread.forked_only ? Origin::kFork : Origin::kExec;
  }

  // A process that some pass has listed.
  struct Seen {
    uint64_t family = 0;
    int64_t first_pass = 0;
    int64_t pass = 0;                // the last pass that listed it
    bool baseline = false;           // existed at the first pass
    bool accounted = false;          // the kernel counts its copies
    bool ended = false;              // the record of its end has come
    std::optional<uint64_t> copied;  // pages that are counted already or belong to the baseline
    std::optional<uint64_t> begin_seconds;
    std::optional<Executable> executable;
    int64_t executable_pass = -1;  // the pass that read `executable`
  };
  using SeenMap = std::map<Identity, Seen>;

  // Ended threads of a living process.
  struct Threads {
    uint64_t copied = 0;
    Origin origin = Origin::kUnknown;
    int64_t pass = 0;
  };

  // The end of a process that no pass has listed.
  struct Unseen {
    TaskStats task;
    Origin origin = Origin::kUnknown;
    uint64_t copied = 0;
    bool held = false;  // already held back once
  };

  enum class Fate { kCredited, kExec, kParent, kHold };
  struct Verdict {
    Fate fate = Fate::kParent;
    uint64_t family = 0;
  };

  void TakeEnds() {
    source_->TakeEnds(ends_);
    totals_->at(kLost) += source_->lost() - std::exchange(lost_, source_->lost());
  }

  void Ask(const memory::Process& process, uint64_t family, const Tally& tally) {
    const auto [item, is_new] = seen_.try_emplace(Identity(process.pid, process.start_ticks));
    Seen& seen = item->second;
    if (is_new) {
      seen.first_pass = pass_;
      seen.baseline = process.baseline || pass_ == 0;
      if (!seen.baseline) seen.copied = 0;
      if (const auto task = source_->FirstThread(process.pid)) seen.begin_seconds = task->begin_seconds;
    }
    seen.family = family;
    seen.pass = pass_;
    const auto copied = source_->CopiedPages(process.pid);
    if (copied) {
      if (!seen.copied) seen.copied = *copied;
      Count(seen, *copied, tally.counters);
    }
    // A process first listed two passes after accounting was found on has started after that.
    const bool younger = !seen.baseline && accounting_since_ && seen.first_pass >= *accounting_since_ + 2;
    seen.accounted = seen.accounted || younger || copied.value_or(0) > 0;
    if (seen.accounted) {
      tally.counters[kAccounted] = 1;
    } else {
      ++tally.gauges[0];
    }
  }

  // The sum over threads can shrink: an ending thread briefly counts twice.
  static void Count(Seen& seen, uint64_t copied, std::span<uint64_t> counters) {
    if (copied <= seen.copied.value_or(copied)) return;
    counters[kCopies] += copied - *seen.copied;
    seen.copied = copied;
  }

  // Returns the oldest process with this pid whose end has not come.
  SeenMap::iterator FindSeen(pid_t pid) {
    auto item = seen_.lower_bound(Identity(pid, 0));
    while (item != seen_.end() && item->first.first == pid && item->second.ended) ++item;
    return item != seen_.end() && item->first.first == pid ? item : seen_.end();
  }

  // True if the record belongs to an earlier process with the same pid, which lived and ended since the last pass.
  bool IsAnother(const TaskStats& task, const Seen& seen) const {
    if (seen.first_pass != pass_ || !seen.begin_seconds) return false;
    return task.begin_seconds + 1 < *seen.begin_seconds;
  }

  void Judge() {
    std::vector<const TaskEnd*> deaths;
    for (const TaskEnd& end : ends_) {
      if (end.task.last_thread) {
        deaths.push_back(&end);
        continue;
      }
      Threads& threads = threads_[end.task.process];
      threads.copied += end.task.copied_pages;
      threads.pass = pass_;
      if (end.task.pid == end.task.process) threads.origin = OriginOf(end.task);
    }
    std::vector<Unseen> unseen = std::move(held_);
    held_.clear();
    for (const TaskEnd* death : deaths) TakeEnd(*death, unseen);
    std::vector<std::optional<Verdict>> verdicts(unseen.size());
    // A child ends before its parent or is reparented, so later ends are judged first.
    for (size_t i = unseen.size(); i-- > 0;) verdicts[i] = JudgeUnseen(unseen, verdicts, i);
    for (size_t i = 0; i < unseen.size(); ++i) Credit(unseen[i], *verdicts[i]);
  }

  // Takes the end of a process: counts the remaining copies of a seen process, adds others to `unseen`.
  void TakeEnd(const TaskEnd& death, std::vector<Unseen>& unseen) {
    const TaskStats& task = death.task;
    const auto threads = threads_.extract(task.process);
    const Threads before = threads.empty() ? Threads() : threads.mapped();
    // Both are lower bounds. The sum of the threads is exact if all of them ended while the exporter ran. The kernel's
    // sum may lack a thread that ended together with the last one.
    const uint64_t copied =
        std::max(death.process_copied_pages.value_or(task.copied_pages), before.copied + task.copied_pages);
    const auto item = FindSeen(task.process);
    if (item == seen_.end() || IsAnother(task, item->second)) {
      const bool first_thread = task.pid == task.process;
      unseen.push_back({task, first_thread ? OriginOf(task) : before.origin, copied, false});
      return;
    }
    Seen& seen = item->second;
    seen.ended = true;
    seen.executable = task.executable;
    seen.executable_pass = pass_;
    const auto counters = counters_.find(seen.family);
    if (counters != counters_.end()) Count(seen, seen.baseline ? KernelsSum(death) : copied, counters->second);
  }

  // Only the kernel's sum includes threads that ended before the exporter started.
  static uint64_t KernelsSum(const TaskEnd& death) {
    return death.process_copied_pages.value_or(death.task.copied_pages);
  }

  Verdict JudgeUnseen(const std::vector<Unseen>& unseen, const std::vector<std::optional<Verdict>>& verdicts,
                      size_t index) {
    const Unseen& child = unseen[index];
    if (child.origin != Origin::kFork) return {child.origin == Origin::kExec ? Fate::kExec : Fate::kParent, 0};
    // A child without an exec runs the program of the process that forked it. If the parent runs another program, it is
    // not that process, or it has called exec since.
    const pid_t parent = child.task.parent;
    bool is_other = false;
    for (auto item = seen_.lower_bound(Identity(parent, 0)); item != seen_.end() && item->first.first == parent;
         ++item) {
      const std::optional<Executable> executable = ExecutableOf(parent, item->second);
      if (executable == child.task.executable) return {Fate::kCredited, item->second.family};
      is_other = executable.has_value();
    }
    for (size_t later = index + 1; later < unseen.size(); ++later) {
      const TaskStats& task = unseen[later].task;
      if (task.process != parent) continue;
      const Verdict& of_parent = *verdicts[later];
      const bool known = task.executable == child.task.executable && of_parent.fate != Fate::kExec;
      return known ? of_parent : Verdict();
    }
    // The parent may be listed by the next pass, or the record of its end may still come.
    return {is_other || child.held ? Fate::kParent : Fate::kHold, 0};
  }

  // Returns the executable of a seen process, read at most once per pass.
  std::optional<Executable> ExecutableOf(pid_t pid, Seen& seen) {
    if (seen.executable_pass != pass_) {
      seen.executable_pass = pass_;
      seen.executable.reset();
      if (const auto task = source_->FirstThread(pid)) seen.executable = task->executable;
    }
    return seen.executable;
  }

  void Credit(Unseen& child, const Verdict& verdict) {
    const auto counters = verdict.fate == Fate::kCredited ? counters_.find(verdict.family) : counters_.end();
    if (counters != counters_.end()) {
      counters->second[kCopies] += child.copied;
      ++counters->second[kUnseenForks];
      if (child.copied != 0) counters->second[kAccounted] = 1;
    } else if (verdict.fate == Fate::kHold) {
      child.held = true;
      held_.push_back(child);
    } else {
      totals_->at(verdict.fate == Fate::kExec ? kUncreditedExec : kUncreditedParent) += child.copied;
    }
  }

  std::unique_ptr<netlink::Taskstats> source_;
  std::string limitation_;  // why there is no source
  std::shared_ptr<std::vector<uint64_t>> totals_;
  uint64_t lost_ = 0;                        // records that `source_` had lost at the last TakeEnds
  bool accounting_ = false;                  // on at the end of the last pass
  std::optional<int64_t> accounting_since_;  // the pass at whose end it was found on; -1: at construction
  int64_t pass_ = 0;
  SeenMap seen_;
  std::map<pid_t, Threads> threads_;                  // by process
  std::map<uint64_t, std::span<uint64_t>> counters_;  // of the groups, by family, in the current pass
  std::vector<TaskEnd> ends_;                         // taken in the current pass
  std::vector<Unseen> held_;                          // held back until the next pass
};

}  // namespace

std::unique_ptr<CollectorWithHooks> MakeDelayacct(const CollectorContext& context,
                                                  std::unique_ptr<netlink::Taskstats> source) {
  return std::make_unique<Delayacct>(context.geometry, std::move(source), context.totals);
}

std::unique_ptr<Collector> MakeDelayacct(const CollectorContext& context) {
  return std::make_unique<Delayacct>(context.geometry, netlink::OpenTaskstats(context.root, context.taskstats),
                                     context.totals);
}

}  // namespace cow::collectors
