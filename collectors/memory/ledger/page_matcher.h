// Matches, at the end of a pass, pages without a partner at their address. It looks for their frames in the groups of
// moved pages and in the records, and joins groups that it finds in two places.
//
// Pure. Serves one end of a pass. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_blocks.h"
#include "collectors/memory/ledger/moved_notes.h"
#include "collectors/memory/ledger/recorded_frames.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

class PageMatcher {
 public:
  // All arguments outlive it. `frames`: those of the groups in `blocks`, sorted. `facts` answers for unmatched pages
  // and doubles.
  PageMatcher(size_t pages_per_window, const FrameFacts& facts, std::span<const Pfn> frames, WindowRecords& records,
              MovedBlocks& blocks, Judgement& judgement, MovedSharing& sharing);

  // `unmatched` is sorted. `doubles`: frames that may be recorded twice; empty: do not look for them. `all_read`: all
  // records are of this pass. Only then are two records with one frame one group; otherwise one may be out of date.
  Steps Match(std::span<const UnmatchedPage> unmatched, const std::optional<std::vector<Pfn>>& doubles, bool all_read);

  // Afterwards: true if a frame is still recorded twice because not every member was read.
  bool doubles_left() const { return doubles_left_; }

 private:
  using PageRun = std::span<const UnmatchedPage>;  // pages with one frame

  // Adds pages to the group of their frame; those without a group wait.
  Steps JoinGroups(std::span<const UnmatchedPage> unmatched);
  // Matches the waiting pages with records, whose holders may share the frame at their own address.
  Steps MatchRecords(const std::optional<std::vector<Pfn>>& doubles, bool all_read);
  // Finds the records to take out: frames of waiting pages, and frames that are recorded twice.
  Steps FindTaken(const std::optional<std::vector<Pfn>>& doubles, bool all_read, std::vector<RecordedPage>& taken);
  // Counts the holders of these pages' frames in the groups, by frame.
  Steps CountHolders(std::span<const RecordedPage> pages, std::unordered_map<Pfn, uint64_t>& holders) const;
  // Moves the groups of these pages from the records to the blocks. `frames`: their frames, sorted.
  Steps TakeRecorded(std::vector<RecordedPage>& taken, std::vector<Pfn>& frames);
  void TakeFromWindow(std::span<const RecordedPage> taken, std::vector<Pfn>& frames);
  void AddToGroup(PageRun run);
  void AddUnshared(PageRun run);

  size_t pages_;
  const FrameFacts& facts_;
  std::span<const Pfn> frames_;
  WindowRecords& records_;
  MovedBlocks& blocks_;
  Judgement& judgement_;
  MovedSharing& sharing_;
  std::vector<PageRun> waiting_runs_;
  std::vector<MovedPage> added_;
  bool doubles_left_ = false;
};

}  // namespace cow::memory
