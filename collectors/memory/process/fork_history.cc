#include "collectors/memory/process/fork_history.h"

#include <algorithm>
#include <utility>

#include "collectors/procfs/process_list.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/system.h"

namespace cow::memory {
namespace {

// Bounds on the memory for events. Beyond them the history begins anew, as after a loss.
constexpr size_t kMaxLives = 1 << 16;
constexpr size_t kMaxBacklog = 1 << 16;
// Descendants of one parent whose `stat` is read again. Larger trees are known by events only.
constexpr size_t kMaxTree = 4096;

constexpr uint64_t kAlways = ~uint64_t{0};
// No process that forks is older than the first tick.
constexpr uint64_t kSinceBoot = 1;

}  // namespace

class ForkHistory::RelayedEvents final : public netlink::ProcEvents {
 public:
  explicit RelayedEvents(ForkHistory& history) : history_(history) {}
  ~RelayedEvents() override {
    const std::lock_guard lock(history_.mutex_);
    history_.relayed_ = false;
    history_.backlog_.clear();
  }
  RelayedEvents(const RelayedEvents&) = delete;
  RelayedEvents& operator=(const RelayedEvents&) = delete;

  bool Take(std::vector<netlink::ProcEvent>& events) override {
    const std::lock_guard lock(history_.mutex_);
    history_.Poll();
    events.insert(events.end(), history_.backlog_.begin(), history_.backlog_.end());
    history_.backlog_.clear();
    return std::exchange(history_.relay_complete_, true);
  }

