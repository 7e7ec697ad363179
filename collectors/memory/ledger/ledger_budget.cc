#include "collectors/memory/ledger/ledger_budget.h"

namespace cow::memory {

bool LedgerBudget::TryTake(MemoryPurpose purpose, uint64_t bytes) {
  uint64_t used = used_bytes.load();
  do {
    if (used + bytes > limit_bytes) return false;
  } while (!used_bytes.compare_exchange_weak(used, used + bytes));
  used_for.at(static_cast<size_t>(purpose)) += bytes;
  return true;
}

void LedgerBudget::Take(MemoryPurpose purpose, uint64_t bytes) {
  used_bytes += bytes;
  used_for.at(static_cast<size_t>(purpose)) += bytes;
}

void LedgerBudget::Return(MemoryPurpose purpose, uint64_t bytes) {
  used_bytes -= bytes;
  used_for.at(static_cast<size_t>(purpose)) -= bytes;
}

uint64_t LedgerBudget::LeftBytes() const {
  const uint64_t used = used_bytes;
  return used < limit_bytes ? limit_bytes - used : 0;
}

void MemoryCharge::Set(uint64_t bytes) {
  if (budget_ != nullptr && bytes > bytes_) budget_->Take(purpose_, bytes - bytes_);
  if (budget_ != nullptr && bytes < bytes_) budget_->Return(purpose_, bytes_ - bytes);
  bytes_ = bytes;
}

}  // namespace cow::memory
