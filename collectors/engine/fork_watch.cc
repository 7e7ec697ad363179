#include "collectors/engine/fork_watch.h"

#include <iterator>
#include <utility>

#include "collectors/procfs/process_list.h"
#include "collectors/procfs/stat.h"

namespace cow::collectors {

ForkWatch::ForkWatch(const procfs::Root& root, std::unique_ptr<netlink::ProcEvents> events)
    : root_(root), events_(std::move(events)), counter_(root) {}

bool ForkWatch::Look(const memory::ProcessTable& table) {
  ++looks_;
  const bool events_suffice = TakeEvents();
  if (!events_suffice && SomethingWasForked()) ReadList(table);
  bool found = false;
  for (auto item = newcomers_.begin(); item != newcomers_.end();) {
    auto& [pid, newcomer] = *item;
    const bool judged = newcomer.state == State::kTold || newcomer.state == State::kStranger;
    const bool stays = !table.processes().contains(pid) && (judged || Judge(pid, newcomer, table));
    found = found || (stays && !judged && newcomer.state == State::kTold);
    item = stays ? std::next(item) : newcomers_.erase(item);
  }
  return found;
}

bool ForkWatch::TakeEvents() {
  if (events_ == nullptr) return false;
  taken_.clear();
  const bool complete = events_->Take(taken_);
  for (const netlink::ProcEvent& event : taken_) {
    if (event.kind == netlink::ProcEvent::Kind::kFork) {
      newcomers_[event.process] = Newcomer();
    } else {
      newcomers_.erase(event.process);
    }
  }
  // Processes forked before the first call may be older than the events.
  if (complete && looks_ > 1) return true;
  if (!complete) ++overruns_;
  forks_.reset();
  return false;
}

bool ForkWatch::SomethingWasForked() {
  const auto now = counter_.Read();
  if (now && forks_ == *now) return false;
  forks_.reset();
  if (now) forks_ = *now;
  return true;
}

void ForkWatch::ReadList(const memory::ProcessTable& table) {
  const auto pids = procfs::ListProcesses(root_);
  if (!pids) return;
  for (const pid_t pid : *pids) {
    if (!table.processes().contains(pid)) newcomers_[pid].listed = looks_;
  }
  std::erase_if(newcomers_, [this](const auto& item) { return item.second.listed != looks_; });
}

// False if the newcomer need not be remembered.
bool ForkWatch::Judge(pid_t pid, Newcomer& newcomer, const memory::ProcessTable& table) {
  const auto stat = procfs::ReadStat(root_, pid);
  if (!stat && stat.error().kind == ErrorKind::kGone) return false;
  const auto layout = stat ? table.LayoutOf(*stat, pid) : std::nullopt;
  if (!layout || !IsKnown(*layout, table)) {
    // A stranger found by an event is forgotten: another event reports the next fork with this pid.
    newcomer.state = State::kStranger;
    return newcomer.listed != 0;
  }
  const bool seen_before = newcomer.state == State::kSeenOnce && newcomer.start_ticks == stat->start_time_ticks;
  newcomer.state = seen_before ? State::kTold : State::kSeenOnce;
  newcomer.start_ticks = stat->start_time_ticks;
  return true;
}

bool ForkWatch::IsKnown(const memory::LayoutKey& layout, const memory::ProcessTable& table) {
  if (layouts_version_ != table.version()) {
    layouts_.clear();
    for (const auto& [pid, process] : table.processes()) {
      if (process->layout) layouts_.insert(*process->layout);
    }
    layouts_version_ = table.version();
  }
  return layouts_.contains(layout);
}

}  // namespace cow::collectors
