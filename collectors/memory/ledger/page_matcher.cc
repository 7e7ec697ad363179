#include "collectors/memory/ledger/page_matcher.h"

#include <algorithm>
#include <utility>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

PageMatcher::PageMatcher(size_t pages_per_window, const FrameFacts& facts, std::span<const Pfn> frames,
                         WindowRecords& records, MovedBlocks& blocks, Judgement& judgement, MovedSharing& sharing)
    : pages_(pages_per_window),
      facts_(facts),
      frames_(frames),
      records_(records),
      blocks_(blocks),
      judgement_(judgement),
      sharing_(sharing) {}

Steps PageMatcher::Match(std::span<const UnmatchedPage> unmatched, const std::optional<std::vector<Pfn>>& doubles,
                         bool all_read) {
  co_await JoinGroups(unmatched);
  co_await MatchRecords(doubles, all_read);
  co_await blocks_.AddAll(added_);
}

Steps PageMatcher::JoinGroups(std::span<const UnmatchedPage> all) {
  Pace pace;
  for (size_t begin = 0; begin < all.size();) {
    const Pfn frame = all[begin].frame;
    size_t end = begin;
    while (end < all.size() && all[end].frame == frame) ++end;
    const PageRun run(all.data() + begin, end - begin);
    begin = end;
    if (pace.IsDue(16 * run.size())) co_await Rest();
    if (facts_.IsKsm(frame)) continue;
    if (facts_.MapCount(frame).value_or(2) <= 1) {  // bit 56 of a large folio may describe the whole folio
      AddUnshared(run);
    } else if (Contains(frames_, frame)) {
      AddToGroup(run);
    } else {
      waiting_runs_.push_back(run);
    }
  }
}

Steps PageMatcher::FindTaken(const std::optional<std::vector<Pfn>>& doubles, bool all_read,
                             std::vector<RecordedPage>& taken) {
  std::vector<Pfn> waiting_frames;  // sorted, as the runs are
  for (const PageRun& run : waiting_runs_) waiting_frames.push_back(run.front().frame);
  std::vector<Pfn> wanted = waiting_frames;
  if (doubles) wanted.insert(wanted.end(), doubles->begin(), doubles->end());
  if (wanted.empty()) co_return;
  co_await SortUniqueInSteps(wanted);
  std::vector<RecordedPage> found;
  co_await FindRecorded(records_, wanted, pages_, found);
  std::unordered_map<Pfn, uint64_t> moved_holders;
  co_await CountHolders(found, moved_holders);
  Pace pace;
  for (size_t begin = 0; begin < found.size();) {
    const Pfn frame = found[begin].frame;
    const auto moved = moved_holders.find(frame);
    uint64_t holders = moved == moved_holders.end() ? 0 : moved->second;
    size_t end = begin;
    for (; end < found.size() && found[end].frame == frame; ++end) holders += found[end].holders;
    const bool is_double = end - begin > 1 || moved != moved_holders.end();
    // Fewer mappings than holders: the frame belonged to two pages in turn while the family was read.
    const bool is_one_page = all_read && facts_.MapCount(frame).value_or(holders) >= holders;
    if (Contains(waiting_frames, frame) || (is_double && is_one_page)) {
      taken.insert(taken.end(), found.begin() + static_cast<std::ptrdiff_t>(begin),
                   found.begin() + static_cast<std::ptrdiff_t>(end));
    } else if (is_double) {
      doubles_left_ = true;
    }
    if (pace.IsDue(16 * (end - begin))) co_await Rest();
    begin = end;
  }
}

