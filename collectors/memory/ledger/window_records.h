// Stores the records of all windows of one family within the memory budget.
//
// Not thread-safe, except for the budget, which families scanned in parallel share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/ledger/packed_window.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

class WindowRecords {
 public:
  // Bytes per window beside its frames and bitmaps: the tree node.
  static constexpr uint64_t kWindowBytes = 4 * sizeof(void*) + sizeof(std::pair<const WindowIndex, PackedWindow>);

  // `budget` is shared by records and outlives them; null: no limit.
  WindowRecords(size_t pages_per_window, LedgerBudget* budget) : pages_(pages_per_window), budget_(budget) {}
  ~WindowRecords();
  WindowRecords(const WindowRecords&) = delete;
  WindowRecords& operator=(const WindowRecords&) = delete;

  // By window number.
  const std::map<WindowIndex, PackedWindow>& all() const { return windows_; }
  // Null if nothing is recorded.
  const PackedWindow* Find(WindowIndex window) const;
  // Replaces a window's record. Drops its frames if they exceed the budget. Removes a record that holds nothing.
  void Put(WindowIndex window, const WindowRecord& record);

  bool empty() const { return windows_.empty(); }
  void Clear();
  // Heap bytes, without the allocator's overhead.
  uint64_t MemoryBytes() const { return bytes_; }

 private:
  void Forget(WindowIndex window);

  size_t pages_;
  LedgerBudget* budget_;
  std::map<WindowIndex, PackedWindow> windows_;
  uint64_t bytes_ = 0;
  uint64_t reduced_ = 0;  // windows without frames
};

}  // namespace cow::memory
