// The processes of the host, kept from pass to pass with their identity.
//
// Identity is (pid, start time): a pid alone is reused. An exec keeps the identity and is seen by the address-space
// layout that it redraws. Kernel threads and zombies have no memory and are not kept; a process whose leader ended
// before its other threads has, and is.
//
// An update reads `stat` and `statm` of every process, by descriptors that are kept open, and no more of one that did
// nothing: `stat` has its faults, and `statm` the exact sizes, which tell of pages that were given up without a fault.
// `status` is read where one of these moved. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/process_files.h"
#include "collectors/procfs/result.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/statm.h"
#include "collectors/procfs/status.h"

namespace cow::memory {

// The addresses that fork copies and exec redraws. Equal keys make two processes candidates for one family, no more.
struct LayoutKey {
  uint64_t start_code = 0;
  uint64_t end_code = 0;
  uint64_t start_data = 0;
  uint64_t end_data = 0;
  uint64_t start_brk = 0;
  uint64_t start_stack = 0;

  // Empty where permission hides it.
  static std::optional<LayoutKey> Of(const procfs::Stat& stat);
  auto operator<=>(const LayoutKey&) const = default;  // NOLINT(modernize-use-nullptr): mistaken by clang-tidy 14
};

struct Process {
  pid_t pid = 0;
  uint64_t start_ticks = 0;
  procfs::TaskId memory = 0;        // whose files show the memory: the process, or a thread that outlived its leader
  procfs::Stat stat;                // of the last update
  procfs::Status status;            // of the last update that found a change, see ProcessTable::Update
  std::optional<LayoutKey> layout;  // from stat, or from maps where stat hides it; empty: hidden by permission
  bool baseline = false;            // was there at the exporter's first look, or was left out before
  uint64_t since_pass = 0;          // the update that saw it first, or first after its last exec
  bool executed = false;            // exec since the update before
  std::optional<procfs::Error> unread;  // why the last update could not read it; stat and status are older then
  std::string exe;                      // read at first sight and after exec; empty where denied
  procfs::Cgroups cgroups;              // likewise

  // True if `other` forked this process, going by parent pid and start time.
  bool IsChildOf(const Process& other) const;
  uint64_t RssAnonBytes() const { return status.rss_anon_bytes.value_or(0); }
  uint64_t ResidentBytes() const;
  // Resident and swapped: swapped pages are walked as resident ones are.
  uint64_t SizeBytes() const;
};

class ProcessTable {
 public:
  using Processes = std::map<pid_t, std::shared_ptr<Process>>;

  // Descriptors kept open on files of processes, at most: two for each process, and 35 MiB of kernel memory in all.
  // First come, first served: all files are read in turn, so to close one for another would only move the cost.
  static constexpr size_t kMaxKeptFiles = 8192;

  ProcessTable(procfs::Root root, size_t max_processes, size_t max_kept_files = kMaxKeptFiles);

  // Lists and reads all processes. An error means the list itself could not be read; the table is then unchanged.
  // Errors of one process cost that process only.
  procfs::Result<void> Update();

  // Those that are known stay, also beyond it.
  void SetMaxProcesses(size_t max_processes) { max_processes_ = max_processes; }

  const Processes& processes() const { return processes_; }
  uint64_t pass() const { return pass_; }
  // Grows with every process that comes, goes, or execs.
  uint64_t version() const { return version_; }
  // Processes left out by the limit in the last update.
  size_t over_limit() const { return over_limit_.size(); }
  // Processes whose stat could not be read or made no sense in the last update, by reason, and of which nothing is
  // known from an earlier one.
  const std::map<procfs::ErrorKind, size_t>& unreadable() const { return unreadable_; }
  // Descriptors that are open on files of processes.
  size_t kept_files() const { return files_.kept(); }

 private:
  // Open on files of one pid that is listed.
  struct Kept {
    procfs::FileDescriptor stat;
    procfs::FileDescriptor statm;
    std::optional<procfs::Statm> sizes;  // from before `status` was last read; empty where they were not read
    uint64_t pass = 0;                   // that listed it last
  };

  // Reads one into `process`, which is null for one that was not known. False if there is nothing to keep.
  bool UpdateOne(pid_t pid, std::shared_ptr<Process>& process);
  void TakeStat(bool is_known, procfs::Stat&& stat, Process& process);
  procfs::Result<procfs::TaskId> FindMemory(procfs::Stat& stat) const;
  bool Moved(const Process& process, const procfs::Stat& stat, procfs::TaskId memory, Kept& kept);
  procfs::Result<procfs::Stat> ReadStat(pid_t pid, bool is_known, Kept& kept);
  procfs::Result<procfs::Statm> ReadStatm(procfs::TaskId task, Kept& kept);
  bool NoteUnreadable(const procfs::Error& error, Process* known);
  Processes::iterator Forget(Processes::iterator process);
  void CloseStatm(Kept& kept);
  void CloseUnlisted();

  procfs::Root root_;
  size_t max_processes_;
  procfs::ProcessFiles files_;
  uint64_t pass_ = 0;
  uint64_t version_ = 0;
  Processes processes_;
  std::unordered_map<pid_t, Kept> kept_;  // kernel threads and zombies too: they must be told from others each time
  std::vector<pid_t> newcomers_;
  std::vector<pid_t> over_limit_;  // ascending
  std::map<procfs::ErrorKind, size_t> unreadable_;
};

}  // namespace cow::memory
