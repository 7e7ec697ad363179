#include "collectors/memory/scan/departure.h"

#include <algorithm>
#include <vector>

namespace cow::memory {
namespace {

// The mappings of a member in a window, in the order of its tallies there.
void ListSegments(const procfs::PageGeometry& geometry, const Member& member, uint64_t window,
                  std::vector<Segment>& segments) {
  segments.clear();
  if (!member.mappings) return;
  const uint64_t begin = window * geometry.PagesPerWindow();
  const uint64_t end = begin + geometry.PagesPerWindow();
  const std::vector<Mapping>& mappings = *member.mappings;
  auto mapping = std::partition_point(mappings.begin(), mappings.end(),
                                      [&](const Mapping& each) { return geometry.PageOf(each.vma.end) <= begin; });
  for (; mapping != mappings.end() && geometry.PageOf(mapping->vma.start) < end; ++mapping) {
    const uint64_t first = std::max(begin, geometry.PageOf(mapping->vma.start));
    const uint64_t last = std::min(end, geometry.PageOf(mapping->vma.end));
    segments.push_back({&*mapping, static_cast<uint32_t>(first - begin), static_cast<uint32_t>(last - first), {}});
  }
}

bool IsIn(std::span<Member* const> members, Slot slot) {
  return std::any_of(members.begin(), members.end(), [slot](const Member* member) { return member->slot == slot; });
}

class Departure {
 public:
  Departure(const Host& host, Family& family, std::span<Member* const> gone)
      : host_(host), family_(family), gone_(gone) {
    for (const Member* member : gone) gone_slots_.push_back(member->slot);
  }

  void ShowWindow(uint64_t window, const std::function<void(const WindowView&)>& show) {
    remaining_.clear();
    const std::span<const Looks::Look> looks = family_.looks.At(window);
    bool any_leaves = false;
    for (Slot slot = 0; slot < looks.size(); ++slot) {
      if (!looks[slot].known) continue;
      if (IsIn(gone_, slot)) {
        any_leaves = true;
      } else {
        remaining_.push_back(slot);
      }
    }
    if (!any_leaves) return;
    family_.ledger.DescribeDeparture(window, gone_slots_, remaining_, sharing_);
    if (BuildMembers(window)) {
      WindowView view;
      view.family = &family_;
      view.window = window;
      view.geometry = host_.geometry;
      view.members = shown_;
      view.sharing = &left_;
      view.judgement = &judgement_;
      view.frames_known = host_.capabilities.frames;
      show(view);
    }
    family_.looks.Retain(window, remaining_);
  }

 private:
  // False where the mappings are not those that the tallies are of: then the window's sums stand until it is read.
  bool BuildMembers(uint64_t window) {
    shown_.clear();
    segments_.assign(gone_.size(), {});
    const Mapping* anonymous = nullptr;
    for (size_t i = 0; i < gone_.size(); ++i) {
      const std::span<const SegmentTally> tallies = family_.looks.Tallies(window, gone_[i]->slot);
      if (tallies.empty()) continue;
      ListSegments(host_.geometry, *gone_[i], window, segments_[i]);
      if (segments_[i].size() != tallies.size()) return false;
      const std::vector<uint64_t>& shared = sharing_.shared[i];
      for (size_t s = 0; s < tallies.size(); ++s) {
        Segment& segment = segments_[i][s];
        segment.tally = tallies[s];
        segment.tally.anon_shared = static_cast<uint32_t>(CountBits(shared, segment.first, segment.pages));
        if (segment.tally.anon_shared != 0) anonymous = segment.mapping;
      }
      shown_.push_back({gone_[i], segments_[i], 0, false});
    }
    if (sharing_.alone_pages != 0 && anonymous != nullptr && !family_.members.empty()) {
      survivors_ = {anonymous, 0, 0, {}};
      survivors_.tally.anon_shared = static_cast<uint32_t>(sharing_.alone_pages);
      shown_.push_back({family_.members.front().get(), std::span(&survivors_, 1), 0, false});
    }
    left_.exposure_pages = sharing_.exposure_pages;
    return true;
  }

  const Host& host_;
  Family& family_;
  std::span<Member* const> gone_;
  std::vector<Slot> gone_slots_;
  std::vector<Slot> remaining_;
  DepartedSharing sharing_;
  WindowSharing left_;
  Judgement judgement_;
  std::vector<std::vector<Segment>> segments_;
  Segment survivors_;
  std::vector<MemberWindow> shown_;
};

}  // namespace

bool ShowDeparture(const Host& host, Family& family, std::span<Member* const> gone,
                   const std::function<void(const WindowView&)>& show, const MayGoOn& may_go_on) {
  Departure departure(host, family, gone);
  for (const uint64_t window : family.looks.Windows()) {
    if (!may_go_on()) return false;
    departure.ShowWindow(window, show);
  }
  return true;
}

}  // namespace cow::memory
