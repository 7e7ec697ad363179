// The processes of the host, kept from pass to pass with their identity.
//
// Identity is (pid, start time): a pid alone is reused. An exec keeps the identity and is seen by the address-space
// layout that it redraws. Kernel threads and zombies have no memory and are not kept; a process whose leader ended
// before its other threads has, and is. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/result.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/stat.h"
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

  auto operator<=>(const LayoutKey&) const = default;  // NOLINT(modernize-use-nullptr): mistaken by clang-tidy 14
};

struct Process {
  pid_t pid = 0;
  uint64_t start_ticks = 0;
  procfs::TaskId memory = 0;        // whose files show the memory: the process, or a thread that outlived its leader
  procfs::Stat stat;                // of the last update
  procfs::Status status;            // of the last update
  std::optional<LayoutKey> layout;  // from stat, or from maps where stat hides it; empty: hidden by permission
  bool baseline = false;            // was there at the exporter's first look
  uint64_t since_pass = 0;          // the update that saw it first, or first after its last exec
  bool executed = false;            // exec since the update before
  std::string exe;                  // read at first sight and after exec; empty where denied
  procfs::Cgroups cgroups;          // likewise

  // True if `other` forked this process, going by parent pid and start time.
  bool IsChildOf(const Process& other) const;
  uint64_t RssAnonBytes() const { return status.rss_anon_bytes.value_or(0); }
  uint64_t ResidentBytes() const;
};

class ProcessTable {
 public:
  ProcessTable(procfs::Root root, size_t max_processes);

  // Lists and reads all processes. An error means the list itself could not be read; the table is then unchanged.
  // Errors of one process cost that process only.
  procfs::Result<void> Update();

  const std::map<pid_t, std::shared_ptr<Process>>& processes() const { return processes_; }
  uint64_t pass() const { return pass_; }
  // Processes left out by the limit in the last update.
  size_t over_limit() const { return over_limit_; }
  // Processes whose stat could not be read or made no sense in the last update, by reason; nothing else is known of
  // them.
  const std::map<procfs::ErrorKind, size_t>& unreadable() const { return unreadable_; }

 private:
  void UpdateOne(pid_t pid, std::map<pid_t, std::shared_ptr<Process>>& next);
  std::optional<procfs::TaskId> FindMemory(procfs::Stat& stat) const;

  procfs::Root root_;
  size_t max_processes_;
  uint64_t pass_ = 0;
  std::map<pid_t, std::shared_ptr<Process>> processes_;
  size_t over_limit_ = 0;
  std::map<procfs::ErrorKind, size_t> unreadable_;
};

}  // namespace cow::memory
