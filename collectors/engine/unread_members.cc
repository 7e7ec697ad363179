#include "collectors/engine/unread_members.h"

#include <algorithm>
#include <optional>

namespace cow::collectors {

const UnreadMembers::Known* UnreadMembers::Find(memory::MemberIndex slot) const {
  const auto found =
      std::find_if(members_.begin(), members_.end(), [slot](const Known& known) { return known.slot == slot; });
  return found == members_.end() ? nullptr : &*found;
}

void UnreadMembers::Update(const memory::Family& family, const procfs::PageGeometry& geometry, bool alone_before) {
  if (family.members.size() < 2 && members_.empty()) return;
  std::vector<Known> now;
  now.reserve(family.members.size());
  for (const auto& member : family.members) {
    Known known;
    if (const Known* before = Find(member->slot); before != nullptr) known = *before;
    known.slot = member->slot;
    known.is_root = member.get() == family.root();
    const bool parent_lives = std::any_of(family.members.begin(), family.members.end(),
                                          [&member](const auto& each) { return each->slot == member->parent; });
    known.parent = parent_lives ? member->parent : family.members.front()->slot;
    known.fades = known.fades || (alone_before && known.is_root);
    const procfs::Status& status = member->process->status;
    const auto pages = [&geometry](std::optional<uint64_t> bytes) {
      return static_cast<int64_t>(geometry.PagesOf(bytes.value_or(0)));
    };
    known.all.anon_pages = pages(status.rss_anon_bytes) + pages(status.hugetlb_bytes);
    known.all.file_pages = pages(status.rss_file_bytes);
    known.all.shmem_pages = pages(status.rss_shmem_bytes);
    known.all.swapped_pages = pages(status.swap_bytes);
    now.push_back(known);
  }
  members_ = std::move(now);
}

void UnreadMembers::OnWindow(const memory::WindowReport& report) {
  if (members_.empty()) return;
  for (const memory::MemberWindow& shown : report.members) {
    const auto known = std::find_if(members_.begin(), members_.end(),
                                    [&shown](const Known& each) { return each.slot == shown.member->slot; });
    if (known == members_.end() || known->read) continue;
    for (const memory::Segment& segment : shown.segments) {
      const bool is_shmem = segment.mapping->kind == memory::MappingKind::kShmem;
      const int64_t cache = static_cast<int64_t>(segment.tally.cache_once) + segment.tally.cache_more;
      known->shown.anon_pages += segment.tally.anon;
      (is_shmem ? known->shown.shmem_pages : known->shown.file_pages) += cache;
      known->shown.swapped_pages += segment.tally.swapped;
      known->shown_present += segment.tally.Present();
    }
  }
}

void UnreadMembers::OnScanEnd(const memory::Family& family, bool alone) {
  if (alone) {
    members_.clear();
    return;
  }
  for (Known& known : members_) {
    const memory::Member* member = family.FindSlot(known.slot);
    if (member == nullptr || member->reads.waits) continue;
    known.read = true;
    known.fades = false;
  }
}

std::vector<UnreadMember> UnreadMembers::List() const {
  std::vector<UnreadMember> unread;
  for (const Known& known : members_) {
    if (known.read || known.fades) continue;
    const auto rest = [&known](int64_t UnreadMember::*pages) {
      return std::max<int64_t>(known.all.*pages - known.shown.*pages, 0);
    };
    UnreadMember& member = unread.emplace_back();
    member.is_root = known.is_root;
    member.anon_pages = rest(&UnreadMember::anon_pages);
    member.file_pages = rest(&UnreadMember::file_pages);
    member.shmem_pages = rest(&UnreadMember::shmem_pages);
    member.swapped_pages = rest(&UnreadMember::swapped_pages);
    const Known* parent = known.is_root ? nullptr : Find(known.parent);
    if (parent != nullptr) member.shared_pages = std::min(member.anon_pages, parent->all.anon_pages);
  }
  return unread;
}

double UnreadMembers::FadingShare(uint64_t fading_pages) const {
  const auto fading = std::find_if(members_.begin(), members_.end(), [](const Known& known) { return known.fades; });
  if (fading == members_.end() || fading_pages == 0) return 0;
  return std::max(1 - static_cast<double>(fading->shown_present) / static_cast<double>(fading_pages), 0.0);
}

}  // namespace cow::collectors
