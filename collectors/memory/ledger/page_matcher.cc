// Matches pages without a partner at their address by frame (end_of_pass.h).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/end_of_pass.h"
#include "collectors/memory/ledger/recorded_frames.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {
namespace {

constexpr auto kFrameOf = [](const auto& page) { return page.frame; };

}  // namespace

// Not in the unnamed namespace: GCC rejects a coroutine that holds an object of such a class in a unity build.
class PageMatcher {
 public:
  PageMatcher(const EndOfPass& end, std::span<const Pfn> frames) : end_(end), frames_(frames) {}

  // Adds pages to the group of their frame; those without a group wait.
  Steps JoinGroups() {
    Pace pace;
    for (PageRun rest = end_.notes.unmatched; !rest.empty();) {
      const PageRun run = TakeRun(rest, kFrameOf);
      const Pfn frame = run.front().frame;
      if (pace.IsDue(16 * run.size())) co_await Rest();
      if (end_.facts.IsKsm(frame)) continue;
      if (end_.facts.MapCount(frame).value_or(2) <= 1) {  // bit 56 of a large folio may describe the whole folio
        AddUnshared(run);
      } else if (Contains(frames_, frame)) {
        AddToGroup(run);
      } else {
        waiting_runs_.push_back(run);
      }
    }
  }

  // Matches the waiting pages with records, whose holders may share the frame at their own address.
  Steps MatchRecords() {
    std::vector<RecordedPage> taken;
    co_await FindTaken(taken);
    end_.sharing.must_read_all = doubles_left_ && !end_.all_read;
    std::vector<Pfn> frames;
    co_await TakeRecorded(taken, frames);
    Pace pace;
    for (const PageRun& run : waiting_runs_) {
      const UnmatchedPage& first = run.front();
      if (run.size() > 1 || Contains(frames, first.frame)) {
        AddToGroup(run);
      } else if (end_.facts.IsCountedAsFolio(first.frame)) {
        // The kernel counts only the folio, and no relative has this page of it.
        AddUnshared(run);
      } else {
        ++end_.sharing.unmatched_pages;
        // Its partner left the address, and may have moved to one that was not read.
        if (first.was_shared && !end_.all_read) end_.sharing.must_read_all = true;
      }
      if (pace.IsDue(16 * run.size())) co_await Rest();
    }
  }

  std::vector<MovedPage>& added() { return added_; }
  bool doubles_left() const { return doubles_left_; }

 private:
  using PageRun = std::span<const UnmatchedPage>;  // pages with one frame

  // Finds the records to take out: frames of waiting pages, and frames that are recorded twice.
  Steps FindTaken(std::vector<RecordedPage>& taken) {
    std::vector<Pfn> waiting_frames;  // sorted, as the runs are
    for (const PageRun& run : waiting_runs_) waiting_frames.push_back(run.front().frame);
    std::vector<Pfn> wanted = waiting_frames;
    if (end_.doubles) wanted.insert(wanted.end(), end_.doubles->begin(), end_.doubles->end());
    if (wanted.empty()) co_return;
    co_await SortUniqueInSteps(wanted);
    std::vector<RecordedPage> found;
    co_await FindRecorded(end_.records, wanted, end_.pages_per_window, found);
    std::unordered_map<Pfn, uint64_t> moved_holders;
    co_await CountHolders(found, moved_holders);
    Pace pace;
    for (std::span<const RecordedPage> rest = found; !rest.empty();) {
      const auto pages = TakeRun(rest, kFrameOf);
      const Pfn frame = pages.front().frame;
      const auto moved = moved_holders.find(frame);
      uint64_t holders = moved == moved_holders.end() ? 0 : moved->second;
      for (const RecordedPage& page : pages) holders += page.holders;
      const bool is_double = pages.size() > 1 || moved != moved_holders.end();
      // Fewer mappings than holders: the frame belonged to two pages in turn while the family was read.
      const bool is_one_page = end_.all_read && end_.facts.MapCount(frame).value_or(holders) >= holders;
      if (Contains(waiting_frames, frame) || (is_double && is_one_page)) {
        taken.insert(taken.end(), pages.begin(), pages.end());
      } else if (is_double) {
        doubles_left_ = true;
      }
      if (pace.IsDue(16 * pages.size())) co_await Rest();
    }
  }

