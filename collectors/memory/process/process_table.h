// Keeps the processes of the host and their identity from pass to pass. Reads /proc/PID/stat, statm, status, cgroup and
// exe; where these hide something of other users' processes, auxv and maps.
//
// The identity of a process is (pid, start time), because pids are reused. An exec keeps this identity and draws a new
// address-space layout. A process can also change its layout itself (prctl PR_SET_MM); Lineage distinguishes the two.
// The table omits kernel threads and zombies, which have no memory. It keeps a process whose leader ended before its
// other threads.
//
// An update reads `stat` and `statm` of every process through descriptors that stay open. `stat` has the faults, and
// `statm` the exact sizes, which show pages that were given up without a fault. Only if one of these changed does it
// read `status`.
//
// Units: bytes, and ticks since boot. Errors of one process are values. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/base/steps.h"
#include "collectors/memory/process/layout_key.h"
#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/cgroup_namespace.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/process_files.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/statm.h"
#include "collectors/procfs/status.h"

namespace cow::memory {

struct Process {
  pid_t pid = 0;
  uint64_t start_ticks = 0;
  procfs::TaskId memory = 0;        // has the memory's files: the process, or a thread that outlived the leader
  procfs::Stat stat;                // of the last update
  procfs::Status status;            // of the last update that found a change
  std::optional<LayoutKey> layout;  // empty: hidden by permission
  bool baseline = false;            // existed at the exporter's first look, or was omitted before
  uint64_t since_pass = 0;          // the first update that saw it with this layout
  // The latest tick at which it may have reaped a child; 0: never. Events before the first update count as of that
  // update.
  uint64_t reaped_until_ticks = 0;
  std::optional<Error> unread;  // why the last update failed; stat and status are older
  std::string exe;              // read at first sight and when the layout changes; empty if hidden
  procfs::Cgroups cgroups;      // likewise

  // True if `other` is the parent by pid and start time.
  bool IsChildOf(const Process& other) const;
  uint64_t RssAnonBytes() const { return status.rss_anon_bytes.value_or(0); }
  uint64_t ResidentBytes() const;
  // Resident and swapped bytes: swapped pages are walked as resident ones are.
  uint64_t SizeBytes() const;
};

// A process that ended and was not reaped yet.
struct Zombie {
  pid_t pid = 0;
  pid_t parent = 0;
  uint64_t start_ticks = 0;
};

class ProcessTable {
 public:
  using Processes = std::map<pid_t, std::shared_ptr<Process>>;

  // The largest number of descriptors kept open: two per process, 35 MiB of kernel memory in all. First come, first
  // served: all files are read in turn, so replacing one with another would only move the cost.
  static constexpr size_t kMaxKeptFiles = 8192;

  ProcessTable(procfs::Root root, size_t max_processes, size_t max_kept_files = kMaxKeptFiles,
               LayoutSource layouts = LayoutSource::kStat);

  // Lists and reads all processes. Returns an error if the list is unreadable; the table is then unchanged. An error of
  // one process affects that process only. Returns false if `may_go_on` ended the update: some processes are then as
  // before, and the next update completes it.
  Result<bool> Update(const MayGoOn& may_go_on = [] { return true; });

  // Known processes stay, even beyond the limit.
  void SetMaxProcesses(size_t max_processes) { max_processes_ = max_processes; }

  const Processes& processes() const { return processes_; }
  uint64_t pass() const { return pass_; }
  // Grows when a process appears, disappears or changes its layout.
  uint64_t version() const { return version_; }
  // Processes that the last update omitted because of the limit.
  size_t over_limit() const { return over_limit_.size(); }
  // Processes without known data whose files the last update could not read or parse, by reason.
  const std::map<ErrorKind, size_t>& unreadable() const { return unreadable_; }
  // The layout of a task as the table reads it. `stat`: of this task, read just now.
  std::optional<LayoutKey> LayoutOf(const procfs::Stat& stat, procfs::TaskId task) const {
    return ReadLayout(root_, stat, task, layouts_);
  }
  // As of the last update.
  const std::vector<Zombie>& zombies() const { return zombies_; }
  // True if the last update listed this pid: a process, a zombie or a kernel thread.
  bool WasListed(pid_t pid) const { return kept_.contains(pid); }
  // Open descriptors on files of processes.
  size_t kept_files() const { return files_.kept(); }

 private:
  // Descriptors for one listed pid.
  struct Kept {
    procfs::FileDescriptor stat;
    procfs::FileDescriptor statm;
    std::optional<procfs::Statm> sizes;  // from before `status` was last read; empty if not read
    uint64_t pass = 0;                   // the last update that listed it
  };

  // Reads a process into `process`, which is null if it is new. False if there is nothing to keep.
  bool UpdateOne(pid_t pid, std::shared_ptr<Process>& process);
  bool UpdateKnown(const std::vector<pid_t>& pids, const MayGoOn& may_go_on);
  bool AddNewcomers(const MayGoOn& may_go_on);
  void TakeStat(bool is_known, procfs::Stat&& stat, Process& process);
  Result<procfs::TaskId> FindMemory(procfs::Stat& stat) const;
  bool StatusMayHaveChanged(const Process& process, const procfs::Stat& stat, procfs::TaskId memory, Kept& kept);
  Result<procfs::Stat> ReadStat(pid_t pid, bool is_known, Kept& kept);
  Result<procfs::Statm> ReadStatm(procfs::TaskId task, Kept& kept);
  void NoteReaping(uint64_t children_faults_before, const procfs::Stat& stat, Process& process) const;
  bool NoteUnreadable(const Error& error, Process* known);
  Processes::iterator Forget(Processes::iterator process);
  void CloseStatm(Kept& kept);
  void CloseUnlisted();

  procfs::Root root_;
  procfs::CgroupNamespace cgroup_namespace_;
  size_t max_processes_;
  procfs::ProcessFiles files_;
  LayoutSource layouts_;
  uint64_t ticks_per_second_;
  uint64_t pass_ = 0;
  bool completed_ = false;  // at least one update was completed
  uint64_t version_ = 0;
  Processes processes_;
  std::unordered_map<pid_t, Kept> kept_;  // also kernel threads and zombies, which each update must recognize
  std::vector<pid_t> newcomers_;
  std::vector<Zombie> zombies_;
  std::vector<pid_t> over_limit_;  // ascending; of the last completed update
  std::map<ErrorKind, size_t> unreadable_;
  std::map<ErrorKind, size_t> unreadable_now_;  // of the current update
};

}  // namespace cow::memory
