// Answers questions about forks that page tables do not show. An AnonExclusive mark of 0 says that some fork shared the
// page, not which one. A verdict at a first look needs to know that no other fork can have cleared the mark.
//
// Two sources, either of which suffices:
//   fork events    name the parent of every fork since listening began; after a loss they begin anew
//   process table  living children and zombies, by parent and start time; reaped children, by the faults that the
//                  parent inherits from each (`stat`, cminflt and cmajflt). A process that ignores SIGCHLD inherits
//                  none, so its forks are unknown.
//
// Any thread may call Of(), Now() and IsIdleSince() during a pass. Call everything else between passes, from the
// scanning thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/netlink/proc_events.h"
#include "collectors/procfs/fork_counter.h"
#include "collectors/procfs/root.h"

namespace cow::memory {

class ForkHistory {
 public:
  // `sees_every_process`: false if procfs hides processes; only events show their forks.
  ForkHistory(procfs::Root root, bool sees_every_process);

  // Takes fork events from now on. Null: there are none.
  void Listen(std::unique_ptr<netlink::ProcEvents> events);
  bool has_events() const { return events_ != nullptr; }
  // Returns the same events for another reader, which must not outlive this object; null if there are none.
  std::unique_ptr<netlink::ProcEvents> Relay();

  // Call these around each update of the table. The table must not change before the next BeforeUpdate.
  void BeforeUpdate();
  void AfterUpdate(const ProcessTable& table);

  // Returns the evidence about forks around `child` from its birth to this moment. Both processes are in the table.
  // `parent` is the relative that the child's parent pid names. Costs less than a microsecond if the host forked
  // nothing since; else a process list and two reads of `stat`.
  ForkEvidence Of(const Process& child, const Process& parent);

  // Returns this moment. Call it before reading the pages that a later question is about.
  ForkMoment Now();
  // True if the process has certainly forked no child since that moment. The table must have it. Costs the same as
  // Of().
  bool IsIdleSince(const Process& process, const ForkMoment& moment);

 private:
  class RelayedEvents;
  // What events say about a process; times are event numbers.
  struct Life {
    uint64_t born = 0;  // 0: before the events began
    pid_t forker = 0;
    uint64_t last_fork = 0;
  };
  // What the table and `stat` say about a process, in ticks since boot.
  struct Facts {
    uint64_t reaped_until = 0;  // it may have reaped a child until then
    uint64_t children_faults = 0;
  };
  struct Child {
    pid_t parent = 0;
    pid_t pid = 0;
    uint64_t start_ticks = 0;
    const Process* process = nullptr;  // null: a zombie
  };

  void Poll();
  void NoteEvent(const netlink::ProcEvent& event);
  void ForgetLives();
  ForkEvidence ByEvents(pid_t child, pid_t parent) const;
  ForkEvidence ByTable(const Process& child, const Process& parent);
  bool IdleByEvents(pid_t pid, const ForkMoment& moment) const;
  // True if the process has forked no child except `child` (0: no exception) since that tick. The table must be
  // complete.
  bool IdleByTable(const Process& process, uint64_t since_ticks, pid_t child);
  bool TableIsComplete() const;
  const Facts& FactsOf(const Process& process);
  void ListChildren();
  std::vector<Child>::const_iterator FirstChildOf(pid_t parent) const;
  bool TreeReapedSince(const Process& root, const Process& child);
  bool ForkedUnseen(const Process& process);
  bool ListNewcomers();

  procfs::Root root_;
  uint64_t ticks_per_second_;
  bool sees_every_process_;
  std::mutex mutex_;

  std::unique_ptr<netlink::ProcEvents> events_;
  std::vector<netlink::ProcEvent> taken_;
  uint64_t event_number_ = 0;
  uint64_t complete_since_ = 0;  // no event after this number was lost or forgotten
  std::unordered_map<pid_t, Life> lives_;
  bool relayed_ = false;
  bool relay_complete_ = true;
  std::vector<netlink::ProcEvent> backlog_;  // for the other reader

  procfs::ForkCounter counter_;
  std::optional<uint64_t> forks_at_update_;
  std::optional<uint64_t> forks_listed_;  // the fork counter when newcomers were listed last
  bool newcomers_known_ = false;
  std::set<pid_t> newcomers_;  // forked since the update and already read
  std::set<pid_t> newcomer_parents_;
  const ProcessTable* table_ = nullptr;
  bool children_listed_ = false;
  std::vector<Child> children_;  // children of all processes, by parent
  std::unordered_map<pid_t, Facts> facts_;
};

}  // namespace cow::memory
