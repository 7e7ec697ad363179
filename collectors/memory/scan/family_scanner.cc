#include "collectors/memory/scan/family_scanner.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/scan/due.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/smaps.h"

namespace cow::memory {
namespace {

using Clock = std::chrono::steady_clock;

// How often a window whose pages change under the reads is read as a whole before they are left for the next pass.
constexpr int kAttempts = 3;
// Passes between two attempts at a process that is too large.
constexpr uint32_t kMaxPause = 64;
// smaps_rollup holds the target's mmap lock while it walks: only processes up to this size are asked for it where no
// collector sets another limit.
constexpr uint64_t kMaxSmapsBytes = uint64_t{512} << 20;

// Whether pages of the family may have come back from swap since its last pass: the host's counter moved, and a member
// waited for a page or has another amount of memory in swap.
bool SwappedIn(const Host& host, const Family& family) {
  // Before its first pass the host's counter is compared with that at boot.
  const uint64_t before = family.host ? family.host->swapped_in_pages : 0;
  if (host.vmstat && host.vmstat->swapped_in_pages == before) return false;
  return std::any_of(family.members.begin(), family.members.end(), [](const auto& member) {
    const ChangeSignals now = ChangeSignals::Of(*member->process);
    if (member->first_look) return now.major_faults != 0;
    return !member->read_at || member->read_at->major_faults != now.major_faults ||
           member->read_at->swap_bytes != now.swap_bytes;
  });
}

bool AnyFirstLook(std::span<const Reading> readings) {
  return std::any_of(readings.begin(), readings.end(),
                     [](const Reading& reading) { return reading.first_look && !reading.is_root; });
}

// A page whose frame is mapped more often than its readings account for is judged otherwise.
bool NeedsCounts(std::span<const Reading> readings) {
  return AnyFirstLook(readings) ||
         std::any_of(readings.begin(), readings.end(), [](const Reading& reading) { return reading.remapped; });
}

FamilyView BeginView(const Host& host, const Family& family) {
  FamilyView view;
  view.family = &family;
  view.alone = family.members.size() == 1;
  view.geometry = host.geometry;
  view.scan_known = host.capabilities.pagemap_scan;
  view.frames_known = host.capabilities.frames;
  view.mapcounts_known = host.capabilities.page_mapcounts;
  return view;
}

// The part of the mappings that says how a window's entries are counted.
uint64_t KindNumber(const Mapping& mapping) {
  return static_cast<uint64_t>(mapping.kind) << 3U | (mapping.hugetlb ? 4U : 0U) | (mapping.vma.shared ? 2U : 0U) |
         (mapping.IsPrivateFile() ? 1U : 0U);
}

}  // namespace

FamilyScanner::FamilyScanner(const Host& host, DeviceTypes& devices)
    : host_(host),
      pages_(host.geometry.PagesPerWindow()),
      frames_(host.root, host.kernel.words, pages_),
      devices_(devices),
      zero_window_(pages_, 0),
      again_(pages_, 0) {}

ScanCounters FamilyScanner::counters() const {
  ScanCounters counters = counters_;
  counters.frame_words = frames_.frames_read();
  counters.frame_reads = frames_.reads();
  return counters;
}

bool FamilyScanner::Scan(Family& family, const PassOptions& options, ScanObserver& observer) {
  if (family.members.empty()) {
    if (family.scan != nullptr) walk_ = family.scan->walk;
    DropScan(family);
    ShowMoved(family, family.owed, observer);
    ShowEnded(family, observer);
    return true;
  }
  if (family.scan == nullptr) Begin(family, options);
  FamilyScan& scan = *family.scan;
  GoOn(scan);
  const bool shown = OpenMembers(scan, observer) && WalkWindows(family, scan, observer) && ReadSmaps(scan, observer);
  if (!shown) {
    Rest(scan);
    return false;
  }
  FamilyView view = BeginView(host_, family);
  view.read_at = walk_.read_at.value_or(std::chrono::system_clock::now());
  view.alone = walk_.alone;
  for (Part& part : parts_) {
    if (observer.MustStop()) {
      Rest(scan);
      return false;
    }
    if (part.reader.alive() && (!walk_.all || !host_.capabilities.frames)) {
      if (!walk_.all) ProbeLonely(part);
      part.reader.ScanUnwalked(view.unwalked);
      if (!walk_.all) CountUnwalked(part, view.unwalked);
    }
    if (!part.due) ++view.skipped;
  }
  CollectSmaps(family, scan);
  view.smaps = smaps_;
  for (const auto& member : family.members) {
    if (!member->waits) view.modes[static_cast<size_t>(member->mode)] = true;
  }
  if (walk_.all && !FinishLedger(family, scan.end, observer)) {
    Rest(scan);
    return false;
  }
  view.moved = &scan.end.moved;
  if (walk_.needs.member_sums) AddUpMembers(family);
  view.member_sums = member_sums_;
  PassCompleted(family, options);
  observer.OnFamily(view);
  family.scan.reset();
  return true;
}

void FamilyScanner::ShowEnded(Family& family, ScanObserver& observer) {
  const MovedSharing nothing;
  FamilyView view = BeginView(host_, family);
  view.moved = &nothing;
  view.read_at = std::chrono::system_clock::now();
  observer.OnFamily(view);
}

// Opens a member's page table and reads its mappings; false if that can't be done, and why is in `unread`. A member
// whose mappings are too many is tried again after a pause, which grows from one pass to kMaxPause.
bool FamilyScanner::OpenMember(Member& member, std::vector<procfs::Pagemap>& borrowed,
                               const procfs::Pagemap*& pagemap) {
  if (member.passes_to_skip != 0) {
    --member.passes_to_skip;
    return false;
  }
  member.unread = member.process->unread;
  if (member.unread) return false;
  if (member.pagemap) {
    pagemap = &*member.pagemap;
  } else if (auto opened = procfs::Pagemap::Open(host_.root, member.process->memory)) {
    borrowed.push_back(std::move(*opened));
    pagemap = &borrowed.back();
  } else {
    member.unread = opened.error();
    return false;
  }
  auto vmas = procfs::ReadMaps(host_.root, member.process->memory);
  if (!vmas) {
    member.unread = vmas.error();
    if (vmas.error().kind == ErrorKind::kTooLarge) {
      member.passes_to_skip = member.next_pause;
      member.next_pause = std::min(member.next_pause * 2, kMaxPause);
    }
    return false;
  }
  member.next_pause = 1;
  auto mappings = ClassifyMappings(std::move(*vmas), member.process->memory, devices_);
  // Until a pass is completed, pages are compared with those of the look before.
  if (member.mappings && !AreAlike(*member.mappings, mappings)) member.remapped = true;
  member.mappings = std::make_shared<const std::vector<Mapping>>(std::move(mappings));
  return true;
}

void FamilyScanner::Begin(Family& family, const PassOptions& options) {
  family.scan = std::make_shared<FamilyScan>();
  FamilyScan& scan = *family.scan;
  ScanWalk& walk = scan.walk;
  walk.all = MustWalk(host_, family);
  walk.everybody = !walk.all || options.show_all || AllAreDue(host_, family, options.full_every);
  family.must_read_all = false;
  walk.swapped_in = SwappedIn(host_, family);
  walk.ksm_in_use = UsesKsm(host_, family);
  family.used_ksm = walk.ksm_in_use;
  walk.show_all = options.show_all;
  walk.count_breaks = options.count_breaks;
  walk.needs = options.needs;
  walk.alone = family.members.size() == 1;
  walk.host = host_.vmstat;
  // A process without relatives is shown as a whole.
  walk.keep_looks = walk.all && !walk.alone;
  if (!walk.keep_looks) family.looks.Clear();
  family.membership_changed = false;
  scan.parts.reserve(family.members.size());
  scan.borrowed.reserve(family.members.size());
  for (const auto& member : family.members) {
    member->waits = false;
    member->read_again = false;
    scan.members.push_back(member.get());
  }
}

// Takes over a scan that rested. Members that ended meanwhile are not read any more.
void FamilyScanner::GoOn(FamilyScan& scan) {
  walk_ = scan.walk;
  parts_ = std::move(scan.parts);
  borrowed_ = std::move(scan.borrowed);
  frames_.SetMayBeMerged(walk_.ksm_in_use);
  for (Part& part : parts_) {
    part.reader.CountIn(counters_);
    if (part.member->ended) part.reader.End();
  }
  if (entries_.size() < scan.members.size() * pages_) {
    entries_.resize(scan.members.size() * pages_);
    remembered_.resize(scan.members.size() * pages_);
  }
}

void FamilyScanner::Rest(FamilyScan& scan) {
  scan.walk = walk_;
  scan.parts = std::move(parts_);
  scan.borrowed = std::move(borrowed_);
}

// Opens the members' page tables and finds what is to be read of them, which takes long where memory is sparse.
bool FamilyScanner::OpenMembers(FamilyScan& scan, ScanObserver& observer) {
  Mode best = Mode::kFull;
  if (!host_.capabilities.frames) {
    best = Mode::kNoFrames;
  } else if (!host_.capabilities.kpageflags || !host_.capabilities.kpagecount) {
    best = Mode::kNoKpage;
  }
  const SteadyTime now = Clock::now();
  for (; scan.opened < scan.members.size(); ++scan.opened) {
    Member& member = *scan.members[scan.opened];
    if (scan.opened != 0 && !observer.Continue()) return false;
    if (member.ended) continue;
    if (!walk_.everybody && !IsDue(member, now) && RecordsCanStandFor(member)) {
      parts_.emplace_back(member, ReaderOf(member, *member.pagemap), false);
      continue;
    }
    member.mode = best;
    const procfs::Pagemap* pagemap = nullptr;
    if (OpenMember(member, borrowed_, pagemap)) {
      parts_.emplace_back(member, ReaderOf(member, *pagemap), true);
      if (host_.forks != nullptr) parts_.back().began = host_.forks->Now();
      parts_.back().reader.Plan(walk_.all);
    } else if (member.unread->kind == ErrorKind::kDenied) {
      member.mode = Mode::kNone;
    }
  }
  return true;
}

PageTableReader FamilyScanner::ReaderOf(Member& member, const procfs::Pagemap& pagemap) {
  return {host_, counters_, pagemap, {member.process, member.mappings, &member.huge_windows, &member.unread}};
}

// Windows that may hold something though no member that is read maps them any more.
std::vector<uint64_t> FamilyScanner::KnownWindows(const Family& family) const {
  std::vector<uint64_t> windows = family.ledger.Windows();
  const std::vector<uint64_t> looked_at = family.looks.Windows();
  windows.insert(windows.end(), looked_at.begin(), looked_at.end());
  SortUnique(windows);
  return windows;
}

bool FamilyScanner::WalkWindows(Family& family, FamilyScan& scan, ScanObserver& observer) {
  if (!scan.walking && walk_.all) {
    std::vector<Slot> standing_for;
    for (const Part& part : parts_) {
      if (!part.due) standing_for.push_back(part.member->slot);
    }
    family.ledger.BeginPass(standing_for);
    scan.known = KnownWindows(family);
  }
  scan.walking = true;
  while (true) {
    uint64_t window = scan.next_known < scan.known.size() ? scan.known[scan.next_known] : ~uint64_t{0};
    for (const Part& part : parts_) window = std::min(window, part.reader.NextWindow().value_or(~uint64_t{0}));
    if (window == ~uint64_t{0}) return true;
    if (!VisitWindow(family, window, observer)) return false;
    if (scan.next_known < scan.known.size() && scan.known[scan.next_known] == window) ++scan.next_known;
    for (Part& part : parts_) part.reader.Pass(window);
  }
}

bool FamilyScanner::VisitWindow(Family& family, uint64_t window, ScanObserver& observer) {
  if (!observer.Continue()) return false;
  window_read_at_ = std::chrono::system_clock::now();
  if (!walk_.read_at) walk_.read_at = window_read_at_;
  if (!ReadDue(window, observer)) return false;
  if (IsUnchanged(family, window)) {
    ++counters_.windows_unchanged;
    observer.OnUnchanged(family, window, window_read_at_);
  } else {
    judgement_.Clear();
    if (!SettleWindow(family, window, observer)) return false;
    for (const Part& part : parts_) {
      if (walk_.all) part.member->looked_until = window + 1;
    }
    Account(family, judgement_);
    Show(family, window, observer);
  }
  return true;
}

bool FamilyScanner::ReadDue(uint64_t window, const ScanObserver& observer) {
  const Part* first = nullptr;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (observer.MustStop()) return false;
    Part& part = parts_[i];
    part.entries = zero_window_.data();
    part.huge_pages = 0;
    part.read = part.due;
    part.maps_window = part.due && part.reader.Maps(window);
    if (!part.maps_window) continue;
    uint64_t* own = entries_.data() + i * pages_;
    // Most read as the first does: these all go through one buffer, which stays in the nearest cache.
    part.entries = first == nullptr ? own : again_.data();
    part.huge_pages = part.reader.ReadWindow(window, {part.entries, pages_});
    part.maps_window = part.reader.alive();
    if (first != nullptr && std::memcmp(first->entries, part.entries, pages_ * sizeof(uint64_t)) == 0) {
      part.entries = first->entries;
    } else if (first != nullptr) {
      part.entries = std::copy_n(part.entries, pages_, own) - pages_;
    }
    if (!part.maps_window) continue;
    if (walk_.keep_looks) TakeFingerprint(part, first, window);
    if (first == nullptr) first = &part;
  }
  return true;
}

