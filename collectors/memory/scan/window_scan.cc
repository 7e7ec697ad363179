#include "collectors/memory/scan/window_scan.h"

#include <algorithm>
#include <cstring>

namespace cow::memory {
namespace {

// How often an unstable window is read as a whole before its changing pages are left for the next pass.
constexpr int kAttempts = 3;

bool AnyFirstLook(std::span<const Reading> readings) {
  return std::any_of(readings.begin(), readings.end(), [](const Reading& reading) { return reading.IsNewChild(); });
}

// True if mapcounts are needed: a frame may have more mappings than the readings show.
bool NeedsCounts(std::span<const Reading> readings) {
  return AnyFirstLook(readings) ||
         std::any_of(readings.begin(), readings.end(), [](const Reading& reading) { return reading.remapped; });
}

}  // namespace

WindowScan::WindowScan(const Host& host, FrameReader& frames, ScanCounters& counters)
    : host_(host),
      pages_(host.geometry.PagesPerWindow()),
      frames_(frames),
      counters_(counters),
      zero_window_(pages_),
      again_(pages_) {}

WindowScan::Outcome WindowScan::Scan(Family& family, ScanWalk& walk, std::span<ScanPart> parts, WindowIndex window,
                                     const MayGoOn& may_go_on) {
  family_ = &family;
  walk_ = &walk;
  parts_ = parts;
  window_ = window;
  may_go_on_ = &may_go_on;
  if (entries_.size() < parts.size() * pages_) {
    entries_.resize(parts.size() * pages_);
    remembered_.resize(parts.size() * pages_);
  }
  read_at_ = std::chrono::system_clock::now();
  const auto stands = [](const ScanPart& part) { return !part.due && part.reader.alive(); };
  if (walk.options.signals_at && std::any_of(parts.begin(), parts.end(), stands)) {
    read_at_ = std::min(read_at_, *walk.options.signals_at);
  }
  if (!walk.read_at) walk.read_at = read_at_;
  if (!ReadDue()) return Outcome::kInterrupted;
  if (IsUnchanged()) {
    ++counters_.windows_unchanged;
    return Outcome::kUnchanged;
  }
  judgement_.Clear();
  if (!CompareAndCommit()) return Outcome::kInterrupted;
  if (walk.all) {
    for (const ScanPart& part : parts_) part.member->reads.looked_until = window.Next();
  }
  return Outcome::kCommitted;
}

bool WindowScan::ReadDue() {
  const ScanPart* first = nullptr;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!(*may_go_on_)()) return false;
    ScanPart& part = parts_[i];
    part.entries = zero_window_.data();
    part.huge_pages = 0;
    part.read = part.due;
    part.maps_window = part.due && part.reader.Maps(window_);
    if (!part.maps_window) continue;
    PageEntry* own = entries_.data() + i * pages_;
    // Most members have the first one's entries. They are read into one buffer, which stays in the L1 cache.
    part.entries = first == nullptr ? own : again_.data();
    part.huge_pages = part.reader.ReadWindow(window_, {part.entries, pages_});
    part.maps_window = part.reader.alive();
    if (first != nullptr && std::memcmp(first->entries, part.entries, pages_ * sizeof(PageEntry)) == 0) {
      part.entries = first->entries;
    } else if (first != nullptr) {
      part.entries = std::copy_n(part.entries, pages_, own) - pages_;
    }
    if (!part.maps_window) continue;
    if (walk_->keep_looks) {
      const bool as_first = first != nullptr && part.entries == first->entries;
      if (!as_first) part.entries_fingerprint = FingerprintOf({part.entries, pages_});
      part.TakeFingerprint(host_.geometry, window_, as_first ? first->entries_fingerprint : part.entries_fingerprint);
    }
    if (first == nullptr) first = &part;
  }
  return true;
}

// True if every member read matches its last look and none has left.
bool WindowScan::IsUnchanged() const {
  if (!walk_->keep_looks || walk_->options.show_all || walk_->ksm_in_use || walk_->swapped_in) return false;
  const std::span<const Looks::Look> looks = family_->looks.At(window_);
  size_t here = 0;
  for (const ScanPart& part : parts_) {
    const MemberIndex slot = part.member->slot;
    const bool has_look = slot.number() < looks.size() && looks[slot.number()].known;
    if (part.maps_window && (!has_look || looks[slot.number()].fingerprint != part.fingerprint)) return false;
    const bool stands = !part.due && part.reader.alive() && has_look;
    if (part.maps_window || stands) ++here;
  }
  return here == family_->looks.Count(window_) && !family_->ledger.MustCompare(window_);
}

