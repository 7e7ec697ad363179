#include "collectors/explain/portrait.h"

#include <algorithm>
#include <initializer_list>
#include <numeric>

namespace cow::explain {
namespace {

uint64_t Sum(const PageSums& sums, std::initializer_list<PageState> states) {
  uint64_t pages = 0;
  for (const PageState state : states) pages += sums.Of(state);
  return pages;
}

}  // namespace

uint64_t PageSums::Resident() const {
  return Copied() + Original() + Private() +
         Sum(*this, {PageState::kShared, PageState::kUnknown, PageState::kZero, PageState::kMerged, PageState::kFile});
}

uint64_t PageSums::Copied() const { return Of(PageState::kCopied) + Of(PageState::kFileCopied); }

uint64_t PageSums::Original() const { return Of(PageState::kOriginal) + Of(PageState::kFileOriginal); }

uint64_t PageSums::Private() const {
  return Sum(*this, {PageState::kUnshared, PageState::kUnattributed, PageState::kPrivate});
}

uint64_t MappingPortrait::StakePages() const {
  const uint64_t anonymous =
      sums.Copied() + Sum(sums, {PageState::kShared, PageState::kOriginal, PageState::kUnattributed});
  return anonymous + (mapping.vma.writable ? sums.Of(PageState::kFileOriginal) : 0);
}

bool PageRun::ContinuesWith(const PageRun& next, size_t page_bytes) const {
  return start + pages * page_bytes == next.start && state == next.state && huge == next.huge &&
         shared_with == next.shared_with;
}

const MemberPortrait* Portrait::Find(pid_t of) const {
  const auto found =
      std::find_if(members.begin(), members.end(), [of](const auto& member) { return member.pid == of; });
  return found == members.end() ? nullptr : &*found;
}

uint64_t Portrait::BrokenPages() const {
  return std::accumulate(members.begin(), members.end(), uint64_t{0},
                         [](uint64_t sum, const MemberPortrait& member) { return sum + member.broken_pages; });
}

}  // namespace cow::explain
