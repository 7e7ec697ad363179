#include "collectors/memory/window_records.h"

#include <utility>

namespace cow::memory {

bool LedgerBudget::TryTake(uint64_t bytes) {
  uint64_t used = used_bytes.load();
  do {
    if (used + bytes > limit_bytes) return false;
  } while (!used_bytes.compare_exchange_weak(used, used + bytes));
  return true;
}

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
  if (budget_ != nullptr && !budget_->TryTake(kWindowBytes + packed.HeapBytes())) {
    packed = PackedWindow(record, pages_, false);
    budget_->used_bytes += kWindowBytes + packed.HeapBytes();
  }
  bytes_ += kWindowBytes + packed.HeapBytes();
  windows_.emplace(window, std::move(packed));
}

void WindowRecords::Clear() {
  while (!windows_.empty()) Forget(windows_.begin()->first);
}

void WindowRecords::Forget(uint64_t window) {
  const auto found = windows_.find(window);
  if (found == windows_.end()) return;
  const uint64_t bytes = kWindowBytes + found->second.HeapBytes();
  bytes_ -= bytes;
  if (budget_ != nullptr) budget_->used_bytes -= bytes;
  windows_.erase(found);
}

}  // namespace cow::memory
