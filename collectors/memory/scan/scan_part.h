// A member within a scan, and how the scan walks its family. Plain data; the thread rule of the scan applies.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/read/page_table_reader.h"
#include "collectors/memory/scan/pass_options.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

struct ScanPart {
  ScanPart(Member& its_member, PageTableReader its_reader, bool is_due)
      : member(&its_member),
        reader(std::move(its_reader)),
        due(is_due),
        signals(ChangeSignals::Of(*its_member.process)) {}

  Member* member;
  PageTableReader reader;
  bool due;               // else the ledger stands for it, except where a verdict is in doubt
  ChangeSignals signals;  // from before its pages were read
  ForkMoment began;       // likewise
  size_t next_mapping = 0;
  uint64_t walked_anon_pages = 0;
  uint64_t walked_swap_pages = 0;
  uint64_t walked_hugetlb_pages = 0;
  uint64_t walked_ksm_pages = 0;
  // Of the current window:
  PageEntry* entries = nullptr;
  uint64_t huge_pages = 0;
  bool maps_window = false;
  bool read = false;                 // all its entries were read; else some are what the ledger remembers
  WindowBitmap recalled;             // those that were not
  uint64_t entries_fingerprint = 0;  // where the entries are not the first part's
  uint64_t fingerprint = 0;

  // Returns the first mapping that ends in the window or behind it; null if there is none. Pass ascending windows.
  const Mapping* FirstMapping(const procfs::PageGeometry& geometry, WindowIndex window) {
    const uint64_t begin = window.Address(geometry.huge_page_bytes);
    const std::vector<Mapping>& mappings = *member->access.mappings;
    while (next_mapping < mappings.size() && mappings[next_mapping].vma.end <= begin) ++next_mapping;
    return next_mapping < mappings.size() ? &mappings[next_mapping] : nullptr;
  }

  // Calls visit(mapping, first page within the window, pages) for the mappings in the window, in ascending order.
  template <class Visit>
  void ForEachMapping(const procfs::PageGeometry& geometry, WindowIndex window, Visit&& visit) {
    FirstMapping(geometry, window);
    VisitMappings(geometry, std::span(*member->access.mappings).subspan(next_mapping), window, visit);
  }

  // Computes the fingerprint of everything that the window's tallies depend on. `of_entries`: fingerprint of the
  // entries.
  void TakeFingerprint(const procfs::PageGeometry& geometry, WindowIndex window, uint64_t of_entries) {
    fingerprint = MixFingerprint(of_entries, huge_pages);
    ForEachMapping(geometry, window, [this](const Mapping& mapping, uint32_t first, uint32_t pages) {
      const uint64_t kind = static_cast<uint64_t>(mapping.kind) << 3U | (mapping.hugetlb ? 4U : 0U) |
                            (mapping.vma.shared ? 2U : 0U) | (mapping.IsPrivateFile() ? 1U : 0U);
      // A window has at most 8192 pages, those of 64 KiB.
      fingerprint = MixFingerprint(fingerprint, uint64_t{first} << 40U | uint64_t{pages} << 16U | kind);
    });
  }
};

struct ScanWalk {
  PassOptions options;
  bool all = false;           // anonymous memory too
  bool every_member = false;  // every member is read
  bool ksm_in_use = false;    // by a member
  bool swapped_in = false;    // pages of members, since the family's last pass
  bool unsettled = false;     // pages were migrating, or kept changing under the reads: the next pass reads them again
  bool keep_looks = false;    // looks are kept for the next pass
  bool alone = false;         // the family had one member when the scan began
  std::optional<procfs::Vmstat> host;                            // the host's counters when the scan began
  std::optional<std::chrono::system_clock::time_point> read_at;  // before its first page
};

// By slot; null where the member has no part.
inline std::vector<ScanPart*> PartsBySlot(std::span<ScanPart> parts) {
  std::vector<ScanPart*> by_slot;
  for (ScanPart& part : parts) {
    const MemberIndex slot = part.member->slot;
    if (slot.number() >= by_slot.size()) by_slot.resize(slot.number() + 1, nullptr);
    by_slot[slot.number()] = &part;
  }
  return by_slot;
}

}  // namespace cow::memory
