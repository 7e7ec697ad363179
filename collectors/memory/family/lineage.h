// Lineage decides which processes are related: a family are processes that descend from one another by fork without
// exec, and so share an address-space layout.
//
// Every process is a member of exactly one family, most of them the only one. A newcomer joins the family of a process
// with the same layout key if both map the same anonymous frame, or if it is that process' child at first sight and
// layouts are random (without ASLR two unrelated runs of a program have equal keys). Where the keys only resemble each
// other, a common frame decides. A process that has the address space of a member (vfork, CLONE_VM) is no member of its
// own but an alias of that one.
//
// A membership is that of an address space: it ends when the last process in it exits or executes another program. A
// changed layout alone ends nothing. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "collectors/base/may_go_on.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

// What Lineage asks of page tables.
class FrameProbe {
 public:
  virtual ~FrameProbe() = default;
  // True if both processes map the same anonymous frame (neither the zero page nor KSM's) at one address.
  virtual bool ShareFrame(const Process& a, const Process& b) = 0;
  // Orders processes by their address space: equal if both have the same one. Empty where the kernel does not tell.
  virtual std::optional<std::strong_ordering> CompareMemory(const Process& a, const Process& b) = 0;
  // True if both are one address space, by their page tables. Dearer, for where CompareMemory is empty. Empty where
  // this can't be told either.
  virtual std::optional<bool> SameMemory(const Process& a, const Process& b) = 0;
  // True if the page table, which was opened on this process or on another in its address space, is still its own.
  virtual std::optional<bool> HasPagemap(const Process& process, const procfs::Pagemap& pagemap) = 0;
  virtual Result<procfs::Pagemap> OpenPagemap(const Process& process) = 0;
  // True if address-space layouts of this process are random.
  virtual bool LayoutIsRandom(const Process& process) = 0;
};

class Lineage {
 public:
  // `ledger_limit_bytes`: what the records of all families may take before frames are dropped.
  Lineage(procfs::PageGeometry geometry, Pfn zero_frame, uint64_t ledger_limit_bytes = ~uint64_t{0});

  // Brings membership up to date with the table. False if `may_go_on` ended it: every family is then consistent, some
  // newcomers are in none yet, and the next update completes it.
  bool Update(
      const ProcessTable& table, FrameProbe& probe, const MayGoOn& may_go_on = [] { return true; });

  // Families with at least one living member, or with pages of ended ones still to be settled.
  const std::list<std::unique_ptr<Family>>& families() const { return families_; }

  // After a completed scan of a family: forgets the members that ended and whose pages are judged, and returns them.
  std::vector<std::unique_ptr<Member>> Settle(Family& family);

  // Between passes, for a family that is not scanned and of which no scan rests: forgets what was recorded of its
  // pages, and members that ended. It stays a family; if it is scanned one day, its pages are compared from then on,
  // and what its members did before is not looked for.
  void Leave(Family& family);

  // After an update or a scan that was broken off by an exception, whatever was half done: nothing is known of any
  // family, and every process of the table is as one that was there at the first look. Never throws.
  void Forget(const ProcessTable& table) noexcept;

  // What the records of all families may take from now on; what is over it goes as records are made anew.
  void SetLedgerLimit(uint64_t bytes) { budget_.limit_bytes = bytes; }
  const LedgerBudget& budget() const { return budget_; }

 private:
  struct Candidate {
    uint64_t next_probe = 0;  // pass at which an unrelated pair is compared again
    uint64_t wait = 1;
  };
  // Where a process has its place: as a member or as an alias.
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
  // What one update goes by.
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
  // An alias takes the place of a member whose process has left their common memory. False if there is none.
  bool TakeOver(Family& family, Member& member, const Circumstances& now);
  void EndAliases(Family& family, const Circumstances& now);
  bool PlaceNewcomers(const Circumstances& now);
  void Place(const std::shared_ptr<Process>& process, FrameProbe& probe);
  const Home* FindParent(const Process& process) const;
  Family* FindRelatives(const Process& process, FrameProbe& probe);
  Family* FindByFrames(const Process& process, FrameProbe& probe);
  // The place of another process in the same memory; null if there is none.
  const Home* FindSameMemory(const std::shared_ptr<Process>& process, FrameProbe& probe);
  static const Process* FindInOrder(std::vector<std::shared_ptr<Process>>& order,
                                    const std::shared_ptr<Process>& process, FrameProbe& probe, bool& certain);
  void ForgetOrder(const Member& member);
  void AddAlias(const Home& home, const std::shared_ptr<Process>& process);
  bool ProbeAgain(const Circumstances& now);
  Member& Join(Family& family, const std::shared_ptr<Process>& process, FrameProbe& probe);
  // Puts the member where its age is, parents before their children. Returns it.
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
  // Processes with a place and equal layouts in the order of their address spaces, so that one is found in few steps.
  std::map<LayoutKey, std::vector<std::shared_ptr<Process>>> memory_order_;
  std::set<pid_t> overtaken_;              // in the update before: they have no family yet
  std::map<pid_t, Candidate> candidates_;  // families of one that resemble others
};

}  // namespace cow::memory
