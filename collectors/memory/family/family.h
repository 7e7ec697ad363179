// A family: processes that descend from one another by fork without exec, and everything the exporter keeps about them.
// Plain data: Lineage decides membership, scans fill in the rest. Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "collectors/memory/family/looks.h"
#include "collectors/memory/ledger/ledger.h"
#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

// Counters and sizes that move when the page tables of a process change. From /proc/PID/stat and status, read before
// the page tables.
struct ChangeSignals {
  uint64_t minor_faults = 0;
  uint64_t major_faults = 0;
  uint64_t virtual_bytes = 0;
  uint64_t rss_anon_bytes = 0;
  uint64_t rss_file_bytes = 0;
  uint64_t rss_shmem_bytes = 0;
  uint64_t swap_bytes = 0;
  uint64_t hugetlb_bytes = 0;

  static ChangeSignals Of(const Process& process);
  bool operator==(const ChangeSignals&) const = default;
};

// How much of a process' page tables the exporter can read.
enum class Mode {
  kFull,
  kNoKpage,    // frames, but neither kpageflags nor kpagecount
  kNoFrames,   // pagemap without frame numbers: sharing by bit 56, no sides
  kNoPagemap,  // the kernel's sums of smaps_rollup only
  kNone,       // sizes and faults only
};
inline constexpr size_t kModes = 5;

// How the page table of a member is reached, and what it showed. Kept from pass to pass in families of two or more: the
// descriptor is the identity of the address space.
struct MemberAccess {
  std::optional<procfs::Pagemap> pagemap;
  std::shared_ptr<const std::vector<Mapping>> mappings;  // as they were when it was read last
  std::unordered_set<WindowIndex> huge_windows;          // windows mapped by one huge page at the last look
  Mode mode = Mode::kFull;                               // of the last pass
  std::optional<Error> unread;                           // why the last pass could not read it
  uint32_t passes_to_skip = 0;                           // before a member that was too large is tried again
  uint32_t next_pause = 1;                               // passes to skip after the next failure
};

// What passes have read of a member.
struct MemberReads {
  bool waits = false;                    // joined while a scan was under way: the next scan begins with it
  bool first_look = false;               // no completed pass has seen it, and it is younger than the exporter
  WindowIndex looked_until;              // of `first_look`: an unfinished pass has judged the windows below
  bool again = false;                    // it forked since the scan under way began, so its own pages are shared now
  bool remapped = false;                 // its mappings differ from those of its last completed look
  bool shares_unseen = false;            // it has no relatives, and yet its pages are shared: it is walked all the same
  std::optional<ForkMoment> scanned_at;  // when the last completed scan that read it began
  std::optional<ChangeSignals> signals;  // at the last completed pass that read it; empty: it has to be read
  std::optional<std::chrono::steady_clock::time_point> full_due;  // when it is read whatever its signals say

  // It forked: its own pages are shared now.
  void ReadAgain() {
    signals.reset();
    again = true;
  }
};

// How a member came and went, and the breaks in between.
struct MemberLife {
  bool forked = false;              // joined by fork, after the exporter's first look
  bool missed = false;              // no scan covered a part of its life, so its breaks are not known
  bool ended = false;               // by exit or exec; kept until its pages are judged
  bool taken_out = false;           // it ended, and its reports were taken out of the sums
  uint64_t broken_pages = 0;        // broken by it, in passes that count them
  uint64_t family_break_pages = 0;  // broken between it and its parent since it joined
};

// One address space of a family.
struct Member {
  std::shared_ptr<Process> process;
  std::optional<LayoutKey> layout;  // of the process, when its address space was last known to live
  MemberIndex slot;
  MemberIndex parent = Verdict::kNobody;  // the member that forked it, if it was one then
  MemberAccess access;
  MemberReads reads;
  MemberLife life;
};

// A process in the address space of a member.
struct Alias {
  std::shared_ptr<Process> process;
  MemberIndex slot;  // of the member
};

struct Family {
  Family(uint64_t family_id, size_t pages_per_window, Pfn zero_frame, LedgerBudget* budget)
      : id(family_id),
        ledger(pages_per_window, zero_frame, budget),
        looks(budget),
        members_charge(budget, MemoryPurpose::kMembers) {}

  uint64_t id;
  std::vector<std::unique_ptr<Member>> members;  // the root first, then by age
  std::vector<std::unique_ptr<Member>> ended;    // until the ledger has settled them
  Ledger ledger;
  Looks looks;
  MemoryCharge members_charge;
  bool membership_changed = true;      // since its last scan began
  bool must_read_all = false;          // the last scan could not tell where pages have moved
  Judgement owed;                      // verdicts of a scan that was given up as it ended: the next one shows them
  bool used_ksm = false;               // at its last scan, or that could not be ruled out
  std::optional<procfs::Vmstat> host;  // the host's counters before its last completed scan
  uint64_t forks = 0;                  // members that joined by fork since the exporter's first look
  uint64_t reported_forks = 0;         // the part of them that is in a FamilyReport
  // Processes in a member's address space (vfork, CLONE_VM). They count as processes; their memory counts once.
  std::vector<Alias> aliases;
  bool being_scanned = false;  // a scan is under way or rests: it refers to members, also to ended ones

  // Books the memory of looks and members with the budget. Call it after Lineage::Settle. Over the limit, drops long
  // lists of mappings; their members are read in each pass.
  void BookMemory();

  const Member* root() const { return members.empty() ? nullptr : members.front().get(); }
  // Returns the member with this slot, living or ended; null if there is none.
  Member* FindSlot(MemberIndex slot) const {
    return slot.number() < by_slot_.size() ? by_slot_[slot.number()] : nullptr;
  }
  // Gives the member the lowest slot that no member and no record of the ledger uses.
  void TakeSlot(Member& member);
  void FreeSlot(MemberIndex slot);

 private:
  std::vector<Member*> by_slot_;  // of `members` and `ended`
  MemberIndex first_free_;        // no lower slot is free
};

}  // namespace cow::memory
