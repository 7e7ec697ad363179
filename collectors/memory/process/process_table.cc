#include "collectors/memory/process/process_table.h"

#include <algorithm>
#include <utility>

#include "collectors/procfs/process_list.h"
#include "collectors/procfs/system.h"

namespace cow::memory {
bool Process::IsChildOf(const Process& other) const {
  return stat.ppid == other.pid && other.pid != pid && other.start_ticks <= start_ticks;
}

uint64_t Process::ResidentBytes() const {
  return status.rss_anon_bytes.value_or(0) + status.rss_file_bytes.value_or(0) + status.rss_shmem_bytes.value_or(0);
}

uint64_t Process::SizeBytes() const { return ResidentBytes() + status.swap_bytes.value_or(0); }

ProcessTable::ProcessTable(procfs::Root root, size_t max_processes, size_t max_kept_files, LayoutSource layouts)
    : root_(std::move(root)),
      cgroup_namespace_(root_),
      max_processes_(max_processes),
      files_(root_, max_kept_files),
      layouts_(layouts),
      ticks_per_second_(procfs::ReadClockTicksPerSecond(root_)) {}

Result<bool> ProcessTable::Update(const MayGoOn& may_go_on) {
  const auto pids = procfs::ListProcesses(root_);
  if (!pids) return tl::unexpected(pids.error());
  ++pass_;
  unreadable_now_.clear();
  newcomers_.clear();
  zombies_.clear();
  // Update known processes first: the limit must not replace a family with newcomers.
  if (!UpdateKnown(*pids, may_go_on) || !AddNewcomers(may_go_on)) return false;
  unreadable_ = unreadable_now_;
  completed_ = true;
  CloseUnlisted();
  return true;
}

bool ProcessTable::UpdateKnown(const std::vector<pid_t>& pids, const MayGoOn& may_go_on) {
  auto known = processes_.begin();
  for (const pid_t pid : pids) {
    if (!may_go_on()) return false;
    while (known != processes_.end() && known->first < pid) known = Forget(known);
    if (known == processes_.end() || known->first != pid) {
      newcomers_.push_back(pid);
    } else if (UpdateOne(pid, known->second)) {
      ++known;
    } else {
      known = Forget(known);
    }
  }
  while (known != processes_.end()) known = Forget(known);
  return true;
}

bool ProcessTable::AddNewcomers(const MayGoOn& may_go_on) {
  std::vector<pid_t> over_limit;
  for (const pid_t pid : newcomers_) {
    if (processes_.size() >= max_processes_) {
      over_limit.push_back(pid);
      continue;
    }
    if (!may_go_on()) return false;
    std::shared_ptr<Process> process;
    if (!UpdateOne(pid, process)) continue;
    if (std::binary_search(over_limit_.begin(), over_limit_.end(), pid)) process->baseline = true;
    processes_.emplace(pid, std::move(process));
  }
  over_limit_ = std::move(over_limit);
  return true;
}

ProcessTable::Processes::iterator ProcessTable::Forget(Processes::iterator process) {
  ++version_;
  return processes_.erase(process);
}

void ProcessTable::CloseUnlisted() {
  for (auto item = kept_.begin(); item != kept_.end();) {
    if (item->second.pass == pass_) {
      ++item;
      continue;
    }
    files_.Close(item->second.stat);
    CloseStatm(item->second);
    item = kept_.erase(item);
  }
}

void ProcessTable::CloseStatm(Kept& kept) {
  files_.Close(kept.statm);
  kept.sizes.reset();
}

// Finds the task whose files show the memory of the process. If the leader ended, completes `stat` from a living
// thread. kGone: there is no memory any more.
Result<procfs::TaskId> ProcessTable::FindMemory(procfs::Stat& stat) const {
  if (!stat.HasNoMemory()) return stat.pid;
  const Error ended{ErrorKind::kGone, root_.ProcPath(stat.pid, "stat"), 0, "the process has ended"};
  if (stat.num_threads < 2) return tl::unexpected(ended);
  const auto threads = procfs::ListThreads(root_, stat.pid);
  if (!threads) return tl::unexpected(threads.error());
  for (const pid_t id : *threads) {
    if (id == stat.pid) continue;
    const procfs::TaskId task(stat.pid, id);
    const auto thread = procfs::ReadStat(root_, task);
    if (!thread && thread.error().kind != ErrorKind::kGone) return tl::unexpected(thread.error());
    if (!thread || thread->HasNoMemory()) continue;
    stat.TakeMemoryFrom(*thread);
    return task;
  }
  return tl::unexpected(ended);
}

// Keeps a known process that is unreadable but not gone: removing it would count as its end.
bool ProcessTable::NoteUnreadable(const Error& error, Process* known) {
  if (error.kind == ErrorKind::kGone || known == nullptr) {
    ++unreadable_now_[error.kind];
    return false;
  }
  known->unread = error;
  return true;
}

bool ProcessTable::UpdateOne(pid_t pid, std::shared_ptr<Process>& process) {
  Kept& kept = kept_[pid];
  kept.pass = pass_;
  auto stat = ReadStat(pid, process != nullptr, kept);
  if (!stat) return NoteUnreadable(stat.error(), process.get());
  if (stat->IsKernelThread()) return false;
  const auto memory = FindMemory(*stat);
  if (!memory && memory.error().kind == ErrorKind::kGone) {
    zombies_.push_back({pid, stat->ppid, stat->start_time_ticks});
  }
  if (!memory) return memory.error().kind != ErrorKind::kGone && NoteUnreadable(memory.error(), process.get());
  const bool is_known = process != nullptr && process->start_ticks == stat->start_time_ticks;
  if (!is_known || process->memory != *memory) CloseStatm(kept);
  if (is_known && !StatusMayHaveChanged(*process, *stat, *memory, kept)) {
    NoteReaping(process->stat.children_faults, *stat, *process);
    process->stat = std::move(*stat);
    return true;
  }
  auto status = procfs::ReadStatus(root_, *memory);
  if (!status) return NoteUnreadable(status.error(), process.get());
  if (!is_known) process = std::make_shared<Process>();
  process->memory = *memory;
  process->unread.reset();
  NoteReaping(is_known ? process->stat.children_faults : 0, *stat, *process);
  TakeStat(is_known, std::move(*stat), *process);
  process->status = *status;
  return true;
}

// `stat` was read just now.
void ProcessTable::NoteReaping(uint64_t children_faults_before, const procfs::Stat& stat, Process& process) const {
  if (stat.children_faults == children_faults_before) return;
  process.reaped_until_ticks = procfs::TicksSinceBoot(ticks_per_second_);
}

void ProcessTable::TakeStat(bool is_known, procfs::Stat&& stat, Process& process) {
  const std::optional<LayoutKey> layout = LayoutOf(stat, process.memory);
  const bool other_layout = is_known && layout != process.layout;
  process.stat = std::move(stat);
  if (is_known && !other_layout) return;
  ++version_;
  process.pid = process.stat.pid;
  process.start_ticks = process.stat.start_time_ticks;
  // An exec begins a life that the exporter sees from its start.
  const bool same_program = other_layout && layout && process.layout && layout->Resembles(*process.layout);
  process.baseline = same_program ? process.baseline : !completed_;
  process.layout = layout;
  process.since_pass = pass_;
  process.exe = ReadProgram(root_, process.memory);
  process.cgroups = procfs::ReadCgroups(root_, process.pid).value_or(procfs::Cgroups());
  cgroup_namespace_.Resolve(process.cgroups);
}

// True if `status` may have changed since it was read. Reads statm before `status` is read: the next update finds a
// change in between.
bool ProcessTable::StatusMayHaveChanged(const Process& process, const procfs::Stat& stat, procfs::TaskId memory,
                                        Kept& kept) {
  const std::optional<procfs::Statm> sizes_before = std::exchange(kept.sizes, std::nullopt);
  const auto statm = ReadStatm(memory, kept);
  if (!statm) return true;
  kept.sizes = *statm;
  const procfs::Stat& before = process.stat;
  // No other signal shows pages given up in swap, or hugetlb pages.
  const bool hides = process.status.swap_bytes.value_or(0) + process.status.hugetlb_bytes.value_or(0) > 0;
  return hides || process.unread || process.memory != memory || kept.sizes != sizes_before ||
         stat.minor_faults != before.minor_faults || stat.major_faults != before.major_faults ||
         stat.virtual_bytes != before.virtual_bytes || LayoutKey::Of(stat) != LayoutKey::Of(before);
}

Result<procfs::Stat> ProcessTable::ReadStat(pid_t pid, bool is_known, Kept& kept) {
  // Unknown pids, such as kernel threads and zombies, may use only a quarter of the descriptors.
  const auto text = files_.Read(pid, "stat", kept.stat, is_known ? 0 : files_.max_kept() / 4 * 3);
  return text.and_then([this](std::string_view stat) { return procfs::ParseStat(stat, files_.path()); });
}

Result<procfs::Statm> ProcessTable::ReadStatm(procfs::TaskId task, Kept& kept) {
  return files_.Read(task, "statm", kept.statm).and_then([this](std::string_view text) {
    return procfs::ParseStatm(text, files_.path());
  });
}

}  // namespace cow::memory
