// Tests the judgement of single pages.
#include "collectors/explain/page_state.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "collectors/procfs/pagemap.h"

namespace cow::explain {
namespace {

TEST(ExplainStates, FollowTheEvidence) {
  constexpr procfs::PageEntry kAnon(procfs::kPagemapPresent | 500);
  constexpr uint64_t kSwapOffset = uint64_t{77} << 5U;
  PageEvidence page;
  EXPECT_EQ(JudgePage(page), PageState::kAbsent);
  page.entry = procfs::PageEntry(procfs::kPagemapSwapped | procfs::kPagemapGuard);
  EXPECT_EQ(JudgePage(page), PageState::kGuard);
  page.entry = procfs::PageEntry(procfs::kPagemapSwapped | kSwapOffset);
  EXPECT_EQ(JudgePage(page), PageState::kSwapped);
  page.entry = procfs::PageEntry(procfs::kPagemapSwapped | kSwapOffset | 30);  // the type of a migration entry
  EXPECT_EQ(JudgePage(page), PageState::kUnresolved);
  page.entry = kAnon;
  EXPECT_EQ(JudgePage(page), PageState::kPrivate);
  page.exclusive = false;
  EXPECT_EQ(JudgePage(page), PageState::kUnshared);
  page.differs = true;
  EXPECT_EQ(JudgePage(page), PageState::kUnattributed);
  page.private_file = true;
  EXPECT_EQ(JudgePage(page), PageState::kFileCopied);
  page.original = true;
  EXPECT_EQ(JudgePage(page), PageState::kOriginal);
  page.copied = true;
  EXPECT_EQ(JudgePage(page), PageState::kCopied);
  page.shared = true;
  EXPECT_EQ(JudgePage(page), PageState::kShared);
  page.merged = true;
  EXPECT_EQ(JudgePage(page), PageState::kMerged);
  page.is_zero_page = true;
  EXPECT_EQ(JudgePage(page), PageState::kZero);
  page.entry = procfs::PageEntry(page.entry.bits() | procfs::kPagemapFile);
  EXPECT_EQ(JudgePage(page), PageState::kFileOriginal);
  page.private_mapping = false;
  EXPECT_EQ(JudgePage(page), PageState::kFile);
}

TEST(ExplainStates, WithoutFrames) {
  PageEvidence page;
  page.frames_known = false;
  page.entry = procfs::PageEntry(procfs::kPagemapPresent);
  EXPECT_EQ(JudgePage(page), PageState::kShared);
  page.zero_known = false;
  EXPECT_EQ(JudgePage(page), PageState::kUnknown);
  page.entry = procfs::PageEntry(page.entry.bits() | procfs::kPagemapMappedOnce);
  EXPECT_EQ(JudgePage(page), PageState::kPrivate);
  page.private_file = true;
  EXPECT_EQ(JudgePage(page), PageState::kFileCopied);
  page.entry = procfs::PageEntry(procfs::kPagemapPresent | procfs::kPagemapFile);
  EXPECT_EQ(JudgePage(page), PageState::kFileOriginal);
  page.private_file = false;  // anonymous: the huge zero page
  EXPECT_EQ(JudgePage(page), PageState::kZero);
}

}  // namespace
}  // namespace cow::explain
