#include "collectors/memory/scan/window_reporter.h"

#include <cstring>

namespace cow::memory {

WindowReport WindowReporter::Make(Family& family, const ScanWalk& walk, WindowIndex window, const WindowScan& scan) {
  segments_.clear();
  members_.clear();
  first_segment_.clear();
  slots_.clear();
  first_entries_ = nullptr;
  breakers_.Clear();
  for (const Verdict& verdict : scan.judgement().verdicts) {
    if (verdict.kind == Verdict::Kind::kBreak) breakers_.Add(verdict.slot);
  }
  const std::span<const Reading> readings = scan.readings();
  for (size_t r = 0; r < readings.size(); ++r) {
    ScanPart& part = scan.PartOf(r);
    const MemberIndex slot = part.member->slot;
    if (part.due ? !part.maps_window : !family.looks.Has(window, slot)) continue;
    if (part.read && !part.due && walk.keep_looks) {
      part.TakeFingerprint(host_.geometry, window, FingerprintOf({part.entries, pages_}));
    }
    first_segment_.push_back(segments_.size());
    AddMember(family, walk, window, scan, r);
    slots_.push_back(slot);
    if (!walk.keep_looks || !part.read) continue;
    const bool settled = !scan.unsettled() && !scan.sharing().members[r].has_unmatched;
    family.looks.Store(window, slot, settled ? part.fingerprint : 0, tallies_);
  }
  family.looks.Retain(window, slots_);
  first_segment_.push_back(segments_.size());
  for (size_t i = 0; i < members_.size(); ++i) {
    members_[i].segments = std::span(segments_).subspan(first_segment_[i], first_segment_[i + 1] - first_segment_[i]);
  }
  return {.family = &family,
          .window = window,
          .geometry = host_.geometry,
          .read_at = scan.read_at(),
          .members = members_,
          .readings = readings,
          .sharing = &scan.sharing(),
          .judgement = &scan.judgement(),
          .frames_known = host_.capabilities.frames,
          .mapcounts_known = host_.capabilities.page_mapcounts,
          .alone = walk.alone};
}

// Adds the member's segments in the window: counted from its entries, or copied from its last look.
void WindowReporter::AddMember(Family& family, const ScanWalk& walk, WindowIndex window, const WindowScan& scan,
                               size_t reading) {
  ScanPart& part = scan.PartOf(reading);
  Member& member = *part.member;
  const WindowSharing::Member& sharing = scan.sharing().members[reading];
  const bool fresh = part.read;
  const std::span<const SegmentTally> known = family.looks.Tallies(window, member.slot);
  const bool as_known = walk.keep_looks && !known.empty() &&
                        (!fresh || family.looks.Fingerprint(window, member.slot) == part.fingerprint);
  const std::span<const PageEntry> entries(part.entries, pages_);
  tallies_.clear();
  size_t number = 0;
  part.ForEachMapping(host_.geometry, window, [&](const Mapping& mapping, uint32_t first, uint32_t pages) {
    // The kernel's sums count anonymous memory that is not walked.
    if (!walk.all && mapping.IsAnonymous()) return;
    Segment segment{&mapping, first, pages, {}};
    const bool whole = pages == pages_;
    const bool as_first = first_entries_ != nullptr && fresh && whole && segments_.front().pages == pages_ &&
                          segments_.front().mapping->IsAnonymous() == mapping.IsAnonymous() &&
                          std::memcmp(first_entries_, part.entries, pages_ * sizeof(PageEntry)) == 0;
    if (as_known) {
      segment.tally = known[number];
    } else if (as_first) {
      segment.tally = segments_.front().tally;
    } else {
      segment.tally = TallySegment(mapping, entries.subspan(first, pages));
    }
    ++number;
    if (fresh) segment.tally.huge_pmd = whole && !mapping.hugetlb ? static_cast<uint32_t>(part.huge_pages) : 0;
    segment.tally.anon_shared =
        static_cast<uint32_t>(whole ? sharing.shared_pages : sharing.shared.Count(first, pages));
    tallies_.push_back(segment.tally);
    const SegmentTally& tally = segment.tally;
    part.walked_anon_pages += mapping.hugetlb ? 0 : tally.anon;
    part.walked_hugetlb_pages += mapping.hugetlb ? tally.anon + tally.cache_once + tally.cache_more : 0;
    part.walked_swap_pages += mapping.vma.shared ? 0 : tally.swapped;
    segments_.push_back(segment);
  });
  MemberWindow in_window;
  in_window.member = &member;
  in_window.ksm_pages = sharing.ksm_pages;
  in_window.maybe_ksm_pages = sharing.maybe_ksm_pages;
  part.walked_ksm_pages += in_window.ksm_pages + in_window.maybe_ksm_pages;
  if (fresh) {
    const bool was_huge = member.access.huge_windows.erase(window) != 0;
    if (part.huge_pages == pages_) {
      member.access.huge_windows.insert(window);
    } else if (was_huge) {
      in_window.split = breakers_.Has(member.slot);
    }
  }
  if (members_.empty() && fresh) first_entries_ = part.entries;
  members_.push_back(in_window);
}

SegmentTally WindowReporter::TallySegment(const Mapping& mapping, std::span<const PageEntry> entries) const {
  // No frame has this number.
  const uint64_t zero_frame = host_.zero_frame == Pfn::None() ? procfs::kPagemapFrameMask : host_.zero_frame.number();
  uint64_t anon = 0;
  uint64_t anon_multiple = 0;
  uint64_t zero_base = 0;
  uint64_t cache_once = 0;
  uint64_t file_more = 0;
  // Shifts and sums only, which every processor does for several entries at once. GCC does so only by reference.
  for (const PageEntry& entry : entries) {
    const uint64_t bits = entry.bits();
    const uint64_t present = bits >> 63;
    const uint64_t file = present & (bits >> 61);
    const uint64_t once = (bits >> 56) & 1;
    const uint64_t zero = (present & ~file) & ((((bits ^ zero_frame) & procfs::kPagemapFrameMask) - 1) >> 63);
    anon += present - file - zero;
    anon_multiple += (present - file - zero) & ~once;
    zero_base += zero;
    cache_once += file & once;
    file_more += file & ~once;
  }
  SegmentTally tally;
  tally.anon = static_cast<uint32_t>(anon);
  tally.anon_multiple = static_cast<uint32_t>(anon_multiple);
  tally.zero_base = static_cast<uint32_t>(zero_base);
  tally.cache_once = static_cast<uint32_t>(cache_once);
  if (mapping.IsAnonymous()) {
    // In anonymous memory, only the huge zero page has the file bit.
    tally.zero_huge = static_cast<uint32_t>(file_more + cache_once);
    tally.cache_once = 0;
  } else {
    tally.cache_more = static_cast<uint32_t>(file_more);
  }
  if (tally.Present() != entries.size()) {
    for (const PageEntry entry : entries) tally.swapped += entry.IsRealSwap() ? 1U : 0U;
  }
  return tally;
}

}  // namespace cow::memory
