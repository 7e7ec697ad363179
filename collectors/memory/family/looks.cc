#include "collectors/memory/family/looks.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

namespace cow::memory {
namespace {

uint64_t NonZero(uint64_t hash) { return hash == 0 ? 1 : hash; }

}  // namespace

uint64_t FingerprintOf(std::span<const PageEntry> entries) {
  return NonZero(XXH3_64bits(entries.data(), entries.size_bytes()));
}

uint64_t MixFingerprint(uint64_t fingerprint, uint64_t number) {
  return NonZero(XXH3_64bits_withSeed(&number, sizeof(number), fingerprint));
}

std::span<const Looks::Look> Looks::At(WindowIndex window) const {
  const auto found = windows_.find(window);
  return found == windows_.end() ? std::span<const Look>() : std::span<const Look>(found->second);
}

const Looks::Look* Looks::Find(WindowIndex window, MemberIndex slot) const {
  const std::span<const Look> looks = At(window);
  return slot.number() < looks.size() && looks[slot.number()].known ? &looks[slot.number()] : nullptr;
}

void Looks::Store(WindowIndex window, MemberIndex slot, uint64_t fingerprint, std::span<const SegmentTally> tallies) {
  std::vector<Look>& looks = windows_[window];
  if (slot.number() >= looks.size()) looks.resize(slot.number() + 1);
  Look& look = looks[slot.number()];
  look.fingerprint = fingerprint;
  std::vector<SegmentTally> list(tallies.begin(), tallies.end());
  for (SegmentTally& tally : list) tally.anon_shared = 0;
  if (look.known && look.tallies->first == list) return;
  const auto shared = shared_.try_emplace(std::move(list), 0).first;
  ++shared->second;
  Drop(look);
  look.tallies = shared;
  look.known = true;
}

void Looks::Drop(Look& look) {
  if (!look.known) return;
  if (--look.tallies->second == 0) shared_.erase(look.tallies);
  look.known = false;
}

void Looks::Retain(WindowIndex window, std::span<const MemberIndex> slots) {
  const auto found = windows_.find(window);
  if (found == windows_.end()) return;
  std::vector<bool> stays(found->second.size());
  for (const MemberIndex slot : slots) {
    if (slot.number() < stays.size()) stays[slot.number()] = true;
  }
  for (MemberIndex slot; slot.number() < stays.size(); ++slot) {
    Look& look = found->second[slot.number()];
    if (!look.known || stays[slot.number()]) continue;
    Drop(look);
    look.fingerprint = 0;
  }
  if (slots.empty()) windows_.erase(found);
}

size_t Looks::Count(WindowIndex window) const {
  const std::span<const Look> looks = At(window);
  return static_cast<size_t>(std::count_if(looks.begin(), looks.end(), [](const Look& look) { return look.known; }));
}

void Looks::Clear() {
  windows_ = decltype(windows_)();
  shared_.clear();
  charge_.Set(0);
}

void Looks::AddAnonPages(std::vector<uint64_t>& pages) const {
  for (const auto& [window, looks] : windows_) {
    if (looks.size() > pages.size()) pages.resize(looks.size());
    for (size_t slot = 0; slot < looks.size(); ++slot) {
      if (!looks[slot].known) continue;
      for (const SegmentTally& tally : looks[slot].tallies->first) pages[slot] += tally.anon;
    }
  }
}

std::vector<WindowIndex> Looks::Windows() const {
  std::vector<WindowIndex> windows;
  windows.reserve(windows_.size());
  for (const auto& [window, looks] : windows_) windows.push_back(window);
  return windows;
}

size_t Looks::MemoryBytes() const {
  constexpr size_t kListNode = 2 * sizeof(void*) + sizeof(uint64_t);
  constexpr size_t kTreeNode = 4 * sizeof(void*);
  size_t bytes = windows_.bucket_count() * sizeof(void*);
  for (const auto& [window, looks] : windows_) {
    bytes += kListNode + sizeof(std::vector<Look>) + looks.capacity() * sizeof(Look);
  }
  for (const auto& [tallies, uses] : shared_) {
    bytes += kTreeNode + sizeof(Shared::value_type) + tallies.capacity() * sizeof(SegmentTally);
  }
  return bytes;
}

}  // namespace cow::memory
