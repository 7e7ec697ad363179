#include "collectors/memory/scan/departure.h"

#include <algorithm>

namespace cow::memory {
namespace {

// Lists the mappings of a member in a window, in the order of its tallies there.
void ListSegments(const procfs::PageGeometry& geometry, const Member& member, WindowIndex window,
                  std::vector<Segment>& segments) {
  segments.clear();
  if (!member.access.mappings) return;
  const std::span<const Mapping> mappings = *member.access.mappings;
  const size_t first = FirstMapping(mappings, window.Address(geometry.huge_page_bytes));
  VisitMappings(geometry, mappings.subspan(first), window, [&](const Mapping& mapping, uint32_t page, uint32_t pages) {
    segments.push_back({&mapping, page, pages, {}});
  });
}

}  // namespace

Departure::Departure(const Host& host, Family& family, std::span<Member* const> gone)
    : host_(host), family_(family), gone_(gone), windows_(family.looks.Windows()) {
  for (const Member* member : gone) gone_slots_.push_back(member->slot);
  gone_set_ = MemberSet(gone_slots_);
}

std::optional<WindowReport> Departure::Next(const MayGoOn& may_go_on) {
  while (!done() && may_go_on()) {
    const WindowIndex window = windows_[next_window_++];
    if (!Describe(window)) continue;
    const bool reported = BuildMembers(window);
    family_.looks.Retain(window, remaining_);
    if (!reported) continue;
    return WindowReport{.family = &family_,
                        .window = window,
                        .geometry = host_.geometry,
                        .read_at = {},
                        .members = members_,
                        .readings = {},
                        .sharing = &left_,
                        .judgement = &judgement_,
                        .frames_known = host_.capabilities.frames};
  }
  return std::nullopt;
}

// False if the window has no look at any of them.
bool Departure::Describe(WindowIndex window) {
  remaining_.clear();
  const std::span<const Looks::Look> looks = family_.looks.At(window);
  bool any_leaves = false;
  for (MemberIndex slot; slot.number() < looks.size(); ++slot) {
    if (!looks[slot.number()].known) continue;
    if (gone_set_.Has(slot)) {
      any_leaves = true;
    } else {
      remaining_.push_back(slot);
    }
  }
  if (any_leaves) family_.ledger.DescribeDeparture(window, gone_slots_, remaining_, sharing_);
  return any_leaves;
}

// False if the mappings do not match the tallies. The window's sums then stay until it is read.
bool Departure::BuildMembers(WindowIndex window) {
  members_.clear();
  segments_.assign(gone_.size(), {});
  const Mapping* anonymous = nullptr;
  for (size_t i = 0; i < gone_.size(); ++i) {
    const std::span<const SegmentTally> tallies = family_.looks.Tallies(window, gone_[i]->slot);
    if (tallies.empty()) continue;
    ListSegments(host_.geometry, *gone_[i], window, segments_[i]);
    if (segments_[i].size() != tallies.size()) return false;
    const WindowBitmap& shared = sharing_.shared[i];
    for (size_t s = 0; s < tallies.size(); ++s) {
      Segment& segment = segments_[i][s];
      segment.tally = tallies[s];
      segment.tally.anon_shared = static_cast<uint32_t>(shared.Count(segment.first, segment.pages));
      if (segment.tally.anon_shared != 0) anonymous = segment.mapping;
    }
    members_.push_back({gone_[i], segments_[i], 0, false});
  }
  if (sharing_.alone_pages != 0 && anonymous != nullptr && !family_.members.empty()) {
    survivors_ = {anonymous, 0, 0, {}};
    survivors_.tally.anon_shared = static_cast<uint32_t>(sharing_.alone_pages);
    members_.push_back({family_.members.front().get(), std::span(&survivors_, 1), 0, false});
  }
  left_.exposure_pages = sharing_.exposure_pages;
  return true;
}

}  // namespace cow::memory
