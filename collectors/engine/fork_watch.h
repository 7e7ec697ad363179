// Finds out between two passes that a known process has forked, so that the child gets an early first look.
//
// Reads the kernel's fork events. Without them it lists /proc whenever the host's fork counter has moved. A child
// counts once it has its parent's address-space layout in two consecutive calls. Children that exec or end before that,
// like a shell's, are ignored. Use it from the scanning thread.
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
  // `events` is null if the kernel sends none.
  ForkWatch(const procfs::Root& root, std::unique_ptr<netlink::ProcEvents> events);

  // True if a process that is not in the table has the layout of one that is, in this call and in the previous one.
  // Reports each process once. Costs less than 1 µs if nothing was forked. Otherwise it costs 2 µs per fork on the host
  // with events, or 0.5 µs per process without, plus 10 µs per new process.
  bool Look(const memory::ProcessTable& table);

  bool has_events() const { return events_ != nullptr; }
  // Calls that listed all processes because events were lost.
  uint64_t overruns() const { return overruns_; }

 private:
  enum class State { kNew, kSeenOnce, kTold, kStranger };
  struct Newcomer {
    State state = State::kNew;
    uint64_t start_ticks = 0;
    uint64_t listed = 0;  // last call of Look that found it in /proc
  };

  // False if the processes must be listed.
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
  std::map<pid_t, Newcomer> newcomers_;  // since the last pass; keeps strangers that were found by listing
  std::set<memory::LayoutKey> layouts_;
  std::optional<uint64_t> layouts_version_;  // of the table
  std::vector<netlink::ProcEvent> taken_;
};

}  // namespace cow::collectors
