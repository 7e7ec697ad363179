// Judges pages of a window one by one: their groups are taken out of the record, judged and put back.
//
// Pure: no file is read. Lives for the settling of one window. The time for a page grows with the number of members,
// not with its square. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/memory/ledger/examination.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/frame_group.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

// A window that was read and examined.
struct ExaminedWindow {
  uint64_t first_page = 0;  // number of its first virtual page
  std::span<const Reading> readings;
  std::span<const Slot> departing;  // members that ended
  const Examination& examination;
  const FrameFacts& facts;  // answers the examination's questions
};

class PageJudge {
 public:
  // Changes `record`, adds to `judgement`, and to `moved` the pages without a partner here and those that may have
  // moved.
  PageJudge(const ExaminedWindow& window, WindowRecord& record, MovedPages& moved, Judgement& judgement);

  // `pages`: bitmap.
  void JudgeAll(std::span<const uint64_t> pages);

 private:
  struct Relations;

  void Judge(size_t page);

  uint64_t PageNumber() const { return window_.first_page + page_; }
  uint64_t FrameNow(uint32_t reading) const { return frames_now_[reading]; }
  bool IsChildOf(uint32_t reading, Slot parent) const { return window_.readings[reading].parent == parent; }
  bool IsUnseenChild(uint32_t reading) const {
    return window_.readings[reading].first_look && !window_.readings[reading].is_root;
  }
  FrameHolder Describe(Slot slot, uint64_t recorded, bool was_away) const;

  // Finds whose window became a huge page since the last look, if only for a while.
  void FindCollapsed(std::span<const uint64_t> pages);
  bool BecameHuge(uint32_t reading, std::span<const uint64_t> pages) const;
  bool IsInNewHugePage(uint32_t reading, size_t page) const;

  void ReadFrames();
  void TakeGroups();
  void AddNewHolders();
  FrameGroup& GroupAt(uint64_t frame);
  void Settle(const FrameGroup& group, std::vector<FrameGroup>& kept);
  void AddBreaks(const FrameGroup& group, const GroupOutcome& outcome);
  bool IsRemapped(const FrameHolder& holder) const;
  bool MayHaveMovedUnseen(const FrameGroup& group) const;
  bool MayHaveMoved(const FrameHolder& holder, uint64_t frame) const;
  std::vector<uint32_t> Pair(std::vector<FrameGroup>& kept);
  std::vector<uint32_t> JoinGroups(std::vector<FrameGroup>& kept);
  void NoteGroups(const std::vector<FrameGroup>& kept, size_t first);
  // The group that holds the slot; null if none does.
  const FrameGroup* GroupOf(Slot slot, const std::vector<FrameGroup>& kept) const;
  Relations RelationsOf(uint32_t reading, const std::vector<FrameGroup>& kept) const;
  void FirstLook(uint32_t reading, const std::vector<FrameGroup>& kept);
  void CompareWithParent(uint32_t reading, uint32_t parent, const Relations& relations);
  ForkEvidence OthersForked(uint32_t reading) const;
  bool IsInherited(const Relations& relations, Slot parent) const;
  bool IsOriginal(uint32_t reading) const;
  bool IsCopy(uint32_t reading) const;
  bool HasOtherFrames(uint32_t reading) const;
  void AddUnattributed(uint32_t reading);
  bool Counted(Slot slot, uint64_t frame);
  void AddOrphans(const std::vector<uint32_t>& single);
  void PutGroups(const std::vector<FrameGroup>& kept);

  const ExaminedWindow& window_;
  WindowRecord& record_;
  MovedPages& moved_;
  Judgement& judgement_;
  SlotIndex index_;
  std::vector<bool> huge_;       // by reading: the window is one huge page of it, or became one since the last look
  std::vector<bool> departing_;  // by slot: the member ended
  // Of the pages to be judged, taken out of the record, by page; and the first ones that are still to be judged.
  std::vector<WindowRecord::Extra> extras_;
  std::vector<WindowRecord::Away> away_;
  size_t next_extra_ = 0;
  size_t next_away_ = 0;
  // Of the page that is judged:
  size_t page_ = 0;                                        // within the window
  std::vector<uint64_t> frames_now_;                       // by reading; kNoFrame also where KSM merged it
  std::vector<FrameGroup> groups_;                         // as recorded
  std::unordered_map<uint64_t, size_t> place_of_;          // in `groups_`, by frame
  std::vector<uint32_t> group_of_;                         // by slot: index of its group, kNoReading for none
  std::vector<std::pair<Slot, uint64_t>> counted_;         // (breaker, frame it broke) on this page
  std::vector<std::pair<Slot, UnshareCause>> left_alone_;  // on this page
};

}  // namespace cow::memory
