#include "collectors/memory/process_table.h"

#include <utility>

#include "collectors/procfs/process_list.h"

namespace cow::memory {
namespace {

std::optional<LayoutKey> LayoutOf(const procfs::Stat& stat) {
  if (!stat.LayoutKnown()) return std::nullopt;
  return LayoutKey{stat.start_code, stat.end_code, stat.start_data, stat.end_data, stat.start_brk, stat.start_stack};
}

}  // namespace

bool Process::IsChildOf(const Process& other) const {
  return stat.ppid == other.pid && other.pid != pid && other.start_ticks <= start_ticks;
}

uint64_t Process::ResidentBytes() const {
  return status.rss_anon_bytes.value_or(0) + status.rss_file_bytes.value_or(0) + status.rss_shmem_bytes.value_or(0);
}

ProcessTable::ProcessTable(procfs::Root root, size_t max_processes)
    : root_(std::move(root)), max_processes_(max_processes) {}

procfs::Result<void> ProcessTable::Update() {
  auto pids = procfs::ListProcesses(root_);
  if (!pids) return tl::unexpected(pids.error());
  ++pass_;
  over_limit_ = 0;
  unreadable_.clear();
  std::map<pid_t, std::shared_ptr<Process>> next;
  // Known processes first: the limit must not throw out a family for newcomers.
  for (const pid_t pid : *pids) {
    if (processes_.contains(pid)) UpdateOne(pid, next);
  }
  for (const pid_t pid : *pids) {
    if (!processes_.contains(pid)) UpdateOne(pid, next);
  }
  processes_ = std::move(next);
  return {};
}

// One that is known and is not gone stays: to forget it would be taken for its end.
void ProcessTable::NoteUnreadable(pid_t pid, const procfs::Error& error,
                                  std::map<pid_t, std::shared_ptr<Process>>& next) {
  const auto known = processes_.find(pid);
  if (error.kind == procfs::ErrorKind::kGone || known == processes_.end()) {
    ++unreadable_[error.kind];
    return;
  }
  known->second->unread = error;
  known->second->executed = false;
  next.emplace(pid, known->second);
}

void ProcessTable::UpdateOne(pid_t pid, std::map<pid_t, std::shared_ptr<Process>>& next) {
  if (next.size() >= max_processes_) {
    ++over_limit_;
    return;
  }
  auto stat = procfs::ReadStat(root_, pid);
  if (!stat) {
    NoteUnreadable(pid, stat.error(), next);
    return;
  }
  if (stat->IsKernelThread() || stat->HasNoMemory()) return;
  auto status = procfs::ReadStatus(root_, pid);
  if (!status) {
    NoteUnreadable(pid, status.error(), next);
    return;
  }
  const auto known = processes_.find(pid);
  const bool is_known = known != processes_.end() && known->second->start_ticks == stat->start_time_ticks;
  const std::shared_ptr<Process> process = is_known ? known->second : std::make_shared<Process>();
  const std::optional<LayoutKey> layout = LayoutOf(*stat);
  process->executed = is_known && layout != process->layout;
  if (!is_known || process->executed) {
    process->pid = pid;
    process->start_ticks = stat->start_time_ticks;
    process->layout = layout;
    process->baseline = pass_ == 1;
    process->since_pass = pass_;
    process->exe = procfs::ReadLink(root_, root_.ProcPath(pid, "exe")).value_or("");
    process->cgroups = procfs::ReadCgroups(root_, pid).value_or(procfs::Cgroups());
  }
  process->unread.reset();
  process->stat = std::move(*stat);
  process->status = std::move(*status);
  next.emplace(pid, process);
}

}  // namespace cow::memory
