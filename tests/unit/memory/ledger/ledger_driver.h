// Plays the scanner for a Ledger: takes hand-made page tables and returns the verdicts of a pass as text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "collectors/memory/ledger/ledger.h"
#include "collectors/procfs/kpage.h"

namespace cow::memory {

// Tests write members, pages and frames as plain numbers; the driver makes them what the ledger takes.
using Slot = uint32_t;
inline constexpr Slot kNobody = ~Slot{0};
inline constexpr uint64_t kTestZeroFrame = 7;

// The result of one pass, summed over its windows.
struct PassResult {
  std::vector<std::string> verdicts;  // sorted, one per verdict
  std::map<Slot, uint64_t> breaks;    // of known side
  uint64_t unknown_breaks = 0;
  std::map<UnshareCause, uint64_t> unshared;
  std::map<Slot, uint64_t> unattributed;
  std::map<Slot, uint64_t> shared;  // at the same address
  std::map<Slot, uint64_t> ksm;
  int64_t shared_pages = 0;    // per process, moved pages included
  int64_t exposure_pages = 0;  // moved pages included
  uint64_t unresolved_pages = 0;
  uint64_t unmatched_pages = 0;
  uint64_t maybe_ksm_pages = 0;
  bool must_read_all = false;
  std::set<uint64_t> questions;
  std::set<Slot> witnesses;

  uint64_t Breaks() const {
    uint64_t sum = unknown_breaks;
    for (const auto& [slot, pages] : breaks) sum += pages;
    return sum;
  }
};

class LedgerDriver {
 public:
  struct Member {
    Slot slot = 0;
    Slot parent = kNobody;
    bool first_look = false;
    bool read = true;                      // false: the pass cannot read it
    std::map<uint64_t, PageEntry> tables;  // by page; bit 56 is added if the frame is mapped once
    bool hugetlb = false;                  // all its mappings are hugetlb
    ForkEvidence forks{};                  // of its first look
    bool idle = true;                      // it has forked no child since its last look
    bool remapped = false;                 // its mappings changed
  };

  explicit LedgerDriver(size_t pages_per_window = 512, uint64_t ledger_limit_bytes = ~uint64_t{0})
      : budget{ledger_limit_bytes, 0},
        ledger(pages_per_window, Pfn(kTestZeroFrame), &budget),
        pages_(pages_per_window) {}

  // The first member is the root.
  Member& Add(Slot slot, Slot parent = kNobody, bool first_look = false) {
    members_.push_back(
        std::make_unique<Member>(Member{slot, parent, first_look, true, {}, false, {true, true, true}, true}));
    for (const auto& member : members_) {
      if (member->slot == parent) member->forks.idle = member->idle = false;
      if (member->parent == parent && member->slot != slot) member->forks.parent_idle = false;
    }
    return *members_.back();
  }
  // Adds a child with a copy of its parent's tables.
  Member& Fork(Slot parent, Slot slot) {
    const std::map<uint64_t, PageEntry> tables = At(parent).tables;
    Member& child = Add(slot, parent, true);
    child.tables = tables;
    return child;
  }
  void Exit(Slot slot) {
    ledger.Depart(MemberIndex(slot));
    std::erase_if(members_, [slot](const auto& member) { return member->slot == slot; });
    for (const auto& member : members_) {
      if (member->parent == slot) member->parent = kNobody;
    }
  }
  Member& At(Slot slot) {
    return **std::find_if(members_.begin(), members_.end(), [slot](const auto& m) { return m->slot == slot; });
  }
  void ReverseReadingOrder() { reversed_ = !reversed_; }

  void Map(Slot slot, uint64_t page, uint64_t frame) { MapEntry(slot, page, procfs::kPagemapPresent | frame); }
  void MapRun(Slot slot, uint64_t page, uint64_t frame, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) Map(slot, page + i, frame + i);
  }
  void MapEntry(Slot slot, uint64_t page, uint64_t entry) { At(slot).tables[page] = PageEntry(entry); }
  void SwapOut(Slot slot, uint64_t page, uint64_t offset) {
    MapEntry(slot, page, procfs::kPagemapSwapped | offset << 5 | 1);
  }
  void Drop(Slot slot, uint64_t page) { At(slot).tables.erase(page); }
  void Move(Slot slot, uint64_t from, uint64_t to) {
    At(slot).tables[to] = At(slot).tables.at(from);
    Drop(slot, from);
  }