// `first`: the window's first part, whose entries this one shares if they are the same.
void FamilyScanner::TakeFingerprint(Part& part, const Part* first, uint64_t window) {
  const bool as_first = first != nullptr && part.entries == first->entries;
  if (!as_first) part.entries_fingerprint = FingerprintOf({part.entries, pages_});
  part.fingerprint = as_first ? first->entries_fingerprint : part.entries_fingerprint;
  part.fingerprint = Fingerprint(part, window);
}

// Of all that the window's tallies depend on; `part` has that of its entries.
uint64_t FamilyScanner::Fingerprint(Part& part, uint64_t window) {
  uint64_t fingerprint = MixFingerprint(part.fingerprint, part.huge_pages);
  ForEachMapping(part, window, [&](const Mapping& mapping, uint32_t first, uint32_t pages) {
    fingerprint = MixFingerprint(fingerprint, uint64_t{first} << 32U | pages);
    fingerprint = MixFingerprint(fingerprint, KindNumber(mapping));
  });
  return fingerprint;
}

// Everybody who was read shows what he showed at the look before, and nobody left.
bool FamilyScanner::IsUnchanged(const Family& family, uint64_t window) const {
  if (!walk_.keep_looks || walk_.show_all || walk_.ksm_in_use || walk_.swapped_in) return false;
  const std::span<const Looks::Look> looks = family.looks.At(window);
  size_t here = 0;
  for (const Part& part : parts_) {
    const Slot slot = part.member->slot;
    const bool has_look = slot < looks.size() && looks[slot].known;
    if (part.maps_window && (!has_look || looks[slot].fingerprint != part.fingerprint)) return false;
    const bool stands = !part.due && part.reader.alive() && has_look;
    if (part.maps_window || stands) ++here;
  }
  return here == family.looks.Count(window) && !family.ledger.MustCompare(window);
}