  // Counts the holders of these pages' frames in the groups, by frame.
  Steps CountHolders(std::span<const RecordedPage> pages, std::unordered_map<Pfn, uint64_t>& holders) const {
    std::vector<Pfn> frames;  // sorted, as the pages are
    for (const RecordedPage& each : pages) {
      if (Contains(frames_, each.frame) && (frames.empty() || frames.back() != each.frame))
        frames.push_back(each.frame);
    }
    if (frames.empty()) co_return;
    Pace pace;
    for (const auto& [window, blocks] : end_.blocks.windows()) {
      for (const MovedBlock& block : blocks) {
        for (size_t page = 0; page < block.pages(); ++page) {
          const uint64_t here = block.CountHere(page);
          if (here != 0 && Contains(frames, block.FrameAt(page))) holders[block.FrameAt(page)] += here;
          if (pace.IsDue(8 + block.holders())) co_await Rest();
        }
      }
    }
  }

  // Moves the groups of these pages from the records to the blocks. `frames`: their frames, sorted.
  Steps TakeRecorded(std::vector<RecordedPage>& taken, std::vector<Pfn>& frames) {
    co_await SortInSteps(std::span(taken), InOrderOfPages());
    Pace pace;
    for (std::span<const RecordedPage> rest = taken; !rest.empty();) {
      const auto pages =
          TakeRun(rest, [this](const RecordedPage& each) { return each.page.Window(end_.pages_per_window); });
      TakeFromWindow(pages, frames);
      if (pace.IsDue(end_.pages_per_window + 64 * pages.size())) co_await Rest();
    }
    co_await SortUniqueInSteps(frames);
  }

  // All pages are in one window.
  void TakeFromWindow(std::span<const RecordedPage> taken, std::vector<Pfn>& frames) {
    const WindowIndex window = taken.front().page.Window(end_.pages_per_window);
    WindowRecord record = end_.records.Find(window)->Open();
    std::vector<MovedPage> pages;
    for (const auto& [frame, page, count] : taken) {
      const auto in_window = static_cast<uint32_t>(page.InWindow(end_.pages_per_window));
      std::vector<MemberIndex> holders;
      if (!record.frames.empty() && record.frames[in_window] == frame) {
        holders = record.TakePage(in_window);
      } else {
        const auto extra = std::find_if(
            record.extras.begin(), record.extras.end(),
            [&, frame = frame](const auto& each) { return each.page == in_window && each.frame == frame; });
        if (extra == record.extras.end()) continue;
        holders = std::move(extra->holders);
        record.extras.erase(extra);
      }
      for (const MemberIndex slot : holders) pages.push_back({page, frame, slot, true});
      // The window's report counted them as shared.
      end_.sharing.shared_pages -= static_cast<int64_t>(holders.size());
      end_.sharing.exposure_pages -= static_cast<int64_t>(holders.size()) - 1;
      frames.push_back(frame);
    }
    end_.records.Put(window, record);
    end_.blocks.Add(window, std::move(pages));
  }

  void AddToGroup(PageRun run) {
    for (const UnmatchedPage& page : run) added_.push_back({page.page, page.frame, page.slot, true});
  }

  void AddUnshared(PageRun run) {
    for (const UnmatchedPage& page : run) {
      if (page.was_shared) end_.judgement.AddUnshared(page.slot, page.page, page.cause);
    }
  }

  const EndOfPass& end_;
  std::span<const Pfn> frames_;
  std::vector<PageRun> waiting_runs_;
  std::vector<MovedPage> added_;
  bool doubles_left_ = false;
};

Steps MatchPages(const EndOfPass& end, std::span<const Pfn> frames, bool& doubles_left) {
  PageMatcher matcher(end, frames);
  co_await matcher.JoinGroups();
  co_await matcher.MatchRecords();
  co_await end.blocks.AddAll(matcher.added());
  doubles_left = matcher.doubles_left();
}

}  // namespace cow::memory