  // Sets the kpageflags of a frame. Without a call they are 0, so the mark is unknown.
  void MarkExclusive(uint64_t frame, bool exclusive) {
    flags_[frame] = procfs::kFrameAnon | (exclusive ? procfs::kFrameAnonExclusive : 0);
  }
  // A page of a large folio that is not exclusive.
  void MarkInFolio(uint64_t frame) { flags_[frame] = procfs::kFrameAnon | procfs::kFrameCompoundTail; }
  // Makes the frame part of a large folio.
  void MarkLarge(uint64_t frame) { flags_[frame] |= procfs::kFrameCompoundTail | procfs::kFrameThp; }
  void MarkKsm(uint64_t frame) { flags_[frame] = procfs::kFrameAnon | procfs::kFrameKsm; }

  std::map<uint64_t, uint64_t> unseen_mappers;  // mappings of a frame by processes that are not members
  std::set<uint64_t> unstable;                  // pages that keep changing while they are read
  bool ksm_in_use = false;
  bool swapped_in = false;
  bool mapped_once_known = true;
  bool all_read = true;
  FrameWords frame_words;  // which of the kernel's words are reliable
  LedgerBudget budget;
  Ledger ledger;

  PassResult Pass() {
    PassResult result;
    counts_ = unseen_mappers;
    std::set<WindowIndex> windows;
    ledger.BeginPass();
    for (const WindowIndex window : ledger.Windows()) windows.insert(window);
    for (const auto& member : members_) {
      for (const auto& [page, entry] : member->tables) {
        windows.insert(PageNumber(page).Window(pages_));
        if (AnonFrame(entry, Pfn(kTestZeroFrame)) != Pfn::None()) ++counts_[entry.Frame().number()];
      }
    }
    for (const WindowIndex window : windows) PassWindow(window, result);
    judgement_.Clear();
    MovedSharing moved;
    std::vector<Pfn> frames;
    ledger.FindFramesToMatch(ksm_in_use, frames).MakeAll();
    const FrameFacts facts = Answers(frames, true);
    ledger.FinishPass(facts, judgement_, moved, all_read).MakeAll();
    AddVerdicts(result);
    result.shared_pages += moved.shared_pages;
    result.exposure_pages += moved.exposure_pages;
    result.unmatched_pages = moved.unmatched_pages;
    result.must_read_all = moved.must_read_all;
    for (const auto& member : members_) {
      member->first_look = false;
      member->idle = true;
    }
    std::sort(result.verdicts.begin(), result.verdicts.end());
    return result;
  }