void FamilyScanner::SkipPassedMappings(Part& part, uint64_t window) const {
  const uint64_t begin = window * host_.geometry.huge_page_bytes;
  const std::vector<Mapping>& mappings = *part.member->mappings;
  while (part.next_mapping < mappings.size() && mappings[part.next_mapping].vma.end <= begin) ++part.next_mapping;
}

bool FamilyScanner::BeginsWithHugetlb(Part& part, uint64_t window) const {
  SkipPassedMappings(part, window);
  const std::vector<Mapping>& mappings = *part.member->mappings;
  return part.next_mapping < mappings.size() && mappings[part.next_mapping].hugetlb &&
         mappings[part.next_mapping].vma.start <= window * host_.geometry.huge_page_bytes;
}

// Calls visit(mapping, first page within the window, pages) for the member's mappings there, in ascending order.
template <class Visit>
void FamilyScanner::ForEachMapping(Part& part, uint64_t window, Visit&& visit) const {
  const uint64_t begin = window * pages_;
  const uint64_t end = begin + pages_;
  const std::vector<Mapping>& mappings = *part.member->mappings;
  SkipPassedMappings(part, window);
  for (size_t m = part.next_mapping; m < mappings.size(); ++m) {
    const uint64_t first = std::max(begin, host_.geometry.PageOf(mappings[m].vma.start));
    const uint64_t last = std::min(end, host_.geometry.PageOf(mappings[m].vma.end));
    if (first >= end) break;
    visit(mappings[m], static_cast<uint32_t>(first - begin), static_cast<uint32_t>(last - first));
  }
}

