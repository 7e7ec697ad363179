// Judges the pages of a window one by one: takes the groups of a page out of the record, judges them and puts them
// back.
//
// Pure: reads no file. Serves one window. The time per page grows linearly with the number of members. Not thread-safe.
#pragma once

#include <span>

#include "collectors/memory/ledger/comparison.h"
#include "collectors/memory/ledger/frame_facts.h"
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

// Judges these pages. Changes `record` and adds verdicts to `judgement`. Adds to `moved` the pages without a partner
// here and the pages that may have moved.
void JudgePages(const ComparedWindow& window, BitmapView pages, WindowRecord& record, MovedPages& moved,
                Judgement& judgement);

}  // namespace cow::memory