 private:
  void PassWindow(WindowIndex window, PassResult& result) {
    std::vector<std::vector<PageEntry>> entries;
    std::vector<Reading> readings;
    entries.reserve(members_.size());
    for (const auto& member : members_) {
      if (!member->read) continue;
      std::vector<PageEntry>& words = entries.emplace_back(pages_);
      const auto end = member->tables.lower_bound(window.EndPage(pages_).number());
      for (auto item = member->tables.lower_bound(window.FirstPage(pages_).number()); item != end; ++item) {
        const bool once = AnonFrame(item->second, Pfn(kTestZeroFrame)) != Pfn::None() &&
                          counts_.at(item->second.Frame().number()) == 1;
        words[item->first % pages_] = PageEntry(item->second.bits() | (once ? procfs::kPagemapMappedOnce : 0));
      }
      readings.push_back({MemberIndex(member->slot),
                          words.data(),
                          member->first_look,
                          MemberIndex(member->parent),
                          member == members_.front(),
                          member->hugetlb,
                          {},
                          member->forks,
                          member->idle,
                          member->remapped});
    }
    if (reversed_) std::reverse(readings.begin(), readings.end());
    ledger.Compare(window, readings, {ksm_in_use, swapped_in, mapped_once_known}, comparison_);
    for (const Pfn frame : comparison_.questions) result.questions.insert(frame.number());
    for (const uint32_t witness : comparison_.witnesses) result.witnesses.insert(NumberOf(readings[witness].slot));
    for (const uint64_t page : unstable) {
      if (PageNumber(page).Window(pages_) == window) comparison_.unstable.Set(page % pages_);
    }
    judgement_.Clear();
    WindowSharing sharing;
    ledger.Commit(window, readings, Answers(comparison_.questions, true), comparison_, judgement_, sharing);
    AddVerdicts(result);
    result.exposure_pages += static_cast<int64_t>(sharing.exposure_pages);
    result.unresolved_pages += sharing.unresolved_pages;
    for (size_t i = 0; i < readings.size(); ++i) {
      const uint64_t shared = sharing.members[i].shared.Count();
      result.shared_pages += static_cast<int64_t>(shared);
      if (shared != 0) result.shared[NumberOf(readings[i].slot)] += shared;
      result.maybe_ksm_pages += sharing.members[i].maybe_ksm_pages;
      if (sharing.members[i].ksm_pages != 0) result.ksm[NumberOf(readings[i].slot)] += sharing.members[i].ksm_pages;
    }
  }

  // Answers the frames asked about and no others.
  FrameFacts Answers(std::vector<Pfn> frames, bool with_counts) const {
    std::sort(frames.begin(), frames.end());
    frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
    std::vector<uint64_t> flags;
    std::vector<uint64_t> counts;
    for (const Pfn frame : frames) {
      const auto known = flags_.find(frame.number());
      flags.push_back(known == flags_.end() ? 0 : known->second);
      const auto count = counts_.find(frame.number());
      if (with_counts) counts.push_back(count == counts_.end() ? 0 : count->second);
    }
    FrameFacts facts;
    facts.Assign(std::move(frames), std::move(flags), std::move(counts), frame_words, ksm_in_use);
    return facts;
  }

  void AddVerdicts(PassResult& result) const {
    for (const Verdict& verdict : judgement_.verdicts) {
      const Slot slot = NumberOf(verdict.slot);
      std::string text;
      switch (verdict.kind) {
        case Verdict::Kind::kBreak:
          text = (verdict.side_known ? std::to_string(slot) : "unknown") + " broke ";
          (verdict.side_known ? result.breaks[slot] : result.unknown_breaks) += verdict.pages;
          break;
        case Verdict::Kind::kUnshared:
          text = std::to_string(slot) + " left alone by " + Name(verdict.cause) + " at ";
          result.unshared[verdict.cause] += verdict.pages;
          break;
        case Verdict::Kind::kUnattributed:
          text = std::to_string(slot) + " unattributed ";
          result.unattributed[slot] += verdict.pages;
          break;
      }
      text += std::to_string(verdict.page.number());
      if (verdict.pages != 1) text.append(" x").append(std::to_string(verdict.pages));
      std::string holders;
      for (const MemberIndex holder : judgement_.HoldersOf(verdict)) {
        if (NumberOf(holder) != slot) holders.append(" ").append(std::to_string(NumberOf(holder)));
      }
      if (!holders.empty()) text.append(", kept by").append(holders);
      result.verdicts.push_back(text);
    }
  }

  static Slot NumberOf(MemberIndex slot) { return static_cast<Slot>(slot.number()); }

  static std::string Name(UnshareCause cause) {
    switch (cause) {
      case UnshareCause::kExit:
        return "exit";
      case UnshareCause::kUnmap:
        return "unmap";
      case UnshareCause::kCollapse:
        return "collapse";
      case UnshareCause::kUnknown:
        break;
    }
    return "unknown";
  }

  size_t pages_;
  bool reversed_ = false;
  std::vector<std::unique_ptr<Member>> members_;
  std::map<uint64_t, uint64_t> flags_;
  std::map<uint64_t, uint64_t> counts_;
  Comparison comparison_;
  Judgement judgement_;
};

}  // namespace cow::memory