// Fills in, for the members that are not read, what the ledger remembers of the window.
void FamilyScanner::Recall(const Family& family, uint64_t window) {
  const Part* alike = nullptr;
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (part.due || !part.reader.alive()) continue;
    part.read = false;
    part.recalled.assign((pages_ + 63) / 64, ~uint64_t{0});
    const Slot slot = part.member->slot;
    if (alike != nullptr && family.ledger.RecallsAlike(window, alike->member->slot, slot)) {
      part.entries = alike->entries;
      continue;
    }
    part.entries = remembered_.data() + i * pages_;
    family.ledger.Recall(window, slot, {part.entries, pages_});
    alike = &part;
  }
}

// Reads what a verdict would take on trust. True if every entry reads as it is remembered: the examination holds.
bool FamilyScanner::ReadDoubts(uint64_t window) {
  bool same_entries = true;
  bool same_frames = true;
  for (const Doubt& doubt : examination_.doubts) {
    const size_t index = part_of_reading_[doubt.reading];
    Part& part = parts_[index];
    const size_t pages = doubt.last - doubt.first + 1;
    const std::span<uint64_t> confirmed(again_.data(), pages);
    if (!part.reader.ReadPages(window * pages_ + doubt.first, confirmed)) {
      same_entries = false;  // it ended
      continue;
    }
    for (size_t page = doubt.first; page <= doubt.last; ++page) ClearBit(part.recalled, page);
    if (std::equal(confirmed.begin(), confirmed.end(), part.entries + doubt.first)) continue;
    same_entries = false;
    uint64_t* own = entries_.data() + index * pages_;
    if (part.entries != own) std::copy_n(part.entries, pages_, own);
    part.entries = own;
    for (size_t i = 0; i < pages; ++i) {
      uint64_t& entry = own[doubt.first + i];
      const uint64_t remembered = AnonFrame(entry, host_.zero_frame);
      if (remembered != kNoFrame && remembered != AnonFrame(confirmed[i], host_.zero_frame)) same_frames = false;
      entry = confirmed[i];
    }
  }
  if (!same_frames) ReadUnread(window);
  return same_entries;
}

// The whole window of everybody who is not read yet.
void FamilyScanner::ReadUnread(uint64_t window) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (part.read || !part.reader.alive()) continue;
    part.entries = entries_.data() + i * pages_;
    part.huge_pages = part.reader.ReadWholeWindow(window, {part.entries, pages_});
    part.read = true;
  }
}

// Compares the window with its record, until nothing that a verdict rests on is taken on trust.
bool FamilyScanner::Examine(const Family& family, uint64_t window, const ScanObserver& observer) {
  const Circumstances circumstances{walk_.ksm_in_use, walk_.swapped_in, host_.kernel.mapped_once};
  BuildReadings(family, window);
  family.ledger.Compare(window, readings_, circumstances, examination_);
  while (!examination_.doubts.empty()) {
    if (observer.MustStop()) return false;
    if (ReadDoubts(window)) {
      family.ledger.UpdateDoubts(window, readings_, examination_);
    } else {
      BuildReadings(family, window);
      family.ledger.Compare(window, readings_, circumstances, examination_);
    }
  }
  return true;
}

void FamilyScanner::BuildReadings(const Family& family, uint64_t window) {
  readings_.clear();
  part_of_reading_.clear();
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (!part.reader.alive()) continue;
    const Member& member = *part.member;
    const bool first_look = member.first_look && window >= member.looked_until;
    readings_.push_back({.slot = member.slot,
                         .entries = part.entries,
                         .first_look = first_look,
                         .parent = member.parent,
                         .is_root = &member == family.root(),
                         .hugetlb = BeginsWithHugetlb(part, window),
                         .recalled = part.read ? nullptr : part.recalled.data(),
                         .remapped = member.remapped});
    part_of_reading_.push_back(i);
  }
}

bool FamilyScanner::WitnessesAgree(uint64_t window, std::span<uint64_t> unstable, const ScanObserver& observer) {
  bool agree = true;
  for (const uint32_t witness : examination_.witnesses) {
    if (observer.MustStop()) return false;
    Part& part = parts_[part_of_reading_[witness]];
    if (!part.maps_window) continue;
    part.reader.ReadWindow(window, again_);
    if (!part.reader.alive()) return false;
    ForEachBit(examination_.attention, [&](size_t page) {
      if (again_[page] == part.entries[page]) return;
      SetBit(unstable, page);
      agree = false;
    });
  }
  return agree;
}

// Pages are away, and not in swap.
bool FamilyScanner::AnyMigrating() const {
  if (!examination_.any_away) return false;
  bool any = false;
  for (size_t r = 0; r < readings_.size(); ++r) {
    ForEachBit(examination_.members[r].away,
               [&](size_t page) { any = any || !procfs::IsRealSwap(readings_[r].entries[page]); });
  }
  return any;
}

