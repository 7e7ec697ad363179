// What is known of forks that page tables do not show. A mark of 0 says that some fork shared the page, not which one:
// a verdict at a first look needs to know that no other fork can have cleared the mark.
//
// Two sources, either of which suffices. Fork events name the parent of every fork from the moment they begin; after a
// loss they begin anew. Without events the process table tells: living children and zombies by parent and start time,
// and children that are gone by the faults that a process takes over from each child it waits for (`stat`, cminflt and
// cmajflt). A process that ignores SIGCHLD takes over nothing, so nothing is known of its forks.
//
// Of(), Now() and IsIdleSince() may be called by any thread during a pass; everything else between passes, by the
// scanning thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/process/fork_moment.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/netlink/proc_events.h"
#include "collectors/procfs/fork_counter.h"
#include "collectors/procfs/root.h"

namespace cow::memory {

class ForkHistory {
 public:
  // `sees_every_process`: false where procfs hides processes, whose forks only events can tell.
  ForkHistory(procfs::Root root, bool sees_every_process);

  // Takes fork events from now on. Null: there are none.
  void Listen(std::unique_ptr<netlink::ProcEvents> events);
  bool has_events() const { return events_ != nullptr; }
  // The same events for another reader, which must not outlive this object. Null where there are none.
  std::unique_ptr<netlink::ProcEvents> Relay();

  // Around each update of the table, which must not change before the next one.
  void BeforeUpdate();
  void AfterUpdate(const ProcessTable& table);

  // The forks around `child` from its birth to this moment; both are in the table. `parent` is a relative of its
  // parent pid. Costs a read of less than a microsecond as long as nothing was forked on the host; else a list of
  // processes and two reads of `stat`.
  ForkEvidence Of(const Process& child, const Process& parent);

  // This moment: before the pages are read that a later question is about.
  ForkMoment Now();
  // True if the process has forked nobody since that moment. The table must have it. Costs what Of() costs.
  bool IsIdleSince(const Process& process, const ForkMoment& moment);

 private:
  class RelayedEvents;
  // A process as events tell of it; times are the numbers of events.
  struct Life {
    uint64_t born = 0;  // 0: before the events began
    pid_t forker = 0;
    uint64_t last_fork = 0;
  };
  // A process as the table and its `stat` tell of it. Ticks since boot, as in `stat`.
  struct Facts {
    uint64_t reaped_until = 0;  // it may have taken over a child's faults until then
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
  // True if the process has forked nobody but `child` (0: nobody at all) since that tick. The table must be complete.
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
  uint64_t complete_since_ = 0;  // the number of the event after which none was lost or forgotten
  std::unordered_map<pid_t, Life> lives_;
  bool relayed_ = false;
  bool relay_complete_ = true;
  std::vector<netlink::ProcEvent> backlog_;  // for the other reader

  procfs::ForkCounter counter_;
  std::optional<uint64_t> forks_at_update_;
  std::optional<uint64_t> forks_listed_;  // the counter at the last look for newcomers
  bool newcomers_known_ = false;
  std::set<pid_t> newcomers_;  // forked since the update and looked at
  std::set<pid_t> newcomer_parents_;
  const ProcessTable* table_ = nullptr;
  bool children_listed_ = false;
  std::vector<Child> children_;  // of everybody, by parent
  std::unordered_map<pid_t, Facts> facts_;
};

}  // namespace cow::memory
