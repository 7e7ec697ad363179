// Accounts for the bytes that all stored page data takes, by purpose, and enforces one limit (limits.ledger_bytes).
//
// Over the limit, a window's record drops its frames and keeps one was-shared bit per member and page. Breaks stay
// countable: if no two holders have the same frame, the kernel's marks show which holder has the original, and without
// marks the side is unknown. Bits, moved pages and looks may exceed the limit, because correctness needs them; they
// grow with the members' memory only. The account is exact between two steps of a pass and excludes the allocator's
// overhead.
//
// Any thread may take and return bytes. Set the limit between passes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cow::memory {

enum class MemoryPurpose : size_t {
  kRecords,  // window records: holders and frames of shared pages
  kMoved,    // pages that are shared between different addresses
  kPending,  // pages that the end of the pass must match
  kLooks,    // what each member showed in each window
  kMembers,  // members' mappings and lists of huge pages
};
inline constexpr std::array<std::string_view, 5> kMemoryPurposes{"records", "moved", "pending", "looks", "members"};

struct LedgerBudget {
  uint64_t limit_bytes = ~uint64_t{0};
  std::atomic<uint64_t> used_bytes = 0;
  std::array<std::atomic<uint64_t>, kMemoryPurposes.size()> used_for{};
  std::atomic<uint64_t> reduced_windows = 0;  // windows without frames

  // Takes nothing and returns false if the bytes would exceed the limit.
  bool TryTake(MemoryPurpose purpose, uint64_t bytes);
  // Takes the bytes even beyond the limit: for data that correctness needs.
  void Take(MemoryPurpose purpose, uint64_t bytes);
  void Return(MemoryPurpose purpose, uint64_t bytes);
  uint64_t UsedFor(MemoryPurpose purpose) const { return used_for.at(static_cast<size_t>(purpose)); }
  uint64_t LeftBytes() const;
};

// The bytes that one owner has taken for one purpose. The destructor returns them. Not thread-safe.
class MemoryCharge {
 public:
  // `budget` outlives it; null: nothing is accounted.
  MemoryCharge(LedgerBudget* budget, MemoryPurpose purpose) : budget_(budget), purpose_(purpose) {}
  ~MemoryCharge() { Set(0); }
  MemoryCharge(const MemoryCharge&) = delete;
  MemoryCharge& operator=(const MemoryCharge&) = delete;

  uint64_t bytes() const { return bytes_; }
  // The largest value for Set that stays within the limit.
  uint64_t MostBytes() const { return budget_ == nullptr ? ~uint64_t{0} : bytes_ + budget_->LeftBytes(); }
  // Takes or returns the difference.
  void Set(uint64_t bytes);

 private:
  LedgerBudget* budget_;
  MemoryPurpose purpose_;
  uint64_t bytes_ = 0;
};

}  // namespace cow::memory
