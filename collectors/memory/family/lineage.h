// Decides which processes are related. A family is a set of processes that descend from one another by fork without
// exec, so they have the same address-space layout.
//
// Every process belongs to exactly one family; most families have one member. A newcomer joins the family of a process
// with the same layout key if both map the same anonymous frame. If layouts are random, a child with its parent's key
// joins without that proof (without ASLR, unrelated runs of a program have equal keys). If two keys only resemble each
// other, a common frame decides. A process in the address space of a member (vfork, CLONE_VM) becomes an alias of that
// member.
//
// A member is an address space. It ends when its last process exits or calls exec. A changed layout alone does not end
// it. Reads page tables through FrameProbe only. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

// The page-table questions of Lineage.
class FrameProbe {
 public:
  virtual ~FrameProbe() = default;
  // True if both processes map the same anonymous frame (neither the zero page nor KSM's) at one address.
  virtual bool ShareFrame(const Process& a, const Process& b) = 0;
  // Orders processes by address space; equal if both have the same one. Empty if the kernel can't compare them.
  virtual std::optional<std::strong_ordering> CompareMemory(const Process& a, const Process& b) = 0;
  // Compares page tables: true if both processes have the same address space. A slower fallback if CompareMemory is
  // empty. Empty if page tables can't prove it either.
  virtual std::optional<bool> SameMemory(const Process& a, const Process& b) = 0;
  // True if `pagemap` still shows the address space of `process`. It was opened for this process or for another one in
  // its address space. Empty if that can't be found out.
  virtual std::optional<bool> HasPagemap(const Process& process, const procfs::Pagemap& pagemap) = 0;
  virtual Result<procfs::Pagemap> OpenPagemap(const Process& process) = 0;
  // True if ASLR is on for this process.
  virtual bool LayoutIsRandom(const Process& process) = 0;
};

class Lineage {
 public:
  // `ledger_limit_bytes`: memory budget of all families; beyond it, new records keep no frames.
  Lineage(procfs::PageGeometry geometry, Pfn zero_frame, uint64_t ledger_limit_bytes = ~uint64_t{0});

  // Updates membership from the table. False if `may_go_on` stopped it: every family is consistent then, but some
  // newcomers have no family until the next update.
  bool Update(
      const ProcessTable& table, FrameProbe& probe, const MayGoOn& may_go_on = [] { return true; });

  // Families with a living member, or with ended members whose pages are not judged yet.
  const std::list<std::unique_ptr<Family>>& families() const { return families_; }

  // Removes ended members whose pages are judged, and returns them. Call it after a completed scan of the family.
  std::vector<std::unique_ptr<Member>> Settle(Family& family);

  // Forgets the family's records and its ended members; the family stays. A later scan compares its pages from then on
  // and does not judge what happened before. Call it between passes, and only if the family has no unfinished scan.
  void Leave(Family& family);

  // Forgets all families and makes every process of the table part of the baseline. Call it after an exception has
  // broken off an update or a scan. Never throws.
  void Forget(const ProcessTable& table) noexcept;

  // Sets the memory budget of all families. Records beyond it lose their frames when they are next committed.
  void SetLedgerLimit(uint64_t bytes) { budget_.limit_bytes = bytes; }
  const LedgerBudget& budget() const { return budget_; }

 private:
  struct Candidate {
    uint64_t next_probe = 0;  // pass at which an unrelated pair is compared again
    uint64_t wait = 1;
  };
  // The family of a process, which is a member or an alias.
  struct Home {
    Family* family = nullptr;
    MemberIndex slot;                  // of the member whose memory it has
    const Process* process = nullptr;  // lives as long as the place
  };
  enum class Fate {
    kLives,
    kEnded,
    kOvertaken,  // ended after the table had read the process: what the table says of it is no longer true
  };
  // The inputs of one update.
  struct Circumstances {
    const ProcessTable& table;
    FrameProbe& probe;
    const MayGoOn& may_go_on;
    bool same_processes;  // none came, went or got another layout since the last completed update
  };

  void ListLayouts(const ProcessTable& table);
  bool EndMembers(const Circumstances& now);
  bool IsCurrent(const Process& process, const Circumstances& now) const;
  Fate FateOf(Member& member, const Circumstances& now) const;
  // Replaces the process of a member, which has left their common memory, by an alias. False if there is no alias.
  bool TakeOver(Family& family, Member& member, const Circumstances& now);
  void EndAliases(Family& family, const Circumstances& now);
  bool PlaceNewcomers(const Circumstances& now);
  void Place(const std::shared_ptr<Process>& process, FrameProbe& probe);
  const Home* FindParent(const Process& process) const;
  Family* FindRelatives(const Process& process, FrameProbe& probe);
  Family* FindByFrames(const Process& process, FrameProbe& probe);
  // Returns the home of another process in the same address space; null if there is none.
  const Home* FindSameMemory(const std::shared_ptr<Process>& process, FrameProbe& probe);
  static const Process* FindInOrder(std::vector<std::shared_ptr<Process>>& order,
                                    const std::shared_ptr<Process>& process, FrameProbe& probe, bool& certain);
  void ForgetOrder(const Member& member);
  void AddAlias(const Home& home, const std::shared_ptr<Process>& process);
  bool ProbeAgain(const Circumstances& now);
  Member& Join(Family& family, const std::shared_ptr<Process>& process, FrameProbe& probe);
  // Inserts the member by age, parents before their children. Returns it.
  static Member& Insert(Family& family, std::unique_ptr<Member> member);

  procfs::PageGeometry geometry_;
  Pfn zero_frame_;
  LedgerBudget budget_;
  uint64_t next_id_ = 1;
  std::list<std::unique_ptr<Family>> families_;
  std::unordered_map<pid_t, Home> homes_;  // of members and aliases
  uint64_t table_version_ = 0;             // at the last completed update
  uint64_t listed_version_ = 0;            // of the next three
  std::map<LayoutKey, std::vector<const Process*>> by_layout_;
  std::unordered_map<uint64_t, std::vector<const Process*>> by_address_;  // the stack's and the heap's, of layouts
  std::unordered_set<const Process*> alike_;                              // whose layout resembles that of others
  // Processes with a home and equal layouts, ordered by address space for binary search.
  std::map<LayoutKey, std::vector<std::shared_ptr<Process>>> memory_order_;
  std::set<pid_t> overtaken_;              // in the update before: they have no family yet
  std::map<pid_t, Candidate> candidates_;  // families of one that resemble others
};

}  // namespace cow::memory
