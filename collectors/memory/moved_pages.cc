#include "collectors/memory/moved_pages.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "collectors/memory/frame_group.h"

namespace cow::memory {
namespace {

// No entry is like this one.
constexpr uint64_t kNotRead = ~uint64_t{0};

MovedPage Present(uint64_t page, Slot slot, uint64_t frame) {
  return {page, slot, frame, procfs::kPagemapPresent | frame, false};
}

void AddOrphans(std::vector<MovedPage>& group, std::span<const OrphanPage> orphans) {
  for (const OrphanPage& orphan : orphans) group.push_back(Present(orphan.page, orphan.slot, orphan.frame));
}

void AddUnshared(std::span<const OrphanPage> orphans, Judgement& judgement) {
  for (const OrphanPage& orphan : orphans) {
    if (orphan.was_shared) judgement.AddUnshared(orphan.slot, orphan.page, orphan.cause);
  }
}

FrameHolder Describe(const MovedPage& moved, uint64_t zero_frame, const FrameFacts& facts,
                     std::span<const Slot> departing) {
  using State = FrameHolder::State;
  FrameHolder holder{moved.slot, State::kDropped, AnonFrame(moved.now, zero_frame), moved.page, false, false, false};
  if (std::find(departing.begin(), departing.end(), moved.slot) != departing.end()) {
    holder.state = State::kGone;
  } else if (holder.frame != kNoFrame && !facts.IsKsm(holder.frame)) {
    holder.state = holder.frame == moved.frame ? State::kSame : State::kChanged;
  } else if (moved.now == kNotRead || IsAway(moved.now)) {
    holder.state = State::kAway;
  }
  return holder;
}

void AddVerdicts(const FrameGroup& group, const GroupOutcome& outcome, Judgement& judgement) {
  for (const FrameHolder* breaker : outcome.broke) {
    std::vector<Slot> heirs;
    for (const FrameHolder& holder : group.holders) {
      if (holder.slot != breaker->slot) heirs.push_back(holder.slot);
    }
    judgement.AddBreak(breaker->slot, breaker->page, true, heirs);
  }
  for (const FrameHolder* holder : outcome.broke_unknown) judgement.AddBreakOfUnknownSide(holder->slot, holder->page);
  for (const auto& [holder, cause] : outcome.unshared) judgement.AddUnshared(holder->slot, holder->page, cause);
}

std::vector<uint64_t> WindowsWithFrames(const WindowRecords& records) {
  std::vector<uint64_t> windows;
  for (const auto& [window, packed] : records.all()) {
    if (packed.has_frames() || !packed.extras().empty()) windows.push_back(window);
  }
  return windows;
}

}  // namespace

void MovedPages::BeginPass(std::span<const Slot> standing_for) {
  orphans_.clear();
  for (MovedPage& moved : moved_) {
    moved.recalled = std::find(standing_for.begin(), standing_for.end(), moved.slot) != standing_for.end();
    moved.now = moved.recalled ? procfs::kPagemapPresent | moved.frame : kNotRead;
  }
}

std::vector<MovedPage> MovedPages::InDoubt() const {
  std::vector<uint64_t> lost;  // frames that a holder who was read has no more
  for (const MovedPage& moved : moved_) {
    if (!moved.recalled && AnonFrame(moved.now, zero_frame_) != moved.frame) lost.push_back(moved.frame);
  }
  std::sort(lost.begin(), lost.end());
  std::vector<MovedPage> doubts;
  std::copy_if(moved_.begin(), moved_.end(), std::back_inserter(doubts), [&lost](const MovedPage& moved) {
    return moved.recalled && std::binary_search(lost.begin(), lost.end(), moved.frame);
  });
  return doubts;
}

void MovedPages::Confirm(const MovedPage& page, uint64_t entry) {
  const auto [first, last] = RangeOf(page.page / pages_);
  for (size_t i = first; i < last; ++i) {
    if (moved_[i].page != page.page || moved_[i].slot != page.slot) continue;
    moved_[i].now = entry;
    moved_[i].recalled = false;
  }
}

std::pair<size_t, size_t> MovedPages::RangeOf(uint64_t window) const {
  const auto before = [](const MovedPage& moved, uint64_t page) { return moved.page < page; };
  const auto first = std::lower_bound(moved_.begin(), moved_.end(), window * pages_, before);
  const auto last = std::lower_bound(first, moved_.end(), (window + 1) * pages_, before);
  return {static_cast<size_t>(first - moved_.begin()), static_cast<size_t>(last - moved_.begin())};
}

std::span<const MovedPage> MovedPages::In(uint64_t window) const {
  const auto [first, last] = RangeOf(window);
  return {moved_.data() + first, last - first};
}

void MovedPages::Note(uint64_t window, std::span<const Reading> readings) {
  const auto [first, last] = RangeOf(window);
  for (size_t i = first; i < last; ++i) {
    for (const Reading& reading : readings) {
      const size_t page = moved_[i].page % pages_;
      if (reading.slot != moved_[i].slot || !reading.IsRead(page)) continue;
      moved_[i].now = reading.entries[page];
      moved_[i].recalled = false;
    }
  }
}

std::vector<uint64_t> MovedPages::Frames() const {
  std::vector<uint64_t> frames;
  frames.reserve(orphans_.size());
  for (const OrphanPage& orphan : orphans_) frames.push_back(orphan.frame);
  for (const MovedPage& moved : moved_) {
    const uint64_t frame = AnonFrame(moved.now, zero_frame_);
    if (frame != kNoFrame && frame != moved.frame) frames.push_back(frame);
    frames.push_back(moved.frame);
  }
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  return frames;
}

void MovedPages::AddWindows(std::vector<uint64_t>& windows) const {
  for (const MovedPage& moved : moved_) windows.push_back(moved.page / pages_);
}

void MovedPages::AddSharedPages(const std::function<void(Slot, uint64_t)>& add) const {
  std::unordered_map<uint64_t, uint64_t> holders;  // in RAM, by frame
  for (const MovedPage& moved : moved_) holders[moved.frame] += moved.now != 0 ? 1 : 0;
  for (const MovedPage& moved : moved_) {
    if (moved.now != 0 && holders[moved.frame] > 1) add(moved.slot, 1);
  }
}

size_t MovedPages::MemoryBytes() const {
  return moved_.capacity() * sizeof(MovedPage) + orphans_.capacity() * sizeof(OrphanPage);
}

void MovedPages::Finish(const FrameFacts& facts, std::span<const Slot> departing, WindowRecords& records,
                        Judgement& judgement, MovedSharing& sharing) {
  sharing = MovedSharing();
  Groups groups;
  JudgeRecorded(facts, departing, judgement, groups);
  Unmatched unmatched = MatchOrphans(facts, judgement, groups);
  if (!unmatched.empty()) MatchRecords(unmatched, records, groups, sharing);
  for (const auto& [frame, orphans] : unmatched) {
    if (orphans.size() > 1) {
      AddOrphans(groups[frame], orphans);
    } else if (facts.IsCountedAsFolio(frame)) {
      // Only the folio is known to be shared. No relative has this page of it.
      AddUnshared(orphans, judgement);
    } else {
      ++sharing.unmatched_pages;
    }
  }
  has_unmatched_ = sharing.unmatched_pages != 0;
  Record(groups, sharing);
}

// What became of the pages that were matched before.
void MovedPages::JudgeRecorded(const FrameFacts& facts, std::span<const Slot> departing, Judgement& judgement,
                               Groups& groups) {
  std::sort(moved_.begin(), moved_.end(), [](const MovedPage& a, const MovedPage& b) { return a.frame < b.frame; });
  FrameGroup group;
  for (size_t i = 0; i < moved_.size();) {
    group.frame = moved_[i].frame;
    group.holders.clear();
    for (; i < moved_.size() && moved_[i].frame == group.frame; ++i) {
      group.holders.push_back(Describe(moved_[i], zero_frame_, facts, departing));
    }
    const GroupOutcome outcome = JudgeGroup(group, facts);
    AddVerdicts(group, outcome, judgement);
    if (outcome.alone != nullptr && outcome.alone_without_copy) {
      orphans_.push_back({outcome.alone->frame, outcome.alone->page, outcome.alone->slot, true, outcome.alone_cause});
    }
    if (outcome.stay.size() + outcome.away.size() < 2) continue;
    std::vector<MovedPage>& kept = groups[outcome.frame];
    for (const FrameHolder* holder : outcome.stay) kept.push_back(Present(holder->page, holder->slot, outcome.frame));
    for (const FrameHolder* holder : outcome.away)
      kept.push_back({holder->page, holder->slot, outcome.frame, 0, false});
  }
}

// Pages without a partner at their address join the group of their frame, or wait for one.
MovedPages::Unmatched MovedPages::MatchOrphans(const FrameFacts& facts, Judgement& judgement, Groups& groups) {
  std::sort(orphans_.begin(), orphans_.end(), [](const OrphanPage& a, const OrphanPage& b) {
    return std::tuple(a.frame, a.slot, a.page) < std::tuple(b.frame, b.slot, b.page);
  });
  Unmatched unmatched;
  for (size_t begin = 0; begin < orphans_.size();) {
    const uint64_t frame = orphans_[begin].frame;
    size_t end = begin;
    while (end < orphans_.size() && orphans_[end].frame == frame) ++end;
    const std::span<const OrphanPage> orphans(orphans_.data() + begin, end - begin);
    begin = end;
    if (facts.IsKsm(frame)) continue;
    if (facts.MapCount(frame).value_or(2) <= 1) {  // bit 56 of a large folio speaks for all its pages
      AddUnshared(orphans, judgement);
      continue;
    }
    const auto known = groups.find(frame);
    if (known != groups.end()) {
      AddOrphans(known->second, orphans);
    } else {
      unmatched.emplace(frame, orphans);
    }
  }
  return unmatched;
}

// Their partners may share the frame at an address of their own.
void MovedPages::MatchRecords(Unmatched& unmatched, WindowRecords& records, Groups& groups,
                              MovedSharing& sharing) const {
  const auto take = [&](uint64_t page, uint64_t frame, const std::vector<Slot>& holders) {
    std::vector<MovedPage>& group = groups[frame];
    const auto found = unmatched.find(frame);
    if (found != unmatched.end()) {
      AddOrphans(group, found->second);
      unmatched.erase(found);
    }
    for (const Slot slot : holders) group.push_back(Present(page, slot, frame));
    // They were described as shared in their window.
    sharing.shared_pages -= static_cast<int64_t>(holders.size());
    sharing.exposure_pages -= static_cast<int64_t>(holders.size()) - 1;
  };
  for (const uint64_t window : WindowsWithFrames(records)) {
    if (unmatched.empty()) return;
    WindowRecord record = records.Find(window)->Open();
    bool changed = false;
    for (uint32_t page = 0; page < record.frames.size(); ++page) {
      const uint64_t frame = record.frames[page];
      if (frame == kNoFrame || !unmatched.contains(frame)) continue;
      if (std::any_of(record.away.begin(), record.away.end(), [page](const auto& away) { return away.page == page; }))
        continue;
      take(window * pages_ + page, frame, record.TakePage(page));
      changed = true;
    }
    const size_t extras = std::erase_if(record.extras, [&](const WindowRecord::Extra& extra) {
      if (!unmatched.contains(extra.frame)) return false;
      take(window * pages_ + extra.page, extra.frame, extra.holders);
      return true;
    });
    if (changed || extras != 0) records.Put(window, record);
  }
}

void MovedPages::Record(const Groups& groups, MovedSharing& sharing) {
  moved_.clear();
  for (const auto& [frame, group] : groups) {
    int64_t here = 0;
    for (const MovedPage& moved : group) here += moved.now != 0 ? 1 : 0;
    if (here > 1) {
      sharing.shared_pages += here;
      sharing.exposure_pages += here - 1;
    }
    moved_.insert(moved_.end(), group.begin(), group.end());
  }
  std::sort(moved_.begin(), moved_.end(), [](const MovedPage& a, const MovedPage& b) {
    return std::pair(a.page, a.slot) < std::pair(b.page, b.slot);
  });
  moved_.shrink_to_fit();
  orphans_.clear();
  orphans_.shrink_to_fit();
}

}  // namespace cow::memory
