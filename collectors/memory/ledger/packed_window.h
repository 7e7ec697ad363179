// The record of one window as it is kept, in little memory: frames packed, no bitmap for members that hold nothing, and
// none for those that hold every recorded page, which is the usual case.
//
// Does not change: a settled window is packed anew. Units: pages, numbered within their window. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectors/memory/ledger/packed_frames.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

class PackedWindow {
 public:
  // `with_frames`: false keeps who shared which page, but not at which frame.
  PackedWindow(const WindowRecord& record, size_t pages_per_window, bool with_frames);

  bool has_frames() const { return has_frames_; }
  // Per page of the window; not where the frames were dropped.
  void CopyFrames(std::span<uint64_t> frames) const;
  // The bitmap of pages that have a frame, or had one.
  void CopyRecorded(std::span<uint64_t> recorded) const;

  // The bitmap of a slot's pages; empty where it holds none. `recorded` as CopyRecorded gives it, and returned itself
  // for a slot that holds all of them.
  std::span<const uint64_t> Held(Slot slot, std::span<const uint64_t> recorded) const;
  // Both hold the same pages, extras aside.
  bool HoldAlike(Slot a, Slot b) const;
  // No slot from here on holds anything but extras.
  Slot SlotsEnd() const;
  std::span<const WindowRecord::Extra> extras() const;
  std::span<const WindowRecord::Away> away() const;
  // Holds a page here, or did before it was away.
  bool Concerns(Slot slot) const;

  // Laid open to be changed.
  WindowRecord Open() const;

  // Bytes of heap, without the object itself.
  uint64_t HeapBytes() const;

 private:
  // What few windows have.
  struct Rest {
    std::vector<WindowRecord::Extra> extras;
    std::vector<WindowRecord::Away> away;
  };

  size_t Words() const { return (pages_ + size_t{63}) / 64; }
  bool HoldsAll(Slot slot) const { return slot / 64 < whole_words_ && TestBit(Whole(), slot); }
  std::span<const uint64_t> Recorded() const { return {bitmaps_.data(), recorded_words_}; }
  std::span<const uint64_t> Whole() const { return {bitmaps_.data() + recorded_words_, whole_words_}; }
  std::span<const uint64_t> PartOf(size_t index) const;
  // The bitmap of a slot that holds some of the recorded pages; empty for others.
  std::span<const uint64_t> HeldInPart(Slot slot) const;
  std::vector<uint64_t> FindRecorded(const WindowRecord& record) const;
  void PackHolders(const WindowRecord& record, std::span<const uint64_t> recorded);

  uint32_t pages_;
  uint16_t recorded_words_ = 0;  // none where all pages are recorded
  uint16_t whole_words_ = 0;
  PackedFrames frames_;
  // One after the other: recorded pages, slots that hold all of them, the pages of each slot in `partial_`.
  std::vector<uint64_t> bitmaps_;
  std::vector<Slot> partial_;  // ascending: slots that hold some of the recorded pages
  std::unique_ptr<Rest> rest_;
  bool has_frames_;
};

}  // namespace cow::memory
