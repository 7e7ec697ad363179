#include "collectors/memory/scan/member_sums.h"

#include <algorithm>

#include "collectors/memory/scan/due.h"
#include "collectors/procfs/smaps.h"

namespace cow::memory {
namespace {

// Limit if no collector sets one.
constexpr uint64_t kMaxSmapsBytes = uint64_t{512} << 20;

bool AnyShared(const Host& host, std::span<const PageEntry> entries, FrameReader& frames) {
  std::vector<Pfn> candidates;
  for (const PageEntry entry : entries) {
    const Pfn frame = AnonFrame(entry, host.zero_frame);
    if (frame != Pfn::None() && !entry.IsMappedOnce()) candidates.push_back(frame);
  }
  if (candidates.empty()) return false;
  FrameFacts facts;
  frames.Read(candidates, true, facts);
  return std::any_of(candidates.begin(), candidates.end(), [&facts](Pfn frame) {
    return !facts.IsKsm(frame) && !facts.IsCountedAsFolio(frame) && facts.MapCount(frame).value_or(2) > 1;
  });
}

}  // namespace

SmapsReading ReadSmapsOf(const Host& host, Member& member, std::optional<uint64_t> max_bytes) {
  const Process& process = *member.process;
  const bool denied = member.access.mode == Mode::kNone;
  if (process.SizeBytes() > max_bytes.value_or(kMaxSmapsBytes)) return {SmapsReading::State::kTooLarge, {}};
  const auto sums = procfs::ReadSmapsRollup(host.root, process.memory);
  if (!sums) {
    const bool gone = sums.error().kind == ErrorKind::kGone;
    return {gone ? SmapsReading::State::kGone : SmapsReading::State::kUnreadable, {}};
  }
  if (denied) member.access.mode = Mode::kNoPagemap;
  return {SmapsReading::State::kRead, *sums};
}

void ProbeLonely(const Host& host, ScanPart& part, FrameReader& frames) {
  Member& member = *part.member;
  const Mapping* chosen = nullptr;
  for (const Mapping& mapping : *member.access.mappings) {
    if (!mapping.IsAnonymous() || mapping.hugetlb || !mapping.vma.writable || mapping.kind == MappingKind::kStack)
      continue;
    if (chosen == nullptr || mapping.kind == MappingKind::kHeap) chosen = &mapping;
  }
  if (chosen == nullptr) return;
  const PageNumber first = host.geometry.PageOf(chosen->vma.start);
  const uint64_t pages =
      std::min<uint64_t>(host.geometry.PagesPerWindow(), chosen->vma.SizeBytes() / host.geometry.page_bytes);
  std::vector<PageEntry> entries(pages);
  frames.SetMayBeMerged(MayHaveMerged(host, *member.process));
  if (part.reader.ReadPages(first, entries) && AnyShared(host, entries, frames)) member.reads.shares_unseen = true;
}

void AddUnwalked(const procfs::PageGeometry& geometry, const ScanPart& part, Unwalked& unwalked) {
  const auto rest = [&geometry](const std::optional<uint64_t>& all, uint64_t walked_pages) {
    const uint64_t walked = walked_pages * geometry.page_bytes;
    return all.value_or(0) > walked ? *all - walked : 0;
  };
  const procfs::Status& status = part.member->process->status;
  unwalked.anon_bytes += rest(status.rss_anon_bytes, part.walked_anon_pages);
  unwalked.swap_bytes += rest(status.swap_bytes, part.walked_swap_pages);
  unwalked.hugetlb_bytes += rest(status.hugetlb_bytes, part.walked_hugetlb_pages);
}

void AddUpMembers(const Host& host, const Family& family, const ScanWalk& walk, std::span<ScanPart> parts,
                  std::vector<MemberSums>& member_sums) {
  std::vector<uint64_t> anon;
  std::vector<uint64_t> shared;
  family.looks.AddAnonPages(anon);
  if (walk.all) family.ledger.AddSharedPages(shared);
  const auto of_slot = [](const std::vector<uint64_t>& pages, MemberIndex slot) {
    return slot.number() < pages.size() ? pages[slot.number()] : 0;
  };
  member_sums.assign(family.members.size(), {});
  const std::vector<ScanPart*> by_slot = PartsBySlot(parts);
  for (size_t i = 0; i < family.members.size(); ++i) {
    const Member& member = *family.members[i];
    const procfs::Status& status = member.process->status;
    MemberSums& sums = member_sums[i];
    sums.shared_pages = of_slot(shared, member.slot);
    // Without looks, use the kernel's sums.
    sums.anon_pages = host.geometry.PagesOf(status.rss_anon_bytes.value_or(0) + status.hugetlb_bytes.value_or(0));
    if (walk.keep_looks) sums.anon_pages = of_slot(anon, member.slot);
    const ScanPart* part = member.slot.number() < by_slot.size() ? by_slot[member.slot.number()] : nullptr;
    if (part == nullptr) continue;
    sums.ksm_pages = part->walked_ksm_pages;
    if (walk.all && !walk.keep_looks) sums.anon_pages = part->walked_anon_pages + part->walked_hugetlb_pages;
  }
}

}  // namespace cow::memory
