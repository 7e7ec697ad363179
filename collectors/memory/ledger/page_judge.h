// Judges the pages of a window one by one: takes the groups of a page out of the record, judges them and puts them
// back.
//
// Pure: reads no file. Serves one window. The time per page grows linearly with the number of members. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/memory/ledger/comparison.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/frame_group.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

// A window, its readings and their comparison with the record.
struct ComparedWindow {
  PageNumber first_page;
  std::span<const Reading> readings;
  std::span<const MemberIndex> departing;  // members that ended
  const Comparison& comparison;
  const FrameFacts& facts;  // answers the comparison's questions
};

class PageJudge {
 public:
  // Changes `record` and adds verdicts to `judgement`. Adds to `moved` the pages without a partner here and the pages
  // that may have moved.
  PageJudge(const ComparedWindow& window, WindowRecord& record, MovedPages& moved, Judgement& judgement);

  void JudgePages(BitmapView pages);

 private:
  struct Relations;

  void JudgePage(size_t page);

  PageNumber ThisPage() const { return window_.first_page + page_; }
  Pfn FrameNow(uint32_t reading) const { return frames_now_[reading]; }
  bool IsChildOf(uint32_t reading, MemberIndex parent) const { return window_.readings[reading].parent == parent; }
  FrameHolder Describe(MemberIndex slot, Pfn recorded, bool was_away) const;

  // Finds the members whose window was collapsed into a huge page since the last look, even if it was split again
  // since.
  void FindCollapsed(BitmapView pages);
  bool BecameHuge(uint32_t reading, BitmapView pages) const;
  bool IsInNewHugePage(uint32_t reading, size_t page) const;

  void ReadFrames();
  void TakeGroups();
  void AddNewHolders();
  FrameGroup& GroupAt(Pfn frame);
  void CommitGroup(const FrameGroup& group, std::vector<FrameGroup>& kept);
  void AddBreaks(const FrameGroup& group, const GroupOutcome& outcome);
  bool IsRemapped(const FrameHolder& holder) const;
  bool MayHaveMovedUnseen(const FrameGroup& group) const;
  bool MayHaveMoved(const FrameHolder& holder, Pfn frame) const;
  std::vector<uint32_t> FormGroups(std::vector<FrameGroup>& kept);
  std::vector<uint32_t> JoinGroups(std::vector<FrameGroup>& kept);
  void NoteGroups(const std::vector<FrameGroup>& kept, size_t first);
  // The group that contains the slot; null if there is none.
  const FrameGroup* GroupOf(MemberIndex slot, const std::vector<FrameGroup>& kept) const;
  Relations RelationsOf(uint32_t reading, const std::vector<FrameGroup>& kept) const;
  void JudgeFirstLook(uint32_t reading, const std::vector<FrameGroup>& kept);
  void CompareWithParent(uint32_t reading, uint32_t parent, const Relations& relations);
  ForkEvidence ForksAround(uint32_t reading) const;
  bool IsInherited(const Relations& relations, MemberIndex parent) const;
  bool IsOriginal(uint32_t reading) const;
  bool IsCopy(uint32_t reading) const;
  bool HasOtherFrames(uint32_t reading) const;
  void AddUnattributed(uint32_t reading);
  bool Counted(MemberIndex slot, Pfn frame);
  void AddUnmatchedPages(const std::vector<uint32_t>& single);
  void PutGroups(const std::vector<FrameGroup>& kept);

  const ComparedWindow& window_;
  WindowRecord& record_;
  MovedPages& moved_;
  Judgement& judgement_;
  ReadingIndex index_;
  std::vector<bool> huge_;  // by reading: the window is or was a huge page since the last look
  MemberSet departing_;     // members that ended
  // Taken out of the record for the pages to judge, by page, with an index of the next one.
  std::vector<WindowRecord::Extra> extras_;
  std::vector<WindowRecord::Away> away_;
  size_t next_extra_ = 0;
  size_t next_away_ = 0;
  // State of the current page.
  size_t page_ = 0;                                   // within the window
  std::vector<Pfn> frames_now_;                       // by reading; Pfn::None() also for a page merged by KSM
  std::vector<FrameGroup> groups_;                    // as recorded
  std::unordered_map<Pfn, size_t> place_of_;          // in `groups_`, by frame
  std::vector<uint32_t> group_of_;                    // by slot: index of its group, or kNoReading
  std::vector<std::pair<MemberIndex, Pfn>> counted_;  // (breaker, broken frame)
  std::vector<std::pair<MemberIndex, UnshareCause>> left_alone_;
};

}  // namespace cow::memory
