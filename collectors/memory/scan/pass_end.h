// The last stage of a pass: judges what the windows left open, mainly moved pages. Works in steps, because the number
// of such pages is unbounded. Reads pagemap, kpageflags and kpagecount. Not thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/scan/scan_part.h"

namespace cow::memory {

class PassEnd {
 public:
  // Makes a step. True if it was the last one.
  bool Step(Family& family, const ScanWalk& walk, std::span<ScanPart> parts, FrameReader& frames);

  // True if TakeVerdicts is due: there are many verdicts, or a stage has ended with some.
  bool HasVerdictsToTake() const { return take_; }
  void TakeVerdicts(Judgement& verdicts);

  // Valid after the last step.
  const MovedSharing& moved() const { return moved_; }

  // True while the ledger matches pages. It is inconsistent then, so the scan must not be dropped without GiveUp.
  bool IsHalfDone() const { return stage_ == Stage::kMatch && steps_.has_value(); }
  // Makes the ledger consistent, which may take long. Returns the verdicts that were not taken.
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

}  // namespace cow::memory
