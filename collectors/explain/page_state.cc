#include "collectors/explain/page_state.h"

#include <array>

namespace cow::explain {
namespace {

PageState JudgeNotPresent(procfs::PageEntry entry) {
  if (entry.IsGuard()) return PageState::kGuard;
  if (!entry.IsSwap() || entry.IsMarker()) return PageState::kAbsent;
  return entry.IsRealSwap() ? PageState::kSwapped : PageState::kUnresolved;
}

PageState JudgeOwn(const PageEvidence& evidence) {
  if (evidence.copied) return PageState::kCopied;
  if (evidence.original) return PageState::kOriginal;
  if (evidence.private_file) return PageState::kFileCopied;
  if (evidence.differs) return PageState::kUnattributed;
  return evidence.exclusive.value_or(true) ? PageState::kPrivate : PageState::kUnshared;
}

}  // namespace

std::string_view PageStateName(PageState state, bool huge) {
  constexpr std::array<std::string_view, kPageStates> kNames{
      "absent", "shared", "copied", "original", "unshared", "unattributed", "private",    "unknown",
      "zero",   "merged", "copied", "original", "file",     "swapped",      "unresolved", "guard"};
  if (huge && state == PageState::kPrivate) return "huge";
  return kNames[static_cast<size_t>(state)];
}

PageState JudgePage(const PageEvidence& evidence) {
  const procfs::PageEntry entry = evidence.entry;
  if (!entry.IsPresent()) return JudgeNotPresent(entry);
  if (!evidence.private_mapping) return PageState::kFile;
  // In anonymous memory, only the huge zero page has the file bit.
  if (entry.IsFile()) return evidence.private_file ? PageState::kFileOriginal : PageState::kZero;
  if (evidence.is_zero_page) return PageState::kZero;
  if (evidence.merged) return evidence.merged_known ? PageState::kMerged : PageState::kUnknown;
  if (!evidence.frames_known && !entry.IsMappedOnce()) {
    return evidence.zero_known ? PageState::kShared : PageState::kUnknown;
  }
  return evidence.shared ? PageState::kShared : JudgeOwn(evidence);
}

}  // namespace cow::explain
