#include "collectors/engine/mode_notices.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace cow::collectors {
namespace {

void Note(ModeNotices& notices, const std::string& group, pid_t pid, memory::Mode mode) {
  memory::LedgerBudget budget;
  memory::Family family(1, 512, Pfn::None(), &budget);
  auto member = std::make_unique<memory::Member>();
  member->process = std::make_shared<memory::Process>();
  member->process->pid = pid;
  member->access.mode = mode;
  if (mode == memory::Mode::kNone) member->access.unread = Error::FromErrno("/proc/7/pagemap", 13);
  family.members.push_back(std::move(member));
  notices.Note(group, family);
}

TEST(ModeNoticesTest, EachGroupAndModeIsToldOnce) {
  ModeNotices notices;
  Note(notices, "whole", 5, memory::Mode::kFull);
  Note(notices, "first", 7, memory::Mode::kNone);
  Note(notices, "first", 8, memory::Mode::kNone);
  Note(notices, "second", 9, memory::Mode::kNone);
  Note(notices, "second", 9, memory::Mode::kNoFrames);
  notices.NoteNameless("_other", 0);
  const std::vector<ModeNotice> told = notices.Take();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].mode, "no_frames");
  EXPECT_EQ(told[0].group, "second");
  EXPECT_NE(told[0].reason.find("CAP_SYS_ADMIN"), std::string::npos);
  EXPECT_EQ(told[1].mode, "none");
  EXPECT_EQ(told[1].groups, 2U);
  EXPECT_EQ(told[1].group, "first");
  EXPECT_EQ(told[1].pid, 7);
  EXPECT_NE(told[1].reason.find("/proc/7/pagemap"), std::string::npos);

  Note(notices, "first", 10, memory::Mode::kNone);
  Note(notices, "first", 10, memory::Mode::kNoFrames);
  EXPECT_TRUE(notices.Take().empty());
  notices.NoteNameless("_other", 3);
  EXPECT_EQ(notices.Take().size(), 1U);
}

TEST(ModeNoticesTest, EachFailureIsToldOnce) {
  ModeNotices notices;
  for (int pass = 0; pass < 3; ++pass) {
    notices.NoteFailure("ksm", "no memory");
    notices.NoteFailure("thp", "no memory");
    notices.NoteFailure("thp", "broken");
    const std::vector<ModeNotice> told = notices.Take();
    ASSERT_EQ(told.size(), pass == 0 ? 3U : 0U);
    if (pass > 0) continue;
    EXPECT_EQ(told[2].collector, "thp");
    EXPECT_EQ(told[2].reason, "broken");
    EXPECT_TRUE(told[2].mode.empty());
  }
  // The number of reported reasons is bounded.
  size_t lines = 0;
  for (int i = 0; i < 1000; ++i) {
    notices.NoteFailure("thp", "at " + std::to_string(i));
    lines += notices.Take().size();
  }
  EXPECT_LT(lines, 100U);
}

}  // namespace
}  // namespace cow::collectors
