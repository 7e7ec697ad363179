// Finds, at the end of a pass, the partners of pages that have none at their address: by frame, in the groups of moved
// pages and in the windows' records. Groups that are found in two places become one.
//
// Pure. Lives for one end of a pass. Not thread-safe.
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

class OrphanMatcher {
 public:
  // All outlive it. `frames`: of the groups in `blocks`, sorted. `facts` answers for orphans and doubles.
  OrphanMatcher(size_t pages_per_window, const FrameFacts& facts, std::span<const uint64_t> frames,
                WindowRecords& records, MovedBlocks& blocks, Judgement& judgement, MovedSharing& sharing);

  // `orphans`: sorted. `doubles`: frames that may be recorded twice; empty: not looked for. `all_read`: the records are
  // of this pass. Only then two records with one frame are one group: else one of them may be out of date.
  Steps Match(std::span<const OrphanPage> orphans, const std::optional<std::vector<uint64_t>>& doubles, bool all_read);

  // Afterwards: some frame is still recorded twice, because not all was read.
  bool doubles_left() const { return doubles_left_; }

 private:
  using OrphanRun = std::span<const OrphanPage>;  // of one frame

  // Pages without a partner at their address join the group of their frame, or wait for one.
  Steps JoinGroups(std::span<const OrphanPage> orphans);
  // Their partners may share the frame at an address of their own.
  Steps MatchRecords(const std::optional<std::vector<uint64_t>>& doubles, bool all_read);
  // Finds where the records have frames that are wanted here: orphans', and those that are recorded twice.
  Steps FindTaken(const std::optional<std::vector<uint64_t>>& doubles, bool all_read, std::vector<RecordedPage>& taken);
  // How many holders the groups of these pages' frames have, by frame.
  Steps CountHolders(std::span<const RecordedPage> pages, std::unordered_map<uint64_t, uint64_t>& holders) const;
  // Takes the groups of these pages out of the records. `frames`: theirs, sorted.
  Steps TakeRecorded(std::vector<RecordedPage>& taken, std::vector<uint64_t>& frames);
  void TakeFromWindow(std::span<const RecordedPage> taken, std::vector<uint64_t>& frames);
  void AddToGroup(OrphanRun orphans);
  void AddUnshared(OrphanRun orphans);

  size_t pages_;
  const FrameFacts& facts_;
  std::span<const uint64_t> frames_;
  WindowRecords& records_;
  MovedBlocks& blocks_;
  Judgement& judgement_;
  MovedSharing& sharing_;
  std::vector<OrphanRun> unmatched_;
  std::vector<MovedPage> added_;
  bool doubles_left_ = false;
};

}  // namespace cow::memory
