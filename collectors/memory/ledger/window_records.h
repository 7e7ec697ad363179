// The records of all windows of one family, and the memory that they may take.
//
// Not thread-safe, but for the budget, which families that are scanned at a time share.
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
  // Of each window, beside what its frames and bitmaps take: the tree's node.
  static constexpr uint64_t kWindowBytes = 4 * sizeof(void*) + sizeof(std::pair<const uint64_t, PackedWindow>);

  // `budget`: shared by records, outlives them; null: no limit.
  WindowRecords(size_t pages_per_window, LedgerBudget* budget) : pages_(pages_per_window), budget_(budget) {}
  ~WindowRecords();
  WindowRecords(const WindowRecords&) = delete;
  WindowRecords& operator=(const WindowRecords&) = delete;

  // By number of the window.
  const std::map<uint64_t, PackedWindow>& all() const { return windows_; }
  // Null where nothing is recorded.
  const PackedWindow* Find(uint64_t window) const;
  // Replaces a window's record; without its frames where they would not fit the budget, forgotten where it holds
  // nothing.
  void Put(uint64_t window, const WindowRecord& record);

  bool empty() const { return windows_.empty(); }
  void Clear();
  // Bytes of heap, without what the allocator adds.
  uint64_t MemoryBytes() const { return bytes_; }

 private:
  void Forget(uint64_t window);

  size_t pages_;
  LedgerBudget* budget_;
  std::map<uint64_t, PackedWindow> windows_;
  uint64_t bytes_ = 0;
  uint64_t reduced_ = 0;  // windows without frames
};

}  // namespace cow::memory
