// Tells between two passes that a known process has forked, so that the child's first look comes soon.
//
// By the kernel's fork events where it sends them, else by a look at the list of processes whenever something was
// forked. A child counts when it has its parent's address-space layout at two looks in a row: those that exec or end
// within that time, as a shell's do, are nobody's fork for long and start nothing. Used by the scanning thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "collectors/memory/process/process_table.h"
#include "collectors/netlink/proc_events.h"
#include "collectors/procfs/fork_counter.h"
#include "collectors/procfs/root.h"

namespace cow::collectors {

class ForkWatch {
 public:
  // `events` is null where the kernel sends none.
  ForkWatch(const procfs::Root& root, std::unique_ptr<netlink::ProcEvents> events);

  // True if a process that resembles one of the table, and is not in it itself, was there at the look before too. Each
  // is told once. Costs a read of less than a microsecond where nothing was forked; else, with events, two microseconds
  // for each fork on the host, and without, half a microsecond for each process; and 10 µs for each new process.
  bool Look(const memory::ProcessTable& table);

  bool has_events() const { return events_ != nullptr; }
  // Looks that found events lost, and went through the list instead.
  uint64_t overruns() const { return overruns_; }

 private:
  enum class State { kNew, kSeenOnce, kTold, kStranger };
  struct Newcomer {
    State state = State::kNew;
    uint64_t start_ticks = 0;
    uint64_t listed = 0;  // the look that found it in the list last
  };

  // False if the list is needed.
  bool TakeEvents();
  bool SomethingWasForked();
  void ReadList(const memory::ProcessTable& table);
  bool Judge(pid_t pid, Newcomer& newcomer, const memory::ProcessTable& table);
  bool IsKnown(const memory::LayoutKey& layout, const memory::ProcessTable& table);

  procfs::Root root_;
  std::unique_ptr<netlink::ProcEvents> events_;
  procfs::ForkCounter counter_;
  std::optional<uint64_t> forks_;
  uint64_t looks_ = 0;
  uint64_t overruns_ = 0;
  std::map<pid_t, Newcomer> newcomers_;  // since the last pass; with those that are nobody's fork, if they were listed
  std::set<memory::LayoutKey> layouts_;
  std::optional<uint64_t> layouts_version_;  // of the table
  std::vector<netlink::ProcEvent> taken_;
};

}  // namespace cow::collectors