// After the marks were read, so that no fork until then is missed. A fork clears the marks while it holds the lock that
// reading the page table takes, and is counted and reported within microseconds from there: the pause covers these.
void FamilyScanner::TakeForkEvidence(const Family& family) {
  if (host_.forks == nullptr || !family.aliases.empty()) return;
  SleepBriefly(counters_);
  for (size_t r = 0; r < readings_.size(); ++r) {
    Reading& reading = readings_[r];
    if (!reading.first_look || reading.is_root || reading.parent == Verdict::kNobody) continue;
    const Member* parent = family.FindSlot(reading.parent);
    if (parent == nullptr || parent->ended) continue;
    const Member& child = *parts_[part_of_reading_[r]].member;
    reading.forks = host_.forks->Of(*child.process, *parent->process);
  }
}

// Finds the members that forked nobody since the previous scan. Call it after reading the marks, as for first looks.
void FamilyScanner::FindIdleMembers(const Family& family) {
  if (host_.forks == nullptr || !family.aliases.empty()) return;
  SleepBriefly(counters_);
  for (size_t r = 0; r < readings_.size(); ++r) {
    const Member& member = *parts_[part_of_reading_[r]].member;
    readings_[r].idle = member.scanned_at && host_.forks->IsIdleSince(*member.process, *member.scanned_at);
  }
}

// Until the ledger settles the window, nothing has changed.
bool FamilyScanner::SettleWindow(Family& family, uint64_t window, const ScanObserver& observer) {
  facts_.Clear();
  if (!walk_.all) {
    BuildReadings(family, window);
    sharing_.members.assign(readings_.size(), {std::vector<uint64_t>((pages_ + 63) / 64, 0), 0, 0, false});
    sharing_.exposure_pages = 0;
    sharing_.unresolved_pages = 0;
    return true;
  }
  window_unsettled_ = false;
  std::vector<uint64_t> unstable((pages_ + 63) / 64);
  for (int attempt = 1;; ++attempt) {
    Recall(family, window);
    if (!Examine(family, window, observer)) return false;
    facts_.Clear();
    if (!examination_.questions.empty()) frames_.Read(examination_.questions, NeedsCounts(readings_), facts_);
    if (examination_.witnesses.empty()) break;
    ++counters_.windows_read_again;
    std::fill(unstable.begin(), unstable.end(), 0);
    if (WitnessesAgree(window, unstable, observer)) break;
    if (observer.MustStop()) return false;
    if (attempt == kAttempts) {
      examination_.unstable = unstable;
      counters_.unstable_pages += CountBits(unstable);
      window_unsettled_ = true;
      break;
    }
    if (!ReadDue(window, observer)) return false;
  }
  if (observer.MustStop()) return false;
  if (AnyMigrating()) window_unsettled_ = true;
  walk_.unsettled = walk_.unsettled || window_unsettled_;
  if (AnyFirstLook(readings_) && AnyBit(examination_.attention)) TakeForkEvidence(family);
  if (examination_.marks_decide) FindIdleMembers(family);
  family.ledger.Commit(window, readings_, facts_, examination_, judgement_, sharing_);
  return true;
}

void FamilyScanner::Account(const Family& family, const Judgement& judgement) {
  const std::vector<Verdict>& verdicts = judgement.verdicts;
  const auto counts = [](const Verdict& verdict) {
    return verdict.kind == Verdict::Kind::kBreak && verdict.side_known;
  };
  for (size_t i = 0; i < verdicts.size();) {
    // Several who broke one page have the heirs in common, which are gone through once for all of them.
    const uint32_t first_heir = verdicts[i].heirs_begin;
    const uint32_t heirs_end = verdicts[i].heirs_end;
    const size_t begin = i;
    while (i < verdicts.size() && verdicts[i].heirs_begin == first_heir && verdicts[i].heirs_end == heirs_end) ++i;
    for (size_t v = begin; v < i; ++v) {
      Member* breaker = counts(verdicts[v]) ? family.FindSlot(verdicts[v].slot) : nullptr;
      if (breaker == nullptr) continue;
      if (walk_.count_breaks) breaker->break_pages += verdicts[v].pages;
      if (breaker->forked) breaker->life_break_pages += verdicts[v].pages;
      if (breaker->slot >= broken_by_.size()) broken_by_.resize(breaker->slot + size_t{1}, 0);
      broken_by_[breaker->slot] += verdicts[v].pages;
    }
    for (uint32_t h = first_heir; h < heirs_end; ++h) {
      Member* heir = family.FindSlot(judgement.heirs[h]);
      if (heir != nullptr && heir->parent < broken_by_.size()) heir->life_break_pages += broken_by_[heir->parent];
    }
    for (size_t v = begin; v < i; ++v) {
      if (verdicts[v].slot < broken_by_.size()) broken_by_[verdicts[v].slot] = 0;
    }
  }
}

