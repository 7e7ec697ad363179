#include "collectors/memory/process_table.h"

#include <utility>

#include "collectors/procfs/maps.h"
#include "collectors/procfs/process_list.h"

namespace cow::memory {
namespace {

std::optional<LayoutKey> LayoutOf(const procfs::Stat& stat) {
  if (!stat.LayoutKnown()) return std::nullopt;
  return LayoutKey{stat.start_code, stat.end_code, stat.start_data, stat.end_data, stat.start_brk, stat.start_stack};
}

// Of addresses in maps that exec draws and nothing moves afterwards. maps may be open where stat hides the layout:
// since Linux 6.15 CAP_PERFMON, which CAP_SYS_ADMIN implies, is enough for it (fs/proc/base.c, kernel/fork.c:
// may_access_mm).
std::optional<LayoutKey> LayoutOfMaps(const procfs::Root& root, procfs::TaskId task) {
  const auto vmas = procfs::ReadMaps(root, task);
  if (!vmas) return std::nullopt;
  LayoutKey key;
  for (const procfs::Vma& vma : *vmas) {
    if (key.start_code == 0 && vma.executable && vma.inode != 0) key.start_code = vma.start;
    if (vma.path == "[vdso]") key.start_data = vma.start;
    if (vma.path == "[stack]") key.start_stack = vma.end;
  }
  if (key.start_code == 0 || key.start_stack == 0) return std::nullopt;
  return key;
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

// Whose files show the memory of the process with this stat, which is completed by a living thread's where the leader
// has ended; empty where there is no memory any more.
std::optional<procfs::TaskId> ProcessTable::FindMemory(procfs::Stat& stat) const {
  if (!stat.HasNoMemory()) return stat.pid;
  if (stat.num_threads < 2) return std::nullopt;
  const auto threads = procfs::ListThreads(root_, stat.pid);
  if (!threads) return std::nullopt;
  for (const pid_t id : *threads) {
    if (id == stat.pid) continue;
    const procfs::TaskId task(stat.pid, id);
    const auto thread = procfs::ReadStat(root_, task);
    if (!thread || thread->HasNoMemory()) continue;
    stat.TakeMemoryFrom(*thread);
    return task;
  }
  return std::nullopt;
}

void ProcessTable::UpdateOne(pid_t pid, std::map<pid_t, std::shared_ptr<Process>>& next) {
  if (next.size() >= max_processes_) {
    ++over_limit_;
    return;
  }
  auto stat = procfs::ReadStat(root_, pid);
  if (!stat) {
    ++unreadable_[stat.error().kind];
    return;
  }
  if (stat->IsKernelThread()) return;
  const auto memory = FindMemory(*stat);
  if (!memory) return;
  auto status = procfs::ReadStatus(root_, *memory);
  if (!status) {
    ++unreadable_[status.error().kind];
    return;
  }
  const auto known = processes_.find(pid);
  const bool is_known = known != processes_.end() && known->second->start_ticks == stat->start_time_ticks;
  const std::shared_ptr<Process> process = is_known ? known->second : std::make_shared<Process>();
  std::optional<LayoutKey> layout = LayoutOf(*stat);
  if (!layout) layout = LayoutOfMaps(root_, *memory);
  process->executed = is_known && layout != process->layout;
  if (!is_known || process->executed) {
    process->pid = pid;
    process->start_ticks = stat->start_time_ticks;
    process->layout = layout;
    process->baseline = pass_ == 1;
    process->since_pass = pass_;
    process->exe = procfs::ReadLink(root_.ProcPath(*memory, "exe")).value_or("");
    process->cgroups = procfs::ReadCgroups(root_, pid).value_or(procfs::Cgroups());
  }
  process->memory = *memory;
  process->stat = std::move(*stat);
  process->status = std::move(*status);
  next.emplace(pid, process);
}

}  // namespace cow::memory
