#include "collectors/writers/break_joiner.h"

#include <algorithm>

namespace cow::writers {
namespace {

auto PlaceOf(const Fault& fault) { return std::pair(fault.pid, fault.page); }
auto OrderOf(const Fault& fault) { return std::tuple(fault.pid, fault.page, fault.time_ns); }

}  // namespace

Attributed JoinSums::AllAttributed() const {
  Attributed all;
  for (const auto& [key, each] : attributed) {
    all.pages += each.pages;
    all.records += each.records;
  }
  return all;
}

uint64_t JoinSums::AllFresh() const {
  uint64_t all = 0;
  for (const auto& [key, count] : fresh) all += count;
  return all;
}

std::array<uint64_t, kFreshKinds> JoinSums::FreshByKind() const {
  std::array<uint64_t, kFreshKinds> kinds{};
  for (const auto& [key, count] : fresh) kinds.at(static_cast<size_t>(key.second)) += count;
  return kinds;
}

BreakJoiner::BreakJoiner(size_t pages_per_window, Describe describe)
    : pages_per_window_(pages_per_window), describe_(std::move(describe)) {}

void BreakJoiner::Sort() {
  const auto by_place = [](const Record& a, const Record& b) { return OrderOf(a.fault) < OrderOf(b.fault); };
  const auto middle = records_.begin() + static_cast<std::ptrdiff_t>(sorted_);
  std::sort(middle, records_.end(), by_place);
  std::inplace_merge(records_.begin(), middle, records_.end(), by_place);
  sorted_ = records_.size();
}

// A window that a look did not visit held no page then.
uint64_t BreakJoiner::ReadAt(const Look& look, PageNumber page) const {
  const auto window = look.windows.find(page.Window(pages_per_window_));
  return window == look.windows.end() ? look.end_ns : window->second;
}

BreakJoiner::Record* BreakJoiner::Find(pid_t pid, PageNumber page) {
  const auto place = std::pair(pid, page);
  const auto begin = std::lower_bound(records_.begin(), records_.end(), place,
                                      [](const Record& record, const auto& p) { return PlaceOf(record.fault) < p; });
  const uint64_t since = ReadAt(previous_, page);
  Record* earlier = nullptr;
  for (auto record = begin; record != records_.end() && PlaceOf(record->fault) == place; ++record) {
    if (record->state == State::kAttributed || IsOutside(record->fault)) continue;
    if (record->fault.time_ns >= since) return &*record;
    earlier = &*record;
  }
  return earlier;
}

// The page that differs may be any member's.
BreakJoiner::Record* BreakJoiner::FindOfAny(const Break& found) {
  if (Record* record = Find(found.pid, found.page)) return record;
  if (found.side_known) return nullptr;
  for (const pid_t member : latest_.members) {
    if (Record* record = Find(member, found.page)) return record;
  }
  return nullptr;
}

void BreakJoiner::Apply(const Look& look) {
  previous_ = std::move(latest_);
  latest_ = look;
  for (const pid_t member : look.members) last_seen_[member] = look.begin_ns;
  if (!first_) {
    first_ = look;
    return;
  }
  Sort();
  for (const Break& found : look.breaks) {
    sums_.broken_pages += found.pages;
    Record* record = FindOfAny(found);
    if (record == nullptr) {
      sums_.unexplained_pages += found.pages;
      continue;
    }
    record->state = State::kAttributed;
    const Side side = record->fault.pid == look.root ? Side::kParent : Side::kChild;
    Attributed& sum = sums_.attributed[{record->fault.writer, side, found.mapping}];
    sum.pages += found.pages;
    ++sum.records;
    ++sums_.records;
  }
}

// True if the record is older than the first look at its window.
bool BreakJoiner::IsOutside(const Fault& fault) const {
  if (!first_) return true;
  const auto first = first_->windows.find(fault.page.Window(pages_per_window_));
  return fault.time_ns < (first == first_->windows.end() ? first_->begin_ns : first->second);
}

bool BreakJoiner::IsJudged(const Fault& fault) const {
  const auto seen = last_seen_.find(fault.pid);
  if (seen == last_seen_.end()) return false;
  if (seen->second == latest_.begin_ns) return latest_.windows.contains(fault.page.Window(pages_per_window_));
  return fault.time_ns < seen->second;
}

void BreakJoiner::Decide(const Record& record) {
  const Fault& fault = record.fault;
  const auto seen = last_seen_.find(fault.pid);
  const bool lives = seen != last_seen_.end() && seen->second == latest_.begin_ns;
  const bool is_late = fault.time_ns >= (lives ? ReadAt(latest_, fault.page) : latest_.end_ns);
  if (IsOutside(fault) || is_late) return;
  ++sums_.records;
  if (record.state == State::kRepeated) {
    ++sums_.repeated_records;
  } else {
    ++sums_.fresh[{fault.writer, IsJudged(fault) ? describe_(fault) : Fresh::kUnjudged}];
  }
}

void BreakJoiner::Close(uint64_t time_ns) {
  Sort();
  std::optional<std::pair<pid_t, PageNumber>> broken;  // the place of the record before, if its page was broken
  size_t kept = 0;
  for (const Record& each : records_) {
    Record record = each;
    if (record.state == State::kOpen && broken == PlaceOf(record.fault)) record.state = State::kRepeated;
    if (record.state != State::kOpen) broken = PlaceOf(record.fault);
    if (record.fault.time_ns >= time_ns) {
      records_[kept++] = record;
    } else if (record.state != State::kAttributed) {
      Decide(record);
    }
  }
  records_.resize(kept);
  sorted_ = kept;
}

}  // namespace cow::writers