SegmentTally FamilyScanner::TallySegment(const Mapping& mapping, std::span<const uint64_t> entries) const {
  // No frame has the mask's number.
  const uint64_t zero_frame = host_.zero_frame == kNoFrame ? procfs::kPagemapFrameMask : host_.zero_frame;
  uint64_t anon = 0;
  uint64_t anon_multiple = 0;
  uint64_t zero_base = 0;
  uint64_t cache_once = 0;
  uint64_t file_more = 0;
  for (const uint64_t entry : entries) {  // shifts and sums only, which every processor does for several at once
    const uint64_t present = entry >> 63;
    const uint64_t file = present & (entry >> 61);
    const uint64_t once = (entry >> 56) & 1;
    const uint64_t zero = (present & ~file) & ((FrameOf(entry ^ zero_frame) - 1) >> 63);
    anon += present - file - zero;
    anon_multiple += (present - file - zero) & ~once;
    zero_base += zero;
    cache_once += file & once;
    file_more += file & ~once;
  }
  SegmentTally tally;
  tally.anon = static_cast<uint32_t>(anon);
  tally.anon_multiple = static_cast<uint32_t>(anon_multiple);
  tally.zero_base = static_cast<uint32_t>(zero_base);
  tally.cache_once = static_cast<uint32_t>(cache_once);
  if (mapping.IsAnonymous()) {
    // Only the huge zero page is marked as a file's in anonymous memory.
    tally.zero_huge = static_cast<uint32_t>(file_more + cache_once);
    tally.cache_once = 0;
  } else {
    tally.cache_more = static_cast<uint32_t>(file_more);
  }
  if (tally.Present() != entries.size()) {
    for (const uint64_t entry : entries) tally.swapped += IsSwapEntry(entry) && procfs::IsRealSwap(entry) ? 1U : 0U;
  }
  return tally;
}

// Adds what the member shows in the window: counted from its entries, or as it was at the last look.
void FamilyScanner::ShowMember(Family& family, uint64_t window, size_t reading) {
  Part& part = parts_[part_of_reading_[reading]];
  Member& member = *part.member;
  const bool fresh = part.read;
  const std::span<const SegmentTally> known = family.looks.Tallies(window, member.slot);
  const bool as_known = walk_.keep_looks && !known.empty() &&
                        (!fresh || family.looks.Fingerprint(window, member.slot) == part.fingerprint);
  const std::span<const uint64_t> entries(part.entries, pages_);
  tallies_.clear();
  size_t number = 0;
  ForEachMapping(part, window, [&](const Mapping& mapping, uint32_t first, uint32_t pages) {
    // Read in passing between two others; what is not walked is counted as a whole.
    if (!walk_.all && mapping.IsAnonymous()) return;
    Segment segment{&mapping, first, pages, {}};
    const bool whole = pages == pages_;
    const bool as_first = shown_entries_ != nullptr && fresh && whole && segments_.front().pages == pages_ &&
                          segments_.front().mapping->IsAnonymous() == mapping.IsAnonymous() &&
                          std::memcmp(shown_entries_, part.entries, pages_ * sizeof(uint64_t)) == 0;
    if (as_known) {
      segment.tally = known[number];
    } else if (as_first) {
      segment.tally = segments_.front().tally;
    } else {
      segment.tally = TallySegment(mapping, entries.subspan(first, pages));
    }
    ++number;
    if (fresh) segment.tally.huge_pmd = whole && !mapping.hugetlb ? static_cast<uint32_t>(part.huge_pages) : 0;
    const WindowSharing::Member& sharing = sharing_.members[reading];
    segment.tally.anon_shared =
        static_cast<uint32_t>(whole ? sharing.shared_pages : CountBits(sharing.shared, first, pages));
    tallies_.push_back(segment.tally);
    const SegmentTally& tally = segment.tally;
    part.walked_anon_pages += mapping.hugetlb ? 0 : tally.anon;
    part.walked_hugetlb_pages += mapping.hugetlb ? tally.anon + tally.cache_once + tally.cache_more : 0;
    part.walked_swap_pages += mapping.vma.shared ? 0 : tally.swapped;
    segments_.push_back(segment);
  });
  MemberWindow shown;
  shown.member = &member;
  shown.ksm_pages = sharing_.members[reading].ksm_pages;
  shown.maybe_ksm_pages = sharing_.members[reading].maybe_ksm_pages;
  part.walked_ksm_pages += shown.ksm_pages + shown.maybe_ksm_pages;
  if (fresh) {
    const bool was_huge = member.huge_windows.erase(window) != 0;
    if (part.huge_pages == pages_) {
      member.huge_windows.insert(window);
    } else if (was_huge) {
      shown.split = member.slot < broke_.size() && broke_[member.slot];
    }
  }
  if (shown_.empty() && fresh) shown_entries_ = part.entries;
  shown_.push_back(shown);
}

void FamilyScanner::Show(Family& family, uint64_t window, ScanObserver& observer) {
  segments_.clear();
  shown_.clear();
  first_segment_.clear();
  shown_slots_.clear();
  shown_entries_ = nullptr;
  broke_.clear();
  for (const Verdict& verdict : judgement_.verdicts) {
    if (verdict.kind != Verdict::Kind::kBreak) continue;
    if (verdict.slot >= broke_.size()) broke_.resize(verdict.slot + size_t{1});
    broke_[verdict.slot] = true;
  }
  for (size_t r = 0; r < readings_.size(); ++r) {
    Part& part = parts_[part_of_reading_[r]];
    const Slot slot = part.member->slot;
    if (part.due ? !part.maps_window : !family.looks.Has(window, slot)) continue;
    if (part.read && !part.due && walk_.keep_looks) {
      part.fingerprint = FingerprintOf({part.entries, pages_});
      part.fingerprint = Fingerprint(part, window);
    }
    first_segment_.push_back(segments_.size());
    ShowMember(family, window, r);
    shown_slots_.push_back(slot);
    if (!walk_.keep_looks || !part.read) continue;
    const bool settled = !window_unsettled_ && !sharing_.members[r].has_unmatched;
    family.looks.Store(window, slot, settled ? part.fingerprint : 0, tallies_);
  }
  family.looks.Retain(window, shown_slots_);
  first_segment_.push_back(segments_.size());
  for (size_t i = 0; i < shown_.size(); ++i) {
    shown_[i].segments = std::span(segments_).subspan(first_segment_[i], first_segment_[i + 1] - first_segment_[i]);
  }
  WindowView view;
  view.family = &family;
  view.window = window;
  view.geometry = host_.geometry;
  view.read_at = window_read_at_;
  view.members = shown_;
  view.readings = readings_;
  view.sharing = &sharing_;
  view.judgement = &judgement_;
  view.frames_known = host_.capabilities.frames;
  view.mapcounts_known = host_.capabilities.page_mapcounts;
  view.alone = walk_.alone;
  observer.OnWindow(view);
}

