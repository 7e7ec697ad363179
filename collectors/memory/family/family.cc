#include "collectors/memory/family/family.h"

#include <algorithm>

namespace cow::memory {

ChangeSignals ChangeSignals::Of(const Process& process) {
  const procfs::Status& status = process.status;
  return {process.stat.minor_faults,         process.stat.major_faults,         process.stat.virtual_bytes,
          status.rss_anon_bytes.value_or(0), status.rss_file_bytes.value_or(0), status.rss_shmem_bytes.value_or(0),
          status.swap_bytes.value_or(0),     status.hugetlb_bytes.value_or(0)};
}

void Family::TakeSlot(Member& member) {
  MemberIndex slot = first_free_;
  while (FindSlot(slot) != nullptr || ledger.IsDeparting(slot)) ++slot;
  if (slot == first_free_) ++first_free_;
  if (slot.number() >= by_slot_.size()) by_slot_.resize(slot.number() + 1, nullptr);
  by_slot_[slot.number()] = &member;
  member.slot = slot;
}

void Family::FreeSlot(MemberIndex slot) {
  by_slot_[slot.number()] = nullptr;
  first_free_ = std::min(first_free_, slot);
}

void Family::BookMemory() {
  constexpr uint64_t kLongList = uint64_t{64} << 10;
  constexpr uint64_t kSetNode = 4 * sizeof(void*);  // as malloc gives it
  looks.Book();
  uint64_t bytes = 0;
  for (const auto& member : members) {
    if (!member->access.mappings) continue;
    bytes += member->access.huge_windows.size() * kSetNode + member->access.huge_windows.bucket_count() * sizeof(void*);
    const uint64_t of_member = BytesOf(*member->access.mappings);
    if (of_member > kLongList && members_charge.MostBytes() < bytes + of_member) {
      member->access.mappings.reset();
    } else {
      bytes += of_member;
    }
  }
  members_charge.Set(bytes);
}

}  // namespace cow::memory
