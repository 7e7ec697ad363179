// The end of a scan over all members: judges what the windows left open, above all pages at moved addresses. Works in
// steps, because there may be any number of such pages. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/scan/scan_part.h"

namespace cow::memory {

class PassEnd {
 public:
  // Makes a step. True if it was the last one.
  bool Step(Family& family, const ScanWalk& walk, std::span<ScanPart> parts, FrameReader& frames);

  // Verdicts found so far and not taken yet. Takes them once there are many, or a stage is over.
  bool HasVerdictsToTake() const { return take_; }
  void TakeVerdicts(Judgement& verdicts);

  // After the last step.
  const MovedSharing& moved() const { return moved_; }

  // The ledger has begun to match pages: given up now, its state would be wrong.
  bool IsHalfDone() const { return stage_ == Stage::kMatch && steps_.has_value(); }
  // Brings the ledger into a consistent state, which may take long, and returns the verdicts that were not taken.
  Judgement GiveUp();

 private:
  enum class Stage { kFindDoubts, kConfirm, kFindFrames, kAskKernel, kMatch, kDone };

  bool StepOfStage(Family& family, const ScanWalk& walk, std::span<ScanPart> parts, FrameReader& frames);
  bool ConfirmSome(Family& family, std::span<ScanPart> parts);
  bool AskForSome(FrameReader& frames);

  Stage stage_ = Stage::kFindDoubts;
  std::optional<Steps> steps_;  // of the stage, where the ledger makes them
  std::vector<MovedPage> doubts_;
  size_t confirmed_ = 0;  // how many of the doubts were read again
  std::vector<Pfn> frames_;
  size_t asked_ = 0;  // how many of the frames the kernel was asked about
  FrameFacts facts_;
  Judgement judgement_;
  MovedSharing moved_;
  bool take_ = false;
};

// By slot; null where the member has no part.
std::vector<ScanPart*> PartsBySlot(std::span<ScanPart> parts);

}  // namespace cow::memory
