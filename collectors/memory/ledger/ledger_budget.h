// One account of the bytes that everything stored about pages takes, by purpose, and the limit for all of it.
//
// Over the limit, a window drops its frames and keeps one was-shared bit per member and page. Breaks stay countable.
// Where no two holders have a frame in common, the kernel's marks tell who has the original. Without marks the side is
// unknown. Bits, moved pages and looks are kept beyond the limit: correctness needs them, and they grow with the
// members' memory only. What is booked is memory between two steps of a pass; what the allocator adds is not in it.
//
// Any thread may take and return; the limit is set between passes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cow::memory {

enum class MemoryPurpose : size_t {
  kRecords,  // windows: who shares which page, at which frame
  kMoved,    // pages that are shared between different addresses
  kPending,  // pages whose partner is looked for at the end of the pass
  kLooks,    // what each member showed in each window
  kMembers,  // of members: mappings, and where they have huge pages
};
inline constexpr std::array<std::string_view, 5> kMemoryPurposes{"records", "moved", "pending", "looks", "members"};

struct LedgerBudget {
  uint64_t limit_bytes = ~uint64_t{0};
  std::atomic<uint64_t> used_bytes = 0;
  std::array<std::atomic<uint64_t>, kMemoryPurposes.size()> used_for{};
  std::atomic<uint64_t> reduced_windows = 0;  // whose frames were dropped

  // False, and nothing is taken, if it would exceed the limit.
  bool TryTake(MemoryPurpose purpose, uint64_t bytes);
  // Takes beyond the limit too: for what correctness needs.
  void Take(MemoryPurpose purpose, uint64_t bytes);
  void Return(MemoryPurpose purpose, uint64_t bytes);
  uint64_t UsedFor(MemoryPurpose purpose) const { return used_for.at(static_cast<size_t>(purpose)); }
  uint64_t LeftBytes() const;
};

// What one owner has taken for one purpose; returns it in the end. Not thread-safe.
class MemoryCharge {
 public:
  // `budget` outlives it; null: nothing is booked.
  MemoryCharge(LedgerBudget* budget, MemoryPurpose purpose) : budget_(budget), purpose_(purpose) {}
  ~MemoryCharge() { Set(0); }
  MemoryCharge(const MemoryCharge&) = delete;
  MemoryCharge& operator=(const MemoryCharge&) = delete;

  uint64_t bytes() const { return bytes_; }
  // What it may be set to without exceeding the limit.
  uint64_t MostBytes() const { return budget_ == nullptr ? ~uint64_t{0} : bytes_ + budget_->LeftBytes(); }
  // Takes or returns the difference.
  void Set(uint64_t bytes);

 private:
  LedgerBudget* budget_;
  MemoryPurpose purpose_;
  uint64_t bytes_ = 0;
};

}  // namespace cow::memory
