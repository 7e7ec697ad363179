#include "collectors/memory/window_records.h"

#include <utility>

namespace cow::memory {

WindowRecords::~WindowRecords() {
  if (budget_ != nullptr) budget_->used_bytes -= bytes_;
}

const PackedWindow* WindowRecords::Find(uint64_t window) const {
  const auto found = windows_.find(window);
  return found == windows_.end() ? nullptr : &found->second;
}

void WindowRecords::Put(uint64_t window, const WindowRecord& record) {
  Forget(window);
  if (!record.HoldsAnything()) return;
  PackedWindow packed(record, pages_, !record.frames.empty());
  const auto fits = [this](uint64_t bytes) {
    return budget_ == nullptr || budget_->used_bytes + bytes <= budget_->limit_bytes;
  };
  if (!fits(kWindowBytes + packed.HeapBytes())) packed = PackedWindow(record, pages_, false);
  Charge(kWindowBytes + packed.HeapBytes());
  windows_.emplace(window, std::move(packed));
}

void WindowRecords::Forget(uint64_t window) {
  const auto found = windows_.find(window);
  if (found == windows_.end()) return;
  const uint64_t bytes = kWindowBytes + found->second.HeapBytes();
  bytes_ -= bytes;
  if (budget_ != nullptr) budget_->used_bytes -= bytes;
  windows_.erase(found);
}

void WindowRecords::Charge(uint64_t bytes) {
  bytes_ += bytes;
  if (budget_ != nullptr) budget_->used_bytes += bytes;
}

}  // namespace cow::memory
