// Families: processes that descend from one another by fork without exec, and so share an address-space layout.
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

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "collectors/memory/family/looks.h"
#include "collectors/memory/ledger/ledger.h"
#include "collectors/memory/process/fork_moment.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

// What moves when something of a process changes that its page tables would show: all of it from stat and status, read
// before the page tables are.
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

// How much of the page tables could be seen of a process.
enum class Mode {
  kFull,
  kNoKpage,    // frames, but neither kpageflags nor kpagecount
  kNoFrames,   // pagemap without frame numbers: sharing by bit 56, nothing by whom
  kNoPagemap,  // the kernel's sums of smaps_rollup only
  kNone,       // sizes and faults only
};
inline constexpr size_t kModes = 5;

struct FamilyScan;

struct Member {
  std::shared_ptr<Process> process;
  std::optional<LayoutKey> layout;  // of the process, as it was when its address space was last known to live
  Slot slot = 0;
  Slot parent = Verdict::kNobody;  // slot of the member that forked it, if it was one then
  bool forked = false;             // joined as somebody's fork, after the exporter's first look
  bool first_look = false;         // no completed pass has seen it yet, and it is younger than the exporter
  uint64_t looked_until = 0;       // of `first_look`: lower windows were judged, in a pass that was not completed
  bool ended = false;              // exit or exec; kept until the ledger has settled its pages
  bool waits = false;              // joined while a scan was under way: the next one begins with it
  bool read_again = false;         // since the scan under way began
  bool remapped = false;           // its mappings are not those of its last completed look
  bool taken_out = false;          // it ended, and what was shown of it is taken out of the sums

  // Kept from pass to pass in families of two or more: the descriptor is the identity of the address space.
  std::optional<procfs::Pagemap> pagemap;
  std::shared_ptr<const std::vector<Mapping>> mappings;  // as they were when it was read last
  std::unordered_set<uint64_t> huge_windows;             // windows that were mapped by one huge page at the last look
  bool shares_unseen = false;            // it has no relatives, and yet its pages are shared: it is walked all the same
  std::optional<Error> unread;           // why the last pass could not read it
  uint32_t passes_to_skip = 0;           // before a member that was too large is tried again
  uint32_t next_pause = 1;               // passes to skip after the next time
  Mode mode = Mode::kFull;               // of the last pass
  std::optional<ForkMoment> scanned_at;  // when the last completed scan that read it began
  std::optional<ChangeSignals> read_at;  // as they were at the last completed pass that read it; empty: to be read
  std::optional<std::chrono::steady_clock::time_point> full_due;  // when it is read whatever the signals say
  uint64_t life_break_pages = 0;                                  // broken between it and its parent since it joined
  bool missed = false;       // for a part of its life it was not scanned: what it cost is not known
  uint64_t break_pages = 0;  // broken by it, in passes that count them

  // It forked: what was its own is shared now.
  void ReadAgain() {
    read_at.reset();
    read_again = true;
  }
};

// A process in the address space of a member.
struct Alias {
  std::shared_ptr<Process> process;
  Slot slot = 0;  // of the member
};

struct Family {
  Family(uint64_t family_id, size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget)
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
  // Processes that share a member's whole memory (vfork, CLONE_VM): they count as processes, their memory once.
  std::vector<Alias> aliases;
  std::shared_ptr<FamilyScan> scan;  // that rests; null: none is under way. It refers to members, also to ended ones

  // After Families::Settle: tells the budget what looks and members take. Over the limit, drops long lists of mappings:
  // their members are read in each pass.
  void BookMemory();

  const Member* root() const { return members.empty() ? nullptr : members.front().get(); }
  // The member of this slot, living or ended; null if there is none.
  Member* FindSlot(Slot slot) const { return slot < by_slot_.size() ? by_slot_[slot] : nullptr; }
  // Gives the member the lowest slot that nobody has and that the ledger remembers nobody by.
  void TakeSlot(Member& member);
  void FreeSlot(Slot slot);

 private:
  std::vector<Member*> by_slot_;  // of `members` and `ended`
  Slot first_free_ = 0;           // no lower slot is free
};

// What the families need to know of page tables; the scanner answers.
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

class Families {
 public:
  // `ledger_limit_bytes`: what the records of all families may take before frames are dropped.
  Families(procfs::PageGeometry geometry, uint64_t zero_frame, uint64_t ledger_limit_bytes = ~uint64_t{0});

  // Brings membership up to date with the table. False if `may_go_on` ended it: every family is then consistent, some
  // newcomers are in none yet, and the next update completes it.
  bool Update(
      const ProcessTable& table, FrameProbe& probe, const MayGoOn& may_go_on = [] { return true; });

  // Families with at least one living member, or with pages of ended ones still to be settled.
  const std::list<std::unique_ptr<Family>>& families() const { return families_; }

  // After a completed pass over a family: forgets members that are settled. They are handed to `on_end`.
  void Settle(Family& family, const std::function<void(const Family&, const Member&)>& on_end);

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
    Slot slot = 0;                     // of the member whose memory it has
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
  uint64_t zero_frame_;
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
