// The processes of the host, kept from pass to pass with their identity.
//
// The identity of a process is (pid, start time), because pids are reused. An exec keeps this identity and draws
// another address-space layout. A process can also change its layout itself (prctl PR_SET_MM): Families tells the two
// apart. Kernel threads and zombies have no memory and are not kept. A process whose leader ended before its other
// threads has memory, and is kept.
//
// An update reads `stat` and `statm` of every process, by descriptors that are kept open, and no more of one that did
// nothing: `stat` has its faults, and `statm` the exact sizes, which tell of pages that were given up without a fault.
// `status` is read where one of these moved. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "collectors/base/may_go_on.h"
#include "collectors/base/result.h"
#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/cgroup_namespace.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/process_files.h"
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
  // True if both have an address in common that exec draws at random: one may be the other with some fields changed by
  // prctl PR_SET_MM.
  bool Resembles(const LayoutKey& other) const;
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
  uint64_t since_pass = 0;          // the update that saw it first, or first with its present layout
  // Ticks since boot until when it may have waited for a child that ended; 0: it never has. What happened before the
  // table knew it counts as of the first update.
  uint64_t reaped_until_ticks = 0;
  std::optional<Error> unread;  // why the last update could not read it; stat and status are older then
  std::string exe;              // read at first sight and when the layout changes; empty where denied
  procfs::Cgroups cgroups;      // likewise

  // True if `other` forked this process, going by parent pid and start time.
  bool IsChildOf(const Process& other) const;
  uint64_t RssAnonBytes() const { return status.rss_anon_bytes.value_or(0); }
  uint64_t ResidentBytes() const;
  // Resident and swapped: swapped pages are walked as resident ones are.
  uint64_t SizeBytes() const;
};

// A process that has ended and was not waited for yet.
struct Zombie {
  pid_t pid = 0;
  pid_t parent = 0;
  uint64_t start_ticks = 0;
};

class ProcessTable {
 public:
  using Processes = std::map<pid_t, std::shared_ptr<Process>>;

  // Descriptors kept open on files of processes, at most: two for each process, and 35 MiB of kernel memory in all.
  // First come, first served: all files are read in turn, so to close one for another would only move the cost.
  static constexpr size_t kMaxKeptFiles = 8192;

  ProcessTable(procfs::Root root, size_t max_processes, size_t max_kept_files = kMaxKeptFiles);

  // Lists and reads all processes. An error means that the list itself could not be read; the table is then unchanged.
  // Errors of one process cost that process only. False if `may_go_on` ended it: some processes are then as they were
  // at the update before, and the next update completes it.
  Result<bool> Update(const MayGoOn& may_go_on = [] { return true; });

  // Those that are known stay, also beyond it.
  void SetMaxProcesses(size_t max_processes) { max_processes_ = max_processes; }

  const Processes& processes() const { return processes_; }
  uint64_t pass() const { return pass_; }
  // Grows with every process that comes, goes, or gets another layout.
  uint64_t version() const { return version_; }
  // Processes left out by the limit in the last update.
  size_t over_limit() const { return over_limit_.size(); }
  // Processes whose stat could not be read or made no sense in the last update, by reason, and of which nothing is
  // known from an earlier one.
  const std::map<ErrorKind, size_t>& unreadable() const { return unreadable_; }
  // Of the last update.
  const std::vector<Zombie>& zombies() const { return zombies_; }
  // The last update found this pid in the list: of a process, a zombie or a kernel thread.
  bool WasListed(pid_t pid) const { return kept_.contains(pid); }
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
  bool UpdateKnown(const std::vector<pid_t>& pids, const MayGoOn& may_go_on);
  bool AddNewcomers(const MayGoOn& may_go_on);
  void TakeStat(bool is_known, procfs::Stat&& stat, Process& process);
  Result<procfs::TaskId> FindMemory(procfs::Stat& stat) const;
  bool Moved(const Process& process, const procfs::Stat& stat, procfs::TaskId memory, Kept& kept);
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
  uint64_t ticks_per_second_;
  uint64_t pass_ = 0;
  bool completed_ = false;  // some update was
  uint64_t version_ = 0;
  Processes processes_;
  std::unordered_map<pid_t, Kept> kept_;  // kernel threads and zombies too: they must be told from others each time
  std::vector<pid_t> newcomers_;
  std::vector<Zombie> zombies_;
  std::vector<pid_t> over_limit_;  // ascending; as the next one of the last completed update
  std::map<ErrorKind, size_t> unreadable_;
  std::map<ErrorKind, size_t> unreadable_now_;  // of the update under way
};

}  // namespace cow::memory
