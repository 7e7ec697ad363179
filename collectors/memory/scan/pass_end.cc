#include "collectors/memory/scan/pass_end.h"

#include <algorithm>
#include <array>
#include <utility>

namespace cow::memory {

bool PassEnd::Step(Family& family, const ScanWalk& walk, std::span<ScanPart> parts, FrameReader& frames) {
  constexpr size_t kManyVerdicts = 4096;
  const bool stage_ended = StepOfStage(family, walk, parts, frames);
  take_ = !judgement_.verdicts.empty() && (stage_ended || judgement_.verdicts.size() > kManyVerdicts);
  if (!stage_ended) return false;
  steps_.reset();
  stage_ = static_cast<Stage>(static_cast<int>(stage_) + 1);
  return stage_ == Stage::kDone;
}

void PassEnd::TakeVerdicts(Judgement& verdicts) {
  std::swap(judgement_, verdicts);
  judgement_.Clear();
  take_ = false;
}

bool PassEnd::StepOfStage(Family& family, const ScanWalk& walk, std::span<ScanPart> parts, FrameReader& frames) {
  switch (stage_) {
    case Stage::kFindDoubts:
      if (!steps_) steps_ = family.ledger.FindMovedInDoubt(doubts_);
      return !steps_->Next();
    case Stage::kConfirm:
      return ConfirmSome(family, parts);
    case Stage::kFindFrames:
      if (!steps_) steps_ = family.ledger.FindFramesToMatch(walk.ksm_in_use, frames_);
      return !steps_->Next();
    case Stage::kAskKernel:
      return AskForSome(frames);
    case Stage::kMatch:
      if (!steps_) {
        const bool all_read = std::all_of(parts.begin(), parts.end(), [](const ScanPart& part) { return part.due; });
        judgement_ = std::exchange(family.owed, {});
        steps_ = family.ledger.FinishPass(facts_, judgement_, moved_, all_read);
      }
      return !steps_->Next();
    case Stage::kDone:
      break;
  }
  return true;
}

bool PassEnd::ConfirmSome(Family& family, std::span<ScanPart> parts) {
  constexpr size_t kPagesPerStep = 512;  // each is a system call
  const std::vector<ScanPart*> by_slot = PartsBySlot(parts);
  for (size_t i = 0; i < kPagesPerStep && confirmed_ < doubts_.size(); ++i, ++confirmed_) {
    const MovedPage& doubt = doubts_[confirmed_];
    ScanPart* part = doubt.slot.number() < by_slot.size() ? by_slot[doubt.slot.number()] : nullptr;
    std::array<PageEntry, 1> entry{};
    if (part != nullptr && part->reader.alive() && part->reader.ReadPages(doubt.page, entry))
      family.ledger.ConfirmMoved(doubt, entry.front());
  }
  return confirmed_ == doubts_.size();
}

bool PassEnd::AskForSome(FrameReader& frames) {
  constexpr size_t kFramesPerStep = 2048;
  const size_t count = std::min(kFramesPerStep, frames_.size() - asked_);
  if (count != 0) frames.ReadMore(std::span(frames_).subspan(asked_, count), facts_);
  asked_ += count;
  return asked_ == frames_.size();
}

Judgement PassEnd::GiveUp() {
  if (IsHalfDone()) steps_->MakeAll();
  steps_.reset();
  return std::exchange(judgement_, {});
}

}  // namespace cow::memory
