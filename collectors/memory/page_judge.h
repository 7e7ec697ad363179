// Judges pages of a window one by one: their groups are taken out of the record, judged and put back.
//
// Pure: no file is read. Lives for the settling of one window. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "collectors/memory/examination.h"
#include "collectors/memory/frame_facts.h"
#include "collectors/memory/frame_group.h"
#include "collectors/memory/judgement.h"
#include "collectors/memory/moved_pages.h"
#include "collectors/memory/window_record.h"

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
  // Changes `record`, adds to `judgement`, and to `moved` the pages without a partner here.
  PageJudge(const ExaminedWindow& window, WindowRecord& record, MovedPages& moved, Judgement& judgement);

  void Judge(size_t page);

 private:
  struct Relations;

  uint64_t PageNumber() const { return window_.first_page + page_; }
  uint64_t FrameNow(uint32_t reading) const;
  bool IsChildOf(uint32_t reading, Slot parent) const { return window_.readings[reading].parent == parent; }
  bool HasChildren(Slot slot) const;
  bool IsUnseenChild(uint32_t reading) const {
    return window_.readings[reading].first_look && !window_.readings[reading].is_root;
  }
  FrameHolder Describe(Slot slot, uint64_t recorded, bool was_away) const;

  void TakeGroups();
  void AddHolder(uint64_t frame, Slot slot, bool was_away);
  void Settle(const FrameGroup& group, std::vector<FrameGroup>& kept);
  std::vector<uint32_t> Pair(std::vector<FrameGroup>& kept) const;
  std::vector<uint32_t> JoinGroups(std::vector<FrameGroup>& kept) const;
  Relations RelationsOf(uint32_t reading, const std::vector<FrameGroup>& kept) const;
  void FirstLook(uint32_t reading, const std::vector<FrameGroup>& kept);
  void CompareWithParent(uint32_t reading, uint32_t parent, const Relations& relations);
  void CompareWithRelatives(uint32_t reading, bool parent_unread, const Relations& relations);
  bool Counted(Slot slot, uint64_t frame);
  void AddOrphans(const std::vector<uint32_t>& single);
  void PutGroups(const std::vector<FrameGroup>& kept);

  const ExaminedWindow& window_;
  WindowRecord& record_;
  MovedPages& moved_;
  Judgement& judgement_;
  SlotIndex index_;
  std::vector<bool> huge_;  // by reading: the window is one huge page of it
  size_t page_ = 0;         // the one that is judged, within the window
  std::vector<FrameGroup> groups_;
  std::vector<std::pair<Slot, uint64_t>> counted_;         // (breaker, frame it broke) on this page
  std::vector<std::pair<Slot, UnshareCause>> left_alone_;  // on this page
};

}  // namespace cow::memory
