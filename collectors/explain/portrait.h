// A portrait of a family at one look: its members, the mappings of the requested process and, if requested, the state
// of each page. Plain values in base pages and addresses.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collectors/explain/page_state.h"
#include "collectors/memory/read/mapping.h"

namespace cow::explain {

// Numbers of base pages by state.
struct PageSums {
  std::array<uint64_t, kPageStates> pages{};
  uint64_t huge = 0;  // mapped by huge pages, of any state; the huge zero page is not in it

  uint64_t Of(PageState state) const { return pages[static_cast<size_t>(state)]; }
  void Add(PageState state, uint64_t count = 1) { pages[static_cast<size_t>(state)] += count; }
  // All present pages, including the zero page and the page cache.
  uint64_t Resident() const;
  // Copied from a shared page or from a file's page.
  uint64_t Copied() const;
  // Pages that others copied, and pages of private file mappings that are still the file's own.
  uint64_t Original() const;
  // Its own pages that are neither copied nor original: private, unshared and unattributed.
  uint64_t Private() const;
};

// Consecutive pages with the same properties.
struct PageRun {
  uint64_t start = 0;  // address
  uint64_t pages = 0;
  PageState state = PageState::kAbsent;
  bool huge = false;               // mapped by huge pages
  std::vector<pid_t> shared_with;  // ascending; empty also if unknown

  bool ContinuesWith(const PageRun& next, size_t page_bytes) const;
};

// Breaks between two looks, in pages.
struct Breaks {
  uint64_t pages = 0;
  uint64_t of_unknown_side = 0;  // the part with one of several members as the breaker
};

struct MemberPortrait {
  pid_t pid = 0;
  pid_t parent = 0;           // the member that forked it; 0 where that is none
  std::string name;           // comm: any bytes
  bool unread = false;        // its page table could not be read: the sums are empty
  std::string unread_reason;  // why: "denied", "gone"…
  std::string unread_detail;  // the file and what was checked, for a person
  PageSums sums;
  uint64_t broken_pages = 0;            // it copied because it wrote, as the marks tell; shared anew or not
  uint64_t broken_since_last_look = 0;  // seen, by it; what could be any of several is in the family's only
};

struct MappingPortrait {
  memory::Mapping mapping;
  PageSums sums;
  uint64_t exposure_pages = 0;  // what the family grows by if every page that this process shares here is written
  std::vector<PageRun> runs;    // without holes between them

  // What was lost here and what can still be lost: shared, copied, original and unattributed pages. Originals of a file
  // count if the mapping is writable.
  uint64_t StakePages() const;
};

struct Portrait {
  pid_t pid = 0;    // of the process that the mappings are of
  pid_t asked = 0;  // the one asked for: another only where that has the same memory (vfork, CLONE_VM)
  size_t page_bytes = 0;
  std::chrono::system_clock::time_point time;  // of the end of the look
  std::vector<MemberPortrait> members;         // the root first, then by age
  std::vector<MappingPortrait> mappings;       // of the process asked for, by address
  bool has_pages = false;                      // the mappings have runs

  uint64_t exposure_pages = 0;      // Σ over the family's frames (holders − 1)
  uint64_t unattributed_pages = 0;  // differ between members; no evidence says whether one copied
  uint64_t unseen_pages = 0;        // shared with processes that can't be seen
  std::array<uint64_t, memory::kMappingKinds> broken_by_kind{};
  std::optional<Breaks> since_last_look;  // empty at a first look

  bool frames_known = true;        // false: partners and sides are unknown
  bool marks_known = true;         // else: what was broken before this look is unknown
  bool swap_hides_copies = false;  // pages may have come back from swap: earlier copies are unattributed
  bool zero_known = true;          // the zero page is distinguished from shared memory
  uint64_t unstable_pages = 0;     // kept changing while they were read: theirs may be another state

  const MemberPortrait* Find(pid_t of) const;
  uint64_t BrokenPages() const;
};

}  // namespace cow::explain
