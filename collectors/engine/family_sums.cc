#include "collectors/engine/family_sums.h"

#include <algorithm>
#include <cmath>

namespace cow::collectors {

void FamilySums::LayOut(size_t gauges, std::span<const CellMove> moves) {
  gauges_ = gauges;
  for (auto& [window, cells] : windows_) cells.gauges = LaidOut(cells.gauges, gauges, moves);
  for (auto* cells : {&window_sum_, &family_cells_, &pass_cells_, &alone_, &fading_}) {
    *cells = LaidOut(*cells, gauges, moves);
  }
  alone_pending_.assign(gauges, 0);
  pending_scan_ = 0;
}

void FamilySums::AddWindow(WindowIndex window, std::span<const int64_t> gauges, uint64_t present_pages,
                           SystemTime read_at, bool alone) {
  if (alone) {
    if (pending_scan_ != scan_) {
      alone_pending_.assign(gauges_, 0);
      alone_pending_pages_ = 0;
      pending_scan_ = scan_;
    }
    for (size_t i = 0; i < gauges_; ++i) alone_pending_[i] += gauges[i];
    alone_pending_pages_ += present_pages;
    return;
  }
  WindowCells& cells = windows_[window];
  cells.gauges.resize(gauges_, 0);
  for (size_t i = 0; i < gauges_; ++i) {
    window_sum_[i] += gauges[i] - cells.gauges[i];
    cells.gauges[i] = static_cast<int32_t>(gauges[i]);
  }
  cells.present_pages = static_cast<uint32_t>(present_pages);
  cells.read_at = read_at;
  cells.scan = scan_;
}

void FamilySums::Verify(WindowIndex window, SystemTime now) {
  const auto known = windows_.find(window);
  if (known == windows_.end()) return;  // recorded, but no member maps it
  known->second.read_at = now;
  known->second.scan = scan_;
}

void FamilySums::TakeOut(WindowIndex window, std::span<const int64_t> gauges, uint64_t present_pages) {
  const auto known = windows_.find(window);
  if (known == windows_.end()) return;
  WindowCells& cells = known->second;
  for (size_t i = 0; i < gauges_; ++i) {
    window_sum_[i] -= gauges[i];
    cells.gauges[i] -= static_cast<int32_t>(gauges[i]);
  }
  cells.present_pages -= std::min(cells.present_pages, static_cast<uint32_t>(present_pages));
}

void FamilySums::EndScan(std::span<const int64_t> family_gauges, uint64_t unwalked_pages, bool alone) {
  family_cells_.assign(family_gauges.begin(), family_gauges.end());
  std::erase_if(windows_, [this](const auto& item) {
    if (item.second.scan == scan_) return false;
    for (size_t i = 0; i < gauges_; ++i) window_sum_[i] -= item.second.gauges[i];
    return true;
  });
  const bool shown = alone && pending_scan_ == scan_;
  alone_.assign(gauges_, 0);
  if (shown) alone_.swap(alone_pending_);
  alone_pages_ = alone ? unwalked_pages + (shown ? alone_pending_pages_ : 0) : 0;
  pending_scan_ = 0;
  fading_.assign(gauges_, 0);
  fading_pages_ = 0;
}

void FamilySums::BeginToFade() {
  if (alone_pages_ == 0) return;
  for (size_t i = 0; i < gauges_; ++i) fading_[i] = family_cells_[i] + alone_[i];
  fading_pages_ = alone_pages_;
  family_cells_.assign(gauges_, 0);
  alone_.assign(gauges_, 0);
  alone_pages_ = 0;
}

void FamilySums::Clear() {
  windows_.clear();
  for (auto* cells : {&window_sum_, &family_cells_, &pass_cells_, &alone_, &fading_}) cells->assign(gauges_, 0);
  alone_pages_ = 0;
  pending_scan_ = 0;
  fading_pages_ = 0;
}

void FamilySums::AddTo(std::span<int64_t> gauges, double fading_share) const {
  if (window_sum_.empty()) return;
  for (size_t i = 0; i < gauges_; ++i) {
    gauges[i] += window_sum_[i] + family_cells_[i] + pass_cells_[i] + alone_[i];
    if (fading_[i] != 0) gauges[i] += std::llround(static_cast<double>(fading_[i]) * fading_share);
  }
}

}  // namespace cow::collectors