void WindowScan::BuildReadings() {
  readings_.clear();
  part_of_reading_.clear();
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    ScanPart& part = parts_[i];
    if (!part.reader.alive()) continue;
    const Member& member = *part.member;
    const Mapping* mapping = part.FirstMapping(host_.geometry, window_);
    const bool begins_with_hugetlb =
        mapping != nullptr && mapping->hugetlb && mapping->vma.start <= window_.Address(host_.geometry.huge_page_bytes);
    readings_.push_back({.slot = member.slot,
                         .entries = part.entries,
                         .first_look = member.reads.first_look && window_ >= member.reads.looked_until,
                         .parent = member.parent,
                         .is_root = &member == family_->root(),
                         .hugetlb = begins_with_hugetlb,
                         .recalled = part.read ? BitmapView() : part.recalled.View(),
                         .remapped = member.reads.remapped});
    part_of_reading_.push_back(i);
  }
}

// Changes nothing before the window is committed to the ledger.
bool WindowScan::CompareAndCommit() {
  facts_.Clear();
  if (!walk_->all) {
    BuildReadings();
    sharing_.members.assign(readings_.size(), {WindowBitmap(pages_), 0, 0, false});
    sharing_.exposure_pages = 0;
    sharing_.unresolved_pages = 0;
    return true;
  }
  unsettled_ = false;
  WindowBitmap unstable(pages_);
  for (int attempt = 1;; ++attempt) {
    RecallUnread();
    if (!Compare()) return false;
    facts_.Clear();
    if (!comparison_.questions.empty()) frames_.Read(comparison_.questions, NeedsCounts(readings_), facts_);
    if (comparison_.witnesses.empty()) break;
    ++counters_.windows_read_again;
    unstable.Reset(pages_);
    if (WitnessesAgree(unstable)) break;
    if (!(*may_go_on_)()) return false;
    if (attempt == kAttempts) {
      comparison_.unstable = unstable;
      counters_.unstable_pages += unstable.Count();
      unsettled_ = true;
      break;
    }
    if (!ReadDue()) return false;
  }
  if (!(*may_go_on_)()) return false;
  if (AnyMigrating()) unsettled_ = true;
  walk_->unsettled = walk_->unsettled || unsettled_;
  if (AnyFirstLook(readings_) && comparison_.attention.Any()) TakeForkEvidence();
  if (comparison_.marks_decide) FindIdleMembers();
  family_->ledger.Commit(window_, readings_, facts_, comparison_, judgement_, sharing_);
  return true;
}

// Compares the window with its record until no verdict rests on a recalled entry. False if interrupted.
bool WindowScan::Compare() {
  const Circumstances circumstances{walk_->ksm_in_use, walk_->swapped_in, host_.kernel.mapped_once};
  BuildReadings();
  family_->ledger.Compare(window_, readings_, circumstances, comparison_);
  while (!comparison_.doubts.empty()) {
    if (!(*may_go_on_)()) return false;
    if (ReadDoubts()) {
      family_->ledger.UpdateDoubts(window_, readings_, comparison_);
    } else {
      BuildReadings();
      family_->ledger.Compare(window_, readings_, circumstances, comparison_);
    }
  }
  return true;
}

// Fills in the recalled entries of members that are not read.
void WindowScan::RecallUnread() {
  const ScanPart* alike = nullptr;
  for (size_t i = 0; i < parts_.size(); ++i) {
    ScanPart& part = parts_[i];
    if (part.due || !part.reader.alive()) continue;
    part.read = false;
    part.recalled.Fill(pages_);
    const MemberIndex slot = part.member->slot;
    if (alike != nullptr && family_->ledger.RecallsAlike(window_, alike->member->slot, slot)) {
      part.entries = alike->entries;
      continue;
    }
    part.entries = remembered_.data() + i * pages_;
    family_->ledger.Recall(window_, slot, {part.entries, pages_});
    alike = &part;
  }
}

