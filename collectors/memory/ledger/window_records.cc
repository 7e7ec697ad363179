#include "collectors/memory/ledger/window_records.h"

#include <utility>

namespace cow::memory {

WindowRecords::~WindowRecords() {
  if (budget_ == nullptr) return;
  budget_->Return(MemoryPurpose::kRecords, bytes_);
  budget_->reduced_windows -= reduced_;
}

const PackedWindow* WindowRecords::Find(WindowIndex window) const {
  const auto found = windows_.find(window);
  return found == windows_.end() ? nullptr : &found->second;
}

void WindowRecords::Put(WindowIndex window, const WindowRecord& record) {
  Forget(window);
  if (!record.HoldsAnything()) return;
  PackedWindow packed(record, pages_, !record.frames.empty());
  if (budget_ != nullptr && !budget_->TryTake(MemoryPurpose::kRecords, kWindowBytes + packed.HeapBytes())) {
    packed = PackedWindow(record, pages_, false);
    budget_->Take(MemoryPurpose::kRecords, kWindowBytes + packed.HeapBytes());
  }
  if (budget_ != nullptr && !packed.has_frames()) {
    ++reduced_;
    ++budget_->reduced_windows;
  }
  bytes_ += kWindowBytes + packed.HeapBytes();
  windows_.emplace(window, std::move(packed));
}

void WindowRecords::Clear() {
  while (!windows_.empty()) Forget(windows_.begin()->first);
}

void WindowRecords::Forget(WindowIndex window) {
  const auto found = windows_.find(window);
  if (found == windows_.end()) return;
  const uint64_t bytes = kWindowBytes + found->second.HeapBytes();
  bytes_ -= bytes;
  if (budget_ != nullptr) budget_->Return(MemoryPurpose::kRecords, bytes);
  if (budget_ != nullptr && !found->second.has_frames()) {
    --reduced_;
    --budget_->reduced_windows;
  }
  windows_.erase(found);
}

}  // namespace cow::memory