bool FamilyScanner::AnyShared(std::span<const uint64_t> entries) {
  std::vector<uint64_t> candidates;
  for (const uint64_t entry : entries) {
    const uint64_t frame = AnonFrame(entry, host_.zero_frame);
    if (frame != kNoFrame && !IsMappedOnce(entry)) candidates.push_back(frame);
  }
  if (candidates.empty()) return false;
  FrameFacts facts;
  frames_.Read(candidates, true, facts);
  return std::any_of(candidates.begin(), candidates.end(), [&facts](uint64_t frame) {
    return !facts.IsKsm(frame) && !facts.IsCountedAsFolio(frame) && facts.MapCount(frame).value_or(2) > 1;
  });
}

// One window of a process without relatives: if it is shared all the same, the process is walked from now on.
void FamilyScanner::ProbeLonely(Part& part) {
  Member& member = *part.member;
  const Mapping* chosen = nullptr;
  for (const Mapping& mapping : *member.mappings) {
    if (!mapping.IsAnonymous() || mapping.hugetlb || !mapping.vma.writable || mapping.kind == MappingKind::kStack)
      continue;
    if (chosen == nullptr || mapping.kind == MappingKind::kHeap) chosen = &mapping;
  }
  if (chosen == nullptr) return;
  const uint64_t first = host_.geometry.PageOf(chosen->vma.start);
  const uint64_t pages = std::min<uint64_t>(pages_, chosen->vma.SizeBytes() / host_.geometry.page_bytes);
  const std::span<uint64_t> entries(again_.data(), pages);
  frames_.SetMayBeMerged(MayHaveMerged(host_, *member.process));
  if (part.reader.ReadPages(first, entries) && AnyShared(entries)) member.shares_unseen = true;
}

// Of a process without relatives: the kernel's sums, less what was walked.
void FamilyScanner::CountUnwalked(const Part& part, Unwalked& unwalked) const {
  const auto rest = [this](const std::optional<uint64_t>& all, uint64_t walked_pages) {
    const uint64_t walked = walked_pages * host_.geometry.page_bytes;
    return all.value_or(0) > walked ? *all - walked : 0;
  };
  const procfs::Status& status = part.member->process->status;
  unwalked.anon_bytes += rest(status.rss_anon_bytes, part.walked_anon_pages);
  unwalked.swap_bytes += rest(status.swap_bytes, part.walked_swap_pages);
  unwalked.hugetlb_bytes += rest(status.hugetlb_bytes, part.walked_hugetlb_pages);
}

// smaps_rollup asks for less than pagemap does (ptrace read permission, no CAP_DAC_READ_SEARCH): it is what is left to
// know of a process whose page table is denied.
bool FamilyScanner::ReadSmaps(FamilyScan& scan, ScanObserver& observer) {
  while (scan.smaps.size() < scan.members.size()) {
    Member& member = *scan.members[scan.smaps.size()];
    const bool wanted = member.mode == Mode::kNone || walk_.needs.smaps_rollup_max_bytes;
    if (wanted && !observer.Continue()) return false;
    scan.smaps.push_back(wanted && !member.ended ? ReadSmapsOf(member) : SmapsReading());
  }
  return true;
}

// In the order of the members, some of whom may have joined since.
void FamilyScanner::CollectSmaps(const Family& family, const FamilyScan& scan) {
  smaps_.assign(family.members.size(), SmapsReading());
  for (size_t i = 0; i < family.members.size(); ++i) {
    const auto read = std::find(scan.members.begin(), scan.members.end(), family.members[i].get());
    if (read != scan.members.end()) smaps_[i] = scan.smaps[static_cast<size_t>(read - scan.members.begin())];
  }
}

SmapsReading FamilyScanner::ReadSmapsOf(Member& member) const {
  const Process& process = *member.process;
  const bool denied = member.mode == Mode::kNone;
  if (process.SizeBytes() > walk_.needs.smaps_rollup_max_bytes.value_or(kMaxSmapsBytes)) {
    return {SmapsReading::State::kTooLarge, {}};
  }
  const auto sums = procfs::ReadSmapsRollup(host_.root, process.memory);
  if (!sums) {
    const bool gone = sums.error().kind == ErrorKind::kGone;
    return {gone ? SmapsReading::State::kGone : SmapsReading::State::kUnreadable, {}};
  }
  if (denied) member.mode = Mode::kNoPagemap;
  return {SmapsReading::State::kRead, *sums};
}

// Null where the member has no part.
std::vector<FamilyScanner::Part*> FamilyScanner::PartsBySlot() {
  std::vector<Part*> by_slot;
  for (Part& part : parts_) {
    const Slot slot = part.member->slot;
    if (slot >= by_slot.size()) by_slot.resize(slot + size_t{1}, nullptr);
    by_slot[slot] = &part;
  }
  return by_slot;
}

