#include "collectors/memory/ledger/doubts.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace cow::memory {
namespace {

class DoubtFinder {
 public:
  DoubtFinder(const PackedWindow* record, std::span<const Reading> readings, size_t pages, Comparison& comparison)
      : record_(record),
        readings_(readings),
        pages_(pages),
        words_(BitmapWords(pages)),
        c_(comparison),
        of_holders_(words_, 0),
        of_all_(words_, 0),
        confirmed_(words_, 0) {}

  void Find() {
    DoubtRecord();
    DoubtFramesOfOne();
    const ReadingIndex index(readings_);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (readings_[r].IsNewChild()) DoubtRelativesOf(r, index);
    }
    for (size_t w = 0; w < words_; ++w) {
      if ((of_all_[w] | of_holders_[w] | c_.attention[w]) != 0) words_in_question_.push_back(w);
    }
    FindConfirmed();
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (readings_[r].recalled != nullptr) Collect(r);
    }
  }

 private:
  std::span<const uint64_t> Held(uint32_t reading) const {
    return record_ == nullptr ? std::span<const uint64_t>() : record_->Held(readings_[reading].slot, c_.grouped);
  }

  void DoubtRecord() {
    if (record_ == nullptr) return;
    if (!record_->has_frames()) of_all_.assign(words_, ~uint64_t{0});
    for (const WindowRecord::Away& away : record_->away()) SetBit(of_all_, away.page);
    for (const WindowRecord::Extra& extra : record_->extras()) SetBit(of_all_, extra.page);
  }

  // A frame that is mapped once is not shared: read all recalled holders of the page.
  void DoubtFramesOfOne() {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const Comparison::Member& member = c_.members[r];
      for (size_t w = 0; w < words_; ++w) {
        const uint64_t read = ~readings_[r].RecalledWord(w);
        if (read != 0) of_holders_[w] |= member.current[w] & ~member.maybe_shared[w] & read;
      }
    }
    if (!AnyBit(of_holders_)) return;
    std::vector<uint64_t> recalled_holders(words_, 0);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const std::span<const uint64_t> held = Held(r);
      for (size_t w = 0; w < held.size(); ++w) recalled_holders[w] |= held[w] & readings_[r].RecalledWord(w);
    }
    for (size_t w = 0; w < words_; ++w) of_holders_[w] &= recalled_holders[w];
  }

  // A child's page that its parent lacks is compared with all other members' pages.
  void DoubtRelativesOf(uint32_t newcomer, const ReadingIndex& index) {
    const uint32_t parent = index.Find(readings_[newcomer].parent);
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t of_parent = parent == kNoReading ? 0 : c_.members[parent].anon[w];
      of_all_[w] |= c_.members[newcomer].anon[w] & ~of_parent;
    }
  }

  // A page that a read member still has at its recorded frame needs no further read.
  void FindConfirmed() {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const std::span<const uint64_t> held = Held(r);
      for (size_t w = 0; w < held.size(); ++w) {
        confirmed_[w] |= held[w] & ~readings_[r].RecalledWord(w) & c_.members[r].current[w];
      }
    }
  }

  void Collect(uint32_t reading) {
    Doubt doubt{reading, ~uint32_t{0}, 0};
    const std::span<const uint64_t> held = Held(reading);
    for (const size_t w : words_in_question_) {
      const uint64_t holds = held.empty() ? 0 : held[w];
      const uint64_t recalled = readings_[reading].RecalledWord(w);
      const uint64_t asked = (of_all_[w] | (of_holders_[w] & holds)) & recalled;
      for (uint64_t rest = asked | (c_.attention[w] & holds & recalled); rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        const bool asked_anyway = ((asked >> (page % 64)) & 1) != 0;
        if (page >= pages_ || (!asked_anyway && TestBit(confirmed_, page))) continue;
        doubt.first = std::min(doubt.first, static_cast<uint32_t>(page));
        doubt.last = std::max(doubt.last, static_cast<uint32_t>(page));
      }
    }
    if (doubt.first <= doubt.last) c_.doubts.push_back(doubt);
    // One recalled holder per page is enough.
    for (size_t w = 0; w < held.size(); ++w) confirmed_[w] |= held[w] & readings_[reading].RecalledWord(w);
  }

  const PackedWindow* record_;
  std::span<const Reading> readings_;
  size_t pages_;
  size_t words_;
  Comparison& c_;
  std::vector<uint64_t> of_holders_;       // bitmap: read every recalled holder
  std::vector<uint64_t> of_all_;           // bitmap: read every recalled member
  std::vector<uint64_t> confirmed_;        // bitmap: a holder was read or will be
  std::vector<size_t> words_in_question_;  // indexes of bitmap words to go through
};

}  // namespace

void FindDoubts(const PackedWindow* record, std::span<const Reading> readings, size_t pages, Comparison& comparison) {
  comparison.doubts.clear();
  const bool any_recalled =
      std::any_of(readings.begin(), readings.end(), [](const Reading& reading) { return reading.recalled != nullptr; });
  if (any_recalled) DoubtFinder(record, readings, pages, comparison).Find();
}

}  // namespace cow::memory
