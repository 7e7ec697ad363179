// A random fork tree that knows every physical page, and the ledger's verdicts to compare with. A source of choices
// decides each step, so that a test can repeat it and a fuzzer can steer it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/memory/ledger/ledger_driver.h"

namespace cow::memory {

class LedgerModel {
 public:
  // Returns a number below `limit`.
  using Below = std::function<uint64_t(uint64_t limit)>;

  LedgerModel(uint64_t ledger_limit_bytes, Below below)
      : driver(kPagesPerWindow, ledger_limit_bytes), below_(std::move(below)) {
    for (const uint64_t first : kZones) {
      for (uint64_t frame = first; frame < first + kZoneFrames; ++frame) free_.insert(frame);
    }
    driver.Add(0);
    members_.push_back(0);
    for (uint64_t page = 0; page < kPages / 2; ++page) Write(0, page);
    driver.Pass();
    ForgetCounts();
  }

  LedgerDriver driver;
  std::map<Slot, uint64_t> breaks;  // since the counts were forgotten
  std::map<UnshareCause, uint64_t> unshared;

  void ForgetCounts() {
    breaks.clear();
    unshared.clear();
  }

  // One member does one random thing to a run of pages.
  std::string Step(bool with_moves) {
    const Slot slot = members_[below_(members_.size())];
    const uint64_t first = below_(kPages);
    const uint64_t last = std::min(kPages, first + 1 + below_(8));
    const uint64_t choice = below_(with_moves ? 24 : 20);
    std::string text = std::to_string(slot);
    ChooseZone();
    if (choice == 0) {
      text += " exits";
      Exit(slot);
    } else if (choice < 4) {
      text += " forks";
      Fork(slot);
    } else {
      const uint64_t offset = below_(kPages);
      const char* what = choice < 14 ? " writes " : choice < 18 ? " drops " : choice < 20 ? " reads " : " moves ";
      text.append(what).append(std::to_string(first)).append(" to ").append(std::to_string(last));
      if (choice >= 20) text.append(" by ").append(std::to_string(offset));
      for (uint64_t page = first; page < last; ++page) {
        if (choice < 14) {
          Write(slot, page);
        } else if (choice < 18) {
          Drop(slot, page);
        } else if (choice < 20) {
          ReadHole(slot, page);
        }
      }
      if (choice >= 20) MoveRun(slot, first, last, offset);
    }
    return text;
  }

  int64_t Exposure() const {
    int64_t exposure = 0;
    for (const auto& [frame, holders] : holders_) exposure += holders > 1 ? static_cast<int64_t>(holders) - 1 : 0;
    return exposure;
  }
  int64_t Shared() const {
    int64_t shared = 0;
    for (const auto& [frame, holders] : holders_) shared += holders > 1 ? static_cast<int64_t>(holders) : 0;
    return shared;
  }

 private:
  static constexpr uint64_t kPages = 64;
  static constexpr size_t kPagesPerWindow = 32;
  static constexpr size_t kMaxMembers = 8;
  // The first frames of the zones that pages come from: below 16 TiB, across it and beyond.
  static constexpr std::array<uint64_t, 3> kZones{1000, (uint64_t{1} << 32U) - 500, uint64_t{1} << 44U};
  static constexpr uint64_t kZoneFrames = 2 * kPages * kMaxMembers;

  void Release(uint64_t frame, UnshareCause cause) {
    const uint64_t rest = --holders_[frame];
    if (rest == 1) ++unshared[cause];
    if (rest == 0) free_.insert(frame);
  }

  // Chooses the zone of new pages for this step.
  void ChooseZone() {
    const uint64_t first = kZones[below_(std::size(kZones))];
    next_free_ = first + below_(kZoneFrames);
    free_in_order_ = below_(2) == 0;
  }

  // Returns consecutive or scattered frames.
  uint64_t Allocate() {
    auto found = free_.lower_bound(next_free_);
    if (found == free_.end()) found = free_.begin();
    const uint64_t frame = *found;
    free_.erase(found);
    next_free_ = frame + 1 + (free_in_order_ ? 0 : below_(50));
    return frame;
  }

  void Write(Slot slot, uint64_t page) {
    auto& tables = driver.At(slot).tables;
    const auto found = tables.find(page);
    const bool present = found != tables.end() && found->second.Frame().number() != kTestZeroFrame;
    if (present && holders_[found->second.Frame().number()] == 1) {
      driver.MarkExclusive(found->second.Frame().number(), true);
      return;
    }
    const uint64_t frame = Allocate();
    if (present) {
      ++breaks[slot];
      --holders_[found->second.Frame().number()];
    }
    holders_[frame] = 1;
    driver.MarkExclusive(frame, true);
    driver.Map(slot, page, frame);
  }

  void Drop(Slot slot, uint64_t page) {
    auto& tables = driver.At(slot).tables;
    const auto found = tables.find(page);
    if (found == tables.end()) return;
    if (found->second.Frame().number() != kTestZeroFrame) Release(found->second.Frame().number(), UnshareCause::kUnmap);
    tables.erase(found);
  }

  void ReadHole(Slot slot, uint64_t page) {
    if (!driver.At(slot).tables.contains(page)) driver.Map(slot, page, kTestZeroFrame);
  }

  void Fork(Slot parent) {
    if (members_.size() == kMaxMembers) return;
    Slot slot = 0;
    while (std::find(members_.begin(), members_.end(), slot) != members_.end() ||
           driver.ledger.IsDeparting(MemberIndex(slot))) {
      ++slot;
    }
    for (const auto& [page, entry] : driver.Fork(parent, slot).tables) {
      if (entry.Frame().number() == kTestZeroFrame) continue;
      ++holders_[entry.Frame().number()];
      driver.MarkExclusive(entry.Frame().number(), false);
    }
    members_.push_back(slot);
  }

  void Exit(Slot slot) {
    if (members_.size() == 1) return;
    for (const auto& [page, entry] : driver.At(slot).tables) {
      if (entry.Frame().number() != kTestZeroFrame) Release(entry.Frame().number(), UnshareCause::kExit);
    }
    driver.Exit(slot);
    std::erase(members_, slot);
  }

  // Moves a page into a hole, as mremap does: a page moved over a shared one looks like a copy.
  void MoveRun(Slot slot, uint64_t first, uint64_t last, uint64_t offset) {
    const auto before = driver.At(slot).tables;
    for (uint64_t page = first; page < last; ++page) {
      const uint64_t to = (page + offset) % kPages;
      if (before.contains(page) && !before.contains(to)) driver.Move(slot, page, to);
    }
  }

  const Below below_;
  std::vector<Slot> members_;
  std::set<uint64_t> free_;
  uint64_t next_free_ = 0;
  bool free_in_order_ = true;
  std::map<uint64_t, uint64_t> holders_;  // by frame
};

}  // namespace cow::memory