 private:
  ForkHistory& history_;
};

ForkHistory::ForkHistory(procfs::Root root, bool sees_every_process)
    : root_(std::move(root)),
      ticks_per_second_(procfs::ReadClockTicksPerSecond(root_)),
      sees_every_process_(sees_every_process),
      counter_(root_) {}

void ForkHistory::Listen(std::unique_ptr<netlink::ProcEvents> events) {
  events_ = std::move(events);
  ForgetLives();
}

std::unique_ptr<netlink::ProcEvents> ForkHistory::Relay() {
  if (events_ == nullptr) return nullptr;
  relayed_ = true;
  return std::make_unique<RelayedEvents>(*this);
}

void ForkHistory::BeforeUpdate() {
  const std::lock_guard lock(mutex_);
  Poll();
  const auto forks = counter_.Read();
  forks_at_update_.reset();
  if (forks) forks_at_update_ = *forks;
  forks_listed_ = forks_at_update_;
  newcomers_known_ = forks_at_update_.has_value();
  newcomers_.clear();
  newcomer_parents_.clear();
  table_ = nullptr;
}

void ForkHistory::AfterUpdate(const ProcessTable& table) {
  const std::lock_guard lock(mutex_);
  table_ = &table;
  children_listed_ = false;
  children_.clear();
  facts_.clear();
}

ForkEvidence ForkHistory::Of(const Process& child, const Process& parent) {
  const std::lock_guard lock(mutex_);
  if (child.stat.ppid != parent.pid) return {};
  Poll();
  ForkEvidence evidence = ByEvents(child.pid, parent.pid);
  if (evidence.IsComplete()) return evidence;
  evidence.Add(ByTable(child, parent));
  return evidence;
}

void ForkHistory::Poll() {
  if (events_ == nullptr) return;
  taken_.clear();
  const bool complete = events_->Take(taken_);
  // The loss may lie before or after any of these events.
  if (!complete) ForgetLives();
  for (const netlink::ProcEvent& event : taken_) {
    if (complete) NoteEvent(event);
    if (relayed_) backlog_.push_back(event);
  }
  if (lives_.size() > kMaxLives) ForgetLives();
  const bool overflowed = backlog_.size() > kMaxBacklog;
  if (overflowed) backlog_.clear();
  relay_complete_ = relay_complete_ && complete && !overflowed;
}

// Counts as an event, so that every moment until now lies before complete_since_.
void ForkHistory::ForgetLives() {
  lives_.clear();
  complete_since_ = ++event_number_;
}

void ForkHistory::NoteEvent(const netlink::ProcEvent& event) {
  using Kind = netlink::ProcEvent::Kind;
  if (event.kind == Kind::kExit) lives_.erase(event.process);
  if (event.kind != Kind::kFork) return;
  ++event_number_;
  lives_[event.process] = {event_number_, event.parent, 0};
  lives_[event.parent].last_fork = event_number_;
}

ForkEvidence ForkHistory::ByEvents(pid_t child, pid_t parent) const {
  const auto of_child = lives_.find(child);
  if (of_child == lives_.end() || of_child->second.born == 0 || of_child->second.forker != parent) return {};
  const auto of_parent = lives_.find(parent);
  const bool parent_idle = of_parent != lives_.end() && of_parent->second.last_fork == of_child->second.born;
  return {true, parent_idle, of_child->second.last_fork == 0};
}

ForkMoment ForkHistory::Now() {
  const std::lock_guard lock(mutex_);
  Poll();
  return {event_number_, procfs::TicksSinceBoot(ticks_per_second_)};
}

bool ForkHistory::IsIdleSince(const Process& process, const ForkMoment& moment) {
  const std::lock_guard lock(mutex_);
  Poll();
  return IdleByEvents(process.pid, moment) || (TableIsComplete() && IdleByTable(process, moment.ticks, 0));
}

bool ForkHistory::IdleByEvents(pid_t pid, const ForkMoment& moment) const {
  if (events_ == nullptr || moment.event < complete_since_) return false;
  const auto life = lives_.find(pid);
  return life == lives_.end() || life->second.last_fork <= moment.event;
}

bool ForkHistory::IdleByTable(const Process& process, uint64_t since_ticks, pid_t child) {
  if (process.status.ignores_children) return false;
  ListChildren();
  for (auto item = FirstChildOf(process.pid); item != children_.end() && item->parent == process.pid; ++item) {
    if (item->pid != child && item->start_ticks >= since_ticks) return false;
  }
  return FactsOf(process).reaped_until < since_ticks && !ForkedUnseen(process);
}

// True if the table has, or had, every process that may have forked, zombies included.
bool ForkHistory::TableIsComplete() const {
  if (table_ == nullptr || !sees_every_process_ || table_->over_limit() != 0) return false;
  return std::all_of(table_->unreadable().begin(), table_->unreadable().end(),
                     [](const auto& item) { return item.first == ErrorKind::kGone; });
}

ForkEvidence ForkHistory::ByTable(const Process& child, const Process& parent) {
  if (!TableIsComplete()) return {};
  ListChildren();
  ForkEvidence evidence;
  evidence.own_child = !TreeReapedSince(parent, child);
  evidence.parent_idle = IdleByTable(parent, child.start_ticks, child.pid);
  evidence.idle = IdleByTable(child, kSinceBoot, 0);
  return evidence;
}

// Facts as of the first call after the update. Reads `stat` again: a child that was gone before the update came to it
// has been reaped by then.
const ForkHistory::Facts& ForkHistory::FactsOf(const Process& process) {
  const auto [item, is_new] = facts_.try_emplace(process.pid);
  Facts& facts = item->second;
  if (!is_new) return facts;
  facts.children_faults = process.stat.children_faults;
  facts.reaped_until = process.reaped_until_ticks;
  const auto stat = procfs::ReadStat(root_, process.pid);
  const bool as_before = stat && !stat->HasNoMemory() && stat->start_time_ticks == process.start_ticks &&
                         stat->children_faults == process.stat.children_faults;
  if (!as_before) facts.reaped_until = kAlways;
  return facts;
}

void ForkHistory::ListChildren() {
  if (std::exchange(children_listed_, true)) return;
  for (const auto& [pid, process] : table_->processes()) {
    children_.push_back({process->stat.ppid, pid, process->start_ticks, process.get()});
  }
  for (const Zombie& zombie : table_->zombies()) {
    children_.push_back({zombie.parent, zombie.pid, zombie.start_ticks, nullptr});
  }
  std::sort(children_.begin(), children_.end(), [](const Child& a, const Child& b) { return a.parent < b.parent; });
}

std::vector<ForkHistory::Child>::const_iterator ForkHistory::FirstChildOf(pid_t parent) const {
  return std::lower_bound(children_.begin(), children_.end(), parent,
                          [](const Child& child, pid_t pid) { return child.parent < pid; });
}

// True if a process between `root` and `child` may have forked the child and ended: then `root` or one of its
// descendants reaped that process.
bool ForkHistory::TreeReapedSince(const Process& root, const Process& child) {
  std::vector<const Process*> tree{&root};
  for (size_t i = 0; i < tree.size(); ++i) {
    const Process& process = *tree[i];
    if (tree.size() > kMaxTree || process.status.ignores_children) return true;
    if (FactsOf(process).reaped_until >= child.start_ticks) return true;
    for (auto item = FirstChildOf(process.pid); item != children_.end() && item->parent == process.pid; ++item) {
      if (item->process == &child) continue;  // it is not its own ancestor
      if (item->process != nullptr) {
        tree.push_back(item->process);
      } else if (item->start_ticks <= child.start_ticks) {
        return true;
      }
    }
  }
  return false;
}

// True if the process may have forked since the update.
bool ForkHistory::ForkedUnseen(const Process& process) {
  const auto now = counter_.Read();
  if (!now || !newcomers_known_) return true;
  if (*now != forks_listed_) {
    newcomers_known_ = ListNewcomers();
    forks_listed_ = *now;
    if (!newcomers_known_) return true;
  }
  if (newcomer_parents_.contains(process.pid)) return true;
  if (forks_listed_ == forks_at_update_) return false;
  const auto stat = procfs::ReadStat(root_, process.pid);
  return !stat || stat->children_faults != FactsOf(process).children_faults;
}

// Lists the parents of processes forked since the update. False if one of these processes cannot be read.
bool ForkHistory::ListNewcomers() {
  const auto pids = procfs::ListProcesses(root_);
  if (!pids) return false;
  for (const pid_t pid : *pids) {
    if (table_->WasListed(pid) || !newcomers_.insert(pid).second) continue;
    const auto stat = procfs::ReadStat(root_, pid);
    if (stat) {
      newcomer_parents_.insert(stat->ppid);
    } else if (stat.error().kind != ErrorKind::kGone) {
      return false;
    }
  }
  return true;
}

}  // namespace cow::memory
