// Stores the record of one window compactly: frames packed, no bitmap for a member that holds nothing, and none for a
// member that holds every recorded page (the usual case).
//
// Immutable: a commit packs the window again. Units: pages, numbered within their window. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

// The frame numbers of a window's pages in few bytes. Consecutive frames (huge pages, contiguous allocations) are
// stored as runs. Other frames take four bytes each if all fit 32 bits (memory up to 16 TiB), else eight.
class PackedFrames {
 public:
  PackedFrames() = default;
  // `frames`: one per page of the window. Keeps those of the pages in the bitmap `recorded`.
  PackedFrames(std::span<const Pfn> frames, BitmapView recorded);

  // `recorded` is the bitmap that the frames were packed with. Sets other pages to Pfn::None().
  void Unpack(BitmapView recorded, std::span<Pfn> frames) const;
  // Unpacks them as entries that have no bits but the frame's.
  void Unpack(BitmapView recorded, std::span<PageEntry> entries) const;

  // At most 4 bytes per recorded page, or 8 if a frame needs more than 32 bits.
  uint64_t HeapBytes() const { return words_.capacity() * sizeof(uint32_t); }

 private:
  uint64_t FrameAt(size_t word) const {
    return wide_ ? uint64_t{words_[word]} | uint64_t{words_[word + 1]} << 32U : words_[word];
  }
  size_t WordsPerFrame() const { return wide_ ? 2 : 1; }
  void Add(uint64_t frame);
  template <class Number>
  void UnpackAs(BitmapView recorded, std::span<Number> frames) const;
  template <class Number>
  void UnpackRuns(BitmapView recorded, std::span<Number> frames) const;

  std::vector<uint32_t> words_;  // the frame of each recorded page; of each run its first page and frame
  bool wide_ = false;            // a frame takes two words, the lower half first
  bool runs_ = false;            // stored as runs: frames grow with the page number, also over gaps
};

class PackedWindow {
 public:
  // `with_frames`: false keeps which member shared which page, but not the frames.
  PackedWindow(const WindowRecord& record, size_t pages_per_window, bool with_frames);

  bool has_frames() const { return has_frames_; }
  // Copies one frame per page of the window. Only if has_frames().
  void CopyFrames(std::span<Pfn> frames) const;
  // Copies the same as entries that have no bits but the frame's.
  void CopyFramesAsEntries(std::span<PageEntry> entries) const;
  // Copies the bitmap of recorded pages.
  void CopyRecorded(BitmapSpan recorded) const;

  // The bitmap of the slot's pages; empty if it holds none. `recorded`: the bitmap from CopyRecorded, which is returned
  // for a slot that holds all recorded pages.
  BitmapView Held(MemberIndex slot, BitmapView recorded) const;
  // True if both hold the same pages, extras aside.
  bool HoldAlike(MemberIndex a, MemberIndex b) const;
  // An upper bound: no higher slot holds anything but extras.
  MemberIndex SlotsEnd() const;
  std::span<const WindowRecord::Extra> extras() const;
  std::span<const WindowRecord::Away> away() const;
  // True if the slot is a holder here, also if its page is away.
  bool Concerns(MemberIndex slot) const;

  // Unpacks the record for changes.
  WindowRecord Open() const;

  // Heap bytes, without the object itself.
  uint64_t HeapBytes() const;

 private:
  // Data that few windows have.
  struct Rest {
    std::vector<WindowRecord::Extra> extras;
    std::vector<WindowRecord::Away> away;
  };

  size_t Words() const { return BitmapWords(pages_); }
  bool HoldsAll(MemberIndex slot) const { return slot.number() / 64 < whole_words_ && Whole().Test(slot.number()); }
  BitmapView Recorded() const { return BitmapView({bitmaps_.data(), recorded_words_}); }
  // By slot.
  BitmapView Whole() const { return BitmapView({bitmaps_.data() + recorded_words_, whole_words_}); }
  BitmapView PartOf(size_t index) const;
  // The bitmap of a slot that holds some of the recorded pages; empty for others.
  BitmapView HeldInPart(MemberIndex slot) const;
  WindowBitmap FindRecorded(const WindowRecord& record) const;
  template <class Number>
  void Unpack(std::span<Number> numbers) const;
  void PackHolders(const WindowRecord& record, BitmapView recorded);

  uint32_t pages_;
  uint16_t recorded_words_ = 0;  // 0 if all pages are recorded
  uint16_t whole_words_ = 0;
  PackedFrames frames_;
  // In this order: recorded pages, slots that hold all of them, the pages of each slot in `partial_`.
  std::vector<uint64_t> bitmaps_;
  std::vector<MemberIndex> partial_;  // ascending: slots that hold some of the recorded pages
  std::unique_ptr<Rest> rest_;
  bool has_frames_;
};

}  // namespace cow::memory