// Reads the recalled entries that a verdict would rest on. True if all of them match, so the comparison holds.
bool WindowScan::ReadDoubts() {
  bool same_entries = true;
  bool same_frames = true;
  for (const Doubt& doubt : comparison_.doubts) {
    const size_t index = part_of_reading_[doubt.reading];
    ScanPart& part = parts_[index];
    const size_t pages = doubt.last - doubt.first + 1;
    const std::span<PageEntry> confirmed(again_.data(), pages);
    if (!part.reader.ReadPages(window_.FirstPage(pages_) + doubt.first, confirmed)) {
      same_entries = false;  // it ended
      continue;
    }
    for (size_t page = doubt.first; page <= doubt.last; ++page) part.recalled.Clear(page);
    if (std::equal(confirmed.begin(), confirmed.end(), part.entries + doubt.first)) continue;
    same_entries = false;
    PageEntry* own = entries_.data() + index * pages_;
    if (part.entries != own) std::copy_n(part.entries, pages_, own);
    part.entries = own;
    for (size_t i = 0; i < pages; ++i) {
      PageEntry& entry = own[doubt.first + i];
      const Pfn remembered = AnonFrame(entry, host_.zero_frame);
      if (remembered != Pfn::None() && remembered != AnonFrame(confirmed[i], host_.zero_frame)) same_frames = false;
      entry = confirmed[i];
    }
  }
  if (!same_frames) ReadUnread();
  return same_entries;
}

// Reads the whole window of every member that is not read yet.
void WindowScan::ReadUnread() {
  for (size_t i = 0; i < parts_.size(); ++i) {
    ScanPart& part = parts_[i];
    if (part.read || !part.reader.alive()) continue;
    part.entries = entries_.data() + i * pages_;
    part.huge_pages = part.reader.ReadWholeWindow(window_, {part.entries, pages_});
    part.read = true;
  }
}

// Reads the witnesses again. Marks pages that differ as unstable.
bool WindowScan::WitnessesAgree(BitmapSpan unstable) {
  bool agree = true;
  for (const uint32_t witness : comparison_.witnesses) {
    if (!(*may_go_on_)()) return false;
    ScanPart& part = parts_[part_of_reading_[witness]];
    if (!part.maps_window) continue;
    part.reader.ReadWindow(window_, again_);
    if (!part.reader.alive()) return false;
    comparison_.attention.ForEach([&](size_t page) {
      if (again_[page] == part.entries[page]) return;
      unstable.Set(page);
      agree = false;
    });
  }
  return agree;
}

bool WindowScan::AnyMigrating() const {
  if (!comparison_.any_away) return false;
  bool any = false;
  for (size_t r = 0; r < readings_.size(); ++r) {
    comparison_.members[r].away.ForEach([&](size_t page) { any = any || !readings_[r].entries[page].IsRealSwap(); });
  }
  return any;
}

// Call it after the marks were read, so that no earlier fork is missed. A fork clears marks under the lock that a read
// of the page table takes; the kernel counts and reports it microseconds later. The pause covers this delay.
void WindowScan::TakeForkEvidence() {
  if (host_.forks == nullptr || !family_->aliases.empty()) return;
  SleepBriefly(counters_);
  for (size_t r = 0; r < readings_.size(); ++r) {
    Reading& reading = readings_[r];
    if (!reading.first_look || reading.is_root || reading.parent == Verdict::kNobody) continue;
    const Member* parent = family_->FindSlot(reading.parent);
    if (parent == nullptr || parent->life.ended) continue;
    reading.forks = host_.forks->Of(*PartOf(r).member->process, *parent->process);
  }
}

// Finds the members that have not forked since the previous scan. Call it after the marks were read.
void WindowScan::FindIdleMembers() {
  if (host_.forks == nullptr || !family_->aliases.empty()) return;
  SleepBriefly(counters_);
  for (size_t r = 0; r < readings_.size(); ++r) {
    const Member& member = *PartOf(r).member;
    readings_[r].idle = member.reads.scanned_at && host_.forks->IsIdleSince(*member.process, *member.reads.scanned_at);
  }
}

}  // namespace cow::memory
