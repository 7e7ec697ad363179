// Gauges of one family by its latest readings: cells per window, of the family as a whole, and from OnPass. A gauge is
// always their sum, also during a scan.
//
// A process without relatives has one set of cells for all its windows, replaced at the end of each scan. When it
// forks, its windows get their own cells one by one, and the old cells fade by the share of pages read since. Not
// thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "collectors/base/page_numbers.h"

namespace cow::collectors {

// Where the cells of one remaining collector move.
struct CellMove {
  size_t from = 0;
  size_t to = 0;
  size_t count = 0;
};

// Returns `count` cells: moved cells at their new places, 0 elsewhere. `cells` may be empty.
template <class T>
std::vector<T> LaidOut(const std::vector<T>& cells, size_t count, std::span<const CellMove> moves) {
  std::vector<T> laid_out(count, T{});
  if (cells.empty()) return laid_out;
  for (const CellMove& move : moves) {
    const auto from = cells.begin() + static_cast<std::ptrdiff_t>(move.from);
    std::copy_n(from, move.count, laid_out.begin() + static_cast<std::ptrdiff_t>(move.to));
  }
  return laid_out;
}

using SystemTime = std::chrono::system_clock::time_point;

// The latest reading of one window.
struct WindowCells {
  std::vector<int32_t> gauges;  // base pages
  uint32_t present_pages = 0;
  SystemTime read_at;
  uint64_t scan = 0;  // that read it, or found it unchanged
};

class FamilySums {
 public:
  // Sets the number of gauges: moves the remaining ones and zeroes the others. Drops the sums of an unfinished scan of
  // a process without relatives.
  void LayOut(size_t gauges, std::span<const CellMove> moves);

  void BeginScan() { ++scan_; }
  // `alone`: the scan is of a process without relatives.
  void AddWindow(WindowIndex window, std::span<const int64_t> gauges, uint64_t present_pages, SystemTime read_at,
                 bool alone);
  void Verify(WindowIndex window, SystemTime now);
  // Subtracts memory that left the window.
  void TakeOut(WindowIndex window, std::span<const int64_t> gauges, uint64_t present_pages);
  // Drops windows that the scan did not visit. `unwalked_pages`: pages that were not read window by window.
  void EndScan(std::span<const int64_t> family_gauges, uint64_t unwalked_pages, bool alone);
  void SetPassCells(std::span<const int64_t> gauges) { pass_cells_.assign(gauges.begin(), gauges.end()); }

  // Call it when a process without relatives has forked.
  void BeginToFade();
  // Forgets everything.
  void Clear();

  // Adds all gauges. `fading_share`: unread share of the fading cells, 0 to 1.
  void AddTo(std::span<int64_t> gauges, double fading_share) const;

  const std::unordered_map<WindowIndex, WindowCells>& windows() const { return windows_; }
  uint64_t alone_pages() const { return alone_pages_; }    // of a process without relatives
  uint64_t fading_pages() const { return fading_pages_; }  // when it began to fade

 private:
  size_t gauges_ = 0;
  uint64_t scan_ = 0;
  std::unordered_map<WindowIndex, WindowCells> windows_;
  std::vector<int64_t> window_sum_;  // over `windows_`
  std::vector<int64_t> family_cells_;
  std::vector<int64_t> pass_cells_;
  std::vector<int64_t> alone_;
  std::vector<int64_t> alone_pending_;  // of the scan under way
  std::vector<int64_t> fading_;
  uint64_t alone_pages_ = 0;
  uint64_t alone_pending_pages_ = 0;
  uint64_t pending_scan_ = 0;
  uint64_t fading_pages_ = 0;
};

}  // namespace cow::collectors
