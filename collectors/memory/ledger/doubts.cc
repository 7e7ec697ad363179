#include "collectors/memory/ledger/comparison.h"

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
        of_holders_(pages),
        of_all_(pages),
        confirmed_(pages) {}

  void Find() {
    DoubtRecord();
    DoubtFramesOfOne();
    const ReadingIndex index(readings_);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (readings_[r].IsNewChild()) DoubtRelativesOf(r, index);
    }
    for (size_t w = 0; w < words_; ++w) {
      if ((of_all_.Word(w) | of_holders_.Word(w) | c_.attention.Word(w)) != 0) words_in_question_.push_back(w);
    }
    FindConfirmed();
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (!readings_[r].recalled.empty()) Collect(r);
    }
  }

 private:
  BitmapView Held(uint32_t reading) const {
    return record_ == nullptr ? BitmapView() : record_->Held(readings_[reading].slot, c_.grouped);
  }

  void DoubtRecord() {
    if (record_ == nullptr) return;
    if (!record_->has_frames()) of_all_.Fill(pages_);
    for (const WindowRecord::Away& away : record_->away()) of_all_.Set(away.page);
    for (const WindowRecord::Extra& extra : record_->extras()) of_all_.Set(extra.page);
  }

  // A frame that is mapped once is not shared: read all recalled holders of the page.
  void DoubtFramesOfOne() {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const Comparison::Member& member = c_.members[r];
      for (size_t w = 0; w < words_; ++w) {
        const uint64_t read = ~readings_[r].RecalledWord(w);
        if (read != 0) of_holders_.Word(w) |= member.current.Word(w) & ~member.maybe_shared.Word(w) & read;
      }
    }
    if (!of_holders_.Any()) return;
    WindowBitmap recalled_holders(pages_);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const BitmapView held = Held(r);
      for (size_t w = 0; w < held.words().size(); ++w)
        recalled_holders.Word(w) |= held.Word(w) & readings_[r].RecalledWord(w);
    }
    for (size_t w = 0; w < words_; ++w) of_holders_.Word(w) &= recalled_holders.Word(w);
  }

  // A child's page that its parent lacks is compared with all other members' pages.
  void DoubtRelativesOf(uint32_t newcomer, const ReadingIndex& index) {
    const uint32_t parent = index.Find(readings_[newcomer].parent);
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t of_parent = parent == kNoReading ? 0 : c_.members[parent].anon.Word(w);
      of_all_.Word(w) |= c_.members[newcomer].anon.Word(w) & ~of_parent;
    }
  }

  // A page that a read member still has at its recorded frame needs no further read.
  void FindConfirmed() {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const BitmapView held = Held(r);
      for (size_t w = 0; w < held.words().size(); ++w) {
        confirmed_.Word(w) |= held.Word(w) & ~readings_[r].RecalledWord(w) & c_.members[r].current.Word(w);
      }
    }
  }

  void Collect(uint32_t reading) {
    Doubt doubt{reading, ~uint32_t{0}, 0};
    const BitmapView held = Held(reading);
    for (const size_t w : words_in_question_) {
      const uint64_t holds = held.empty() ? 0 : held.Word(w);
      const uint64_t recalled = readings_[reading].RecalledWord(w);
      const uint64_t asked = (of_all_.Word(w) | (of_holders_.Word(w) & holds)) & recalled;
      for (uint64_t rest = asked | (c_.attention.Word(w) & holds & recalled); rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        const bool asked_anyway = ((asked >> (page % 64)) & 1) != 0;
        if (page >= pages_ || (!asked_anyway && confirmed_.Test(page))) continue;
        doubt.first = std::min(doubt.first, static_cast<uint32_t>(page));
        doubt.last = std::max(doubt.last, static_cast<uint32_t>(page));
      }
    }
    if (doubt.first <= doubt.last) c_.doubts.push_back(doubt);
    // One recalled holder per page is enough.
    for (size_t w = 0; w < held.words().size(); ++w)
      confirmed_.Word(w) |= held.Word(w) & readings_[reading].RecalledWord(w);
  }

  const PackedWindow* record_;
  std::span<const Reading> readings_;
  size_t pages_;
  size_t words_;
  Comparison& c_;
  WindowBitmap of_holders_;                // read every recalled holder
  WindowBitmap of_all_;                    // read every recalled member
  WindowBitmap confirmed_;                 // a holder was read or will be
  std::vector<size_t> words_in_question_;  // indexes of bitmap words to go through
};

}  // namespace

void FindDoubts(const PackedWindow* record, std::span<const Reading> readings, size_t pages, Comparison& comparison) {
  comparison.doubts.clear();
  const bool any_recalled =
      std::any_of(readings.begin(), readings.end(), [](const Reading& reading) { return !reading.recalled.empty(); });
  if (any_recalled) DoubtFinder(record, readings, pages, comparison).Find();
}

}  // namespace cow::memory
