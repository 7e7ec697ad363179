#include "collectors/memory/ledger/recorded_frames.h"

#include <algorithm>

#include "collectors/base/sort_unique.h"

namespace cow::memory {
namespace {

// Calls visit(page within the window, frame, extra) for each frame of a record, except the main frame of a page with an
// absent holder. `extra` is null for a main frame.
template <class Visit>
void ForEachFrame(const PackedWindow& record, std::span<Pfn> buffer, Visit&& visit) {
  const auto is_away = [&record](uint32_t page) {
    return std::any_of(record.away().begin(), record.away().end(),
                       [page](const WindowRecord::Away& away) { return away.page == page; });
  };
  if (record.has_frames()) {
    record.CopyFrames(buffer);
    for (uint32_t page = 0; page < buffer.size(); ++page) {
      if (buffer[page] != Pfn::None() && (record.away().empty() || !is_away(page))) visit(page, buffer[page], nullptr);
    }
  }
  for (const WindowRecord::Extra& extra : record.extras()) visit(extra.page, extra.frame, &extra);
}

// Counts the holders of the page's main frame. `recorded`: the record's bitmap.
uint64_t CountHoldersAt(const PackedWindow& record, BitmapView recorded, uint32_t page) {
  uint64_t holders = 0;
  for (MemberIndex slot; slot < record.SlotsEnd(); ++slot) {
    const BitmapView held = record.Held(slot, recorded);
    holders += !held.empty() && held.Test(page) ? 1U : 0U;
  }
  return holders;
}

}  // namespace

Steps FindRecorded(const WindowRecords& records, std::span<const Pfn> frames, size_t pages_per_window,
                   std::vector<RecordedPage>& found) {
  Pace pace;
  FrameFilter filter(frames.size());
  for (const Pfn frame : frames) filter.Add(frame);
  std::vector<Pfn> buffer(pages_per_window);
  WindowBitmap recorded(pages_per_window);
  for (const auto& [window, record] : records.all()) {
    record.CopyRecorded(recorded);
    ForEachFrame(record, buffer,
                 [&, window = window, &record = record](uint32_t page, Pfn frame, const WindowRecord::Extra* extra) {
                   if (!filter.MayHave(frame) || !Contains(frames, frame)) return;
                   const uint64_t holders =
                       extra == nullptr ? CountHoldersAt(record, recorded, page) : extra->holders.size();
                   found.push_back({frame, window.FirstPage(pages_per_window) + page, holders});
                 });
    if (pace.IsDue(2 * pages_per_window)) co_await Rest();
  }
  co_await SortInSteps(std::span(found));
}

Steps FindDoubles(const WindowRecords& records, size_t pages_per_window, FrameFilter& filter,
                  std::vector<Pfn>& doubles) {
  Pace pace;
  std::vector<Pfn> buffer(pages_per_window);
  for (const auto& [window, record] : records.all()) {
    ForEachFrame(record, buffer, [&](uint32_t /*page*/, Pfn frame, const WindowRecord::Extra* /*extra*/) {
      if (filter.Add(frame)) doubles.push_back(frame);
    });
    if (pace.IsDue(pages_per_window)) co_await Rest();
  }
  co_await SortUniqueInSteps(doubles);
}

bool HoldsFrame(const PackedWindow& record, BitmapView recorded, size_t page, Pfn frame, MemberIndex slot) {
  for (const WindowRecord::Extra& extra : record.extras()) {
    if (extra.page == page && extra.frame == frame) return extra.IsHeldBy(slot);
  }
  const BitmapView held = record.Held(slot, recorded);
  return !held.empty() && held.Test(page);
}

}  // namespace cow::memory
