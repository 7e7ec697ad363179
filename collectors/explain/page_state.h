// Judges the state of one page of a process from page tables and the kernel's marks.
//
// Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "collectors/procfs/pagemap.h"

namespace cow::explain {

enum class PageState : uint8_t {
  kAbsent,        // nothing there yet
  kShared,        // anonymous, and another process maps the same frame, from fork
  kCopied,        // was shared since a fork; this process wrote, and has a copy of its own
  kOriginal,      // was shared since a fork; this process has kept the page while a relative copied it
  kUnshared,      // came from a fork and is mapped only here: the others ended, dropped it, or moved it
                  // to another address before they wrote
  kUnattributed,  // differs from a relative's page; no evidence says whether they shared one
  kPrivate,       // its own, and nothing shows that it ever was another's too
  kUnknown,       // shared or the zero page: neither frames nor PAGEMAP_SCAN are there to tell; or shared or merged
  kZero,          // the zero page
  kMerged,        // by KSM
  kFileCopied,    // of a private file mapping: written to, and so a copy of its own
  kFileOriginal,  // of a private file mapping: still the page cache's
  kFile,          // of a shared mapping: writes reach the file or the shared memory, nothing is ever copied
  kSwapped,       // in swap
  kUnresolved,    // on its way: migrating, or otherwise neither there nor in swap
  kGuard,         // a guard region's
};
inline constexpr size_t kPageStates = 16;

// Returns the name of a state: "absent", "shared", "copied" (also for file pages), "original" (likewise), "private"….
// "huge" is a private page that a huge page maps.
std::string_view PageStateName(PageState state, bool huge);

// The facts about a page.
struct PageEvidence {
  procfs::PageEntry entry;
  bool frames_known = true;  // else the entry's frame number is hidden
  bool zero_known = true;    // without frames: PAGEMAP_SCAN has told the zero pages
  bool is_zero_page = false;
  bool private_mapping = true;    // MAP_PRIVATE
  bool private_file = false;      // and of a file
  bool shared = false;            // a relative maps the same frame
  bool copied = false;            // this process broke it
  bool original = false;          // a relative broke it
  bool differs = false;           // a relative has another page here, and none is known to have copied
  bool merged = false;            // by KSM
  bool merged_known = true;       // else `merged` is that it can't be ruled out
  std::optional<bool> exclusive;  // the kernel's AnonExclusive mark, where it is known and this page's own
};

PageState JudgePage(const PageEvidence& evidence);

}  // namespace cow::explain