Steps PageMatcher::MatchRecords(const std::optional<std::vector<Pfn>>& doubles, bool all_read) {
  std::vector<RecordedPage> taken;
  co_await FindTaken(doubles, all_read, taken);
  sharing_.must_read_all = doubles_left_ && !all_read;
  std::vector<Pfn> frames;
  co_await TakeRecorded(taken, frames);
  Pace pace;
  for (const PageRun& run : waiting_runs_) {
    const UnmatchedPage& first = run.front();
    if (run.size() > 1 || Contains(frames, first.frame)) {
      AddToGroup(run);
    } else if (facts_.IsCountedAsFolio(first.frame)) {
      // The kernel counts only the folio, and no relative has this page of it.
      AddUnshared(run);
    } else {
      ++sharing_.unmatched_pages;
      // Its partner left the address, and may have moved to one that was not read.
      if (first.was_shared && !all_read) sharing_.must_read_all = true;
    }
    if (pace.IsDue(16 * run.size())) co_await Rest();
  }
}

Steps PageMatcher::CountHolders(std::span<const RecordedPage> pages, std::unordered_map<Pfn, uint64_t>& holders) const {
  std::vector<Pfn> frames;  // sorted, as the pages are
  for (const RecordedPage& each : pages) {
    if (Contains(frames_, each.frame) && (frames.empty() || frames.back() != each.frame)) frames.push_back(each.frame);
  }
  if (frames.empty()) co_return;
  Pace pace;
  for (const auto& [window, blocks] : blocks_.windows()) {
    for (const MovedBlock& block : blocks) {
      for (size_t page = 0; page < block.pages(); ++page) {
        const uint64_t here = block.CountHere(page);
        if (here != 0 && Contains(frames, block.FrameAt(page))) holders[block.FrameAt(page)] += here;
        if (pace.IsDue(8 + block.holders())) co_await Rest();
      }
    }
  }
}

Steps PageMatcher::TakeRecorded(std::vector<RecordedPage>& taken, std::vector<Pfn>& frames) {
  co_await SortInSteps(std::span(taken), InOrderOfPages());
  Pace pace;
  for (size_t begin = 0; begin < taken.size();) {
    const WindowIndex window = taken[begin].page.Window(pages_);
    size_t end = begin;
    while (end < taken.size() && taken[end].page.Window(pages_) == window) ++end;
    TakeFromWindow({taken.data() + begin, end - begin}, frames);
    if (pace.IsDue(pages_ + 64 * (end - begin))) co_await Rest();
    begin = end;
  }
  co_await SortUniqueInSteps(frames);
}

// All pages are in one window.
void PageMatcher::TakeFromWindow(std::span<const RecordedPage> taken, std::vector<Pfn>& frames) {
  const WindowIndex window = taken.front().page.Window(pages_);
  WindowRecord record = records_.Find(window)->Open();
  std::vector<MovedPage> pages;
  for (const auto& [frame, page, count] : taken) {
    const auto in_window = static_cast<uint32_t>(page.InWindow(pages_));
    std::vector<MemberIndex> holders;
    if (!record.frames.empty() && record.frames[in_window] == frame) {
      holders = record.TakePage(in_window);
    } else {
      const auto extra = std::find_if(record.extras.begin(), record.extras.end(), [&, frame = frame](const auto& each) {
        return each.page == in_window && each.frame == frame;
      });
      if (extra == record.extras.end()) continue;
      holders = std::move(extra->holders);
      record.extras.erase(extra);
    }
    for (const MemberIndex slot : holders) pages.push_back({page, frame, slot, true});
    // The window's report counted them as shared.
    sharing_.shared_pages -= static_cast<int64_t>(holders.size());
    sharing_.exposure_pages -= static_cast<int64_t>(holders.size()) - 1;
    frames.push_back(frame);
  }
  records_.Put(window, record);
  blocks_.Add(window, std::move(pages));
}

void PageMatcher::AddToGroup(PageRun run) {
  for (const UnmatchedPage& page : run) added_.push_back({page.page, page.frame, page.slot, true});
}

void PageMatcher::AddUnshared(PageRun run) {
  for (const UnmatchedPage& page : run) {
    if (page.was_shared) judgement_.AddUnshared(page.slot, page.page, page.cause);
  }
}

}  // namespace cow::memory