// At the end of a pass, where the records and the latest looks are of now. What is not walked is told by the kernel.
void FamilyScanner::AddUpMembers(const Family& family) {
  std::vector<uint64_t> anon;
  std::vector<uint64_t> shared;
  family.looks.AddAnonPages(anon);
  if (walk_.all) family.ledger.AddSharedPages(shared);
  const auto of_slot = [](const std::vector<uint64_t>& pages, Slot slot) {
    return slot < pages.size() ? pages[slot] : 0;
  };
  member_sums_.assign(family.members.size(), {});
  const std::vector<Part*> parts = PartsBySlot();
  for (size_t i = 0; i < family.members.size(); ++i) {
    const Member& member = *family.members[i];
    const procfs::Status& status = member.process->status;
    MemberSums& sums = member_sums_[i];
    sums.shared_pages = of_slot(shared, member.slot);
    sums.anon_pages = host_.geometry.PageOf(status.rss_anon_bytes.value_or(0) + status.hugetlb_bytes.value_or(0));
    if (walk_.keep_looks) sums.anon_pages = of_slot(anon, member.slot);
    const Part* part = member.slot < parts.size() ? parts[member.slot] : nullptr;
    if (part == nullptr) continue;
    sums.ksm_pages = part->walked_ksm_pages;
    if (walk_.all && !walk_.keep_looks) sums.anon_pages = part->walked_anon_pages + part->walked_hugetlb_pages;
  }
}

bool FamilyScanner::FinishLedger(Family& family, PassEnd& end, ScanObserver& observer) {
  constexpr size_t kManyVerdicts = 4096;
  bool may_go_on = observer.Continue();
  while (may_go_on && end.stage != PassEnd::Stage::kDone) {
    const bool ended = EndStage(family, end);
    if (ended || end.judgement.verdicts.size() > kManyVerdicts) ShowMoved(family, end.judgement, observer);
    if (ended) {
      end.steps.reset();
      end.stage = static_cast<PassEnd::Stage>(static_cast<int>(end.stage) + 1);
    } else {
      may_go_on = observer.Continue();
    }
  }
  if (!may_go_on) return false;
  family.must_read_all = end.moved.must_read_all;
  if (end.moved.unmatched_pages == 0) family.members.front()->shares_unseen = false;
  return true;
}

void FamilyScanner::ShowMoved(Family& family, Judgement& judgement, ScanObserver& observer) {
  if (judgement.verdicts.empty()) return;
  Account(family, judgement);
  observer.OnMoved(family, judgement);
  judgement.Clear();
}

bool FamilyScanner::EndStage(Family& family, PassEnd& end) {
  switch (end.stage) {
    case PassEnd::Stage::kFindDoubts:
      if (!end.steps) end.steps = family.ledger.FindMovedInDoubt(end.doubts);
      return !end.steps->Next();
    case PassEnd::Stage::kConfirm:
      return ConfirmSome(family, end);
    case PassEnd::Stage::kFindFrames:
      if (!end.steps) end.steps = family.ledger.FindFramesToMatch(walk_.ksm_in_use, end.frames);
      return !end.steps->Next();
    case PassEnd::Stage::kAskKernel:
      return AskForSome(end);
    case PassEnd::Stage::kSettle:
      if (!end.steps) {
        const bool all_read = std::all_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.due; });
        end.judgement = std::exchange(family.owed, {});
        end.steps = family.ledger.FinishPass(end.facts, end.judgement, end.moved, all_read);
      }
      return !end.steps->Next();
    case PassEnd::Stage::kDone:
      break;
  }
  return true;
}

bool FamilyScanner::ConfirmSome(Family& family, PassEnd& end) {
  constexpr size_t kPagesPerStep = 512;  // each is a system call
  const std::vector<Part*> parts = PartsBySlot();
  for (size_t i = 0; i < kPagesPerStep && end.confirmed < end.doubts.size(); ++i, ++end.confirmed) {
    const MovedPage& doubt = end.doubts[end.confirmed];
    Part* part = doubt.slot < parts.size() ? parts[doubt.slot] : nullptr;
    std::array<uint64_t, 1> entry{};
    if (part != nullptr && part->reader.alive() && part->reader.ReadPages(doubt.page, entry))
      family.ledger.ConfirmMoved(doubt, entry.front());
  }
  return end.confirmed == end.doubts.size();
}

bool FamilyScanner::AskForSome(PassEnd& end) {
  constexpr size_t kFramesPerStep = 2048;
  const size_t count = std::min(kFramesPerStep, end.frames.size() - end.asked);
  if (count != 0) frames_.ReadMore(std::span(end.frames).subspan(end.asked, count), end.facts);
  end.asked += count;
  return end.asked == end.frames.size();
}

void FamilyScanner::PassCompleted(Family& family, const PassOptions& options) const {
  const SteadyTime now = Clock::now();
  family.host = walk_.host;
  for (const Part& part : parts_) {
    if (!part.due) continue;
    Member& member = *part.member;
    member.read_at.reset();
    if (host_.forks != nullptr) member.scanned_at = part.began;
    // KSM merges, and a migration ends, without any signal of the process.
    if (!walk_.ksm_in_use && !walk_.unsettled && part.reader.alive() && !member.read_again)
      member.read_at = part.signals;
    member.full_due = NextFullRead(family, member, options.full_every, now);
    if (part.reader.alive()) member.remapped = false;
  }
}

}  // namespace cow::memory
