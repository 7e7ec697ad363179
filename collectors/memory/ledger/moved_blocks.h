// Stores the pages that are shared between different addresses, in blocks by window.
//
// A block has the moved pages of one run of addresses: one frame per page, and two bits per page and holder. All
// holders of a page in a block have the same frame. A second frame at that address is in another block. Between passes
// a block says which member holds which page, and which of these pages are in RAM. During a pass it takes what the
// pages read.
//
// Pure: reads no file. Page numbers are those of the address space. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/base/steps.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// One holder of a frame that is shared between different addresses.
struct MovedPage {
  PageNumber page;
  Pfn frame;
  MemberIndex slot;
  bool here = true;  // false: swapped out, migrating or not read
};

class MovedBlock {
 public:
  // The largest distance between two neighbouring pages of a block.
  static constexpr uint64_t kMaxGap = 64;

  // A page that was read and does not have its recorded frame.
  struct Change {
    PageEntry entry;
    uint32_t holder = 0;
    uint32_t page = 0;  // within the block
  };

  // `pages` is in ascending order, with one frame at each address.
  explicit MovedBlock(std::span<const MovedPage> pages);

  PageNumber first() const { return first_; }
  size_t pages() const { return frames_.size(); }
  size_t holders() const { return slots_.size(); }
  MemberIndex SlotOf(size_t holder) const { return slots_[holder]; }
  // The index of the slot's holder; holders() if the slot holds nothing here.
  size_t FindHolder(MemberIndex slot) const;

  Pfn FrameAt(size_t page) const {
    return Pfn(high_.empty() ? frames_[page] : uint64_t{frames_[page]} | uint64_t{high_[page]} << 32U);
  }
  void SetFrame(size_t page, Pfn frame);

  bool Holds(size_t holder, size_t page) const { return Held(holder).Test(page); }
  bool IsHere(size_t holder, size_t page) const { return Here(holder).Test(page); }
  BitmapView Held(size_t holder) const { return BitmapView({bits_.data() + 2 * holder * words_, words_}); }
  BitmapView Here(size_t holder) const { return BitmapView({bits_.data() + (2 * holder + 1) * words_, words_}); }
  size_t CountHolders(size_t page) const;
  size_t CountHere(size_t page) const;

  // Begins a pass: the holder's recorded pages count as read and unchanged, or as not read.
  void Expect(size_t holder, bool unchanged);
  // Takes the entry of a holder's page.
  void Note(size_t holder, size_t page, PageEntry entry, Pfn zero_frame);
  // Sorts by holder and page; the latest change of a page comes last.
  void SortChanges();
  std::span<const Change> changes() const { return changes_; }
  // The latest change of a page; null if it was not read or is unchanged. Call SortChanges first.
  const Change* FindChange(size_t holder, size_t page) const;
  void ForgetChanges();

  void Leave(size_t holder, size_t page);
  void Take(size_t holder, size_t page, bool here);

  // Adds the held pages.
  void AddPages(std::vector<MovedPage>& pages) const;
  // True if more than half of the original pages are gone.
  bool IsSparse() const { return CountHeld() * 2 < held_when_made_; }
  bool empty() const { return CountHeld() == 0; }
  // Bytes of heap and of the object itself.
  uint64_t MemoryBytes() const;

 private:
  void SetHere(size_t holder, size_t page, bool here);
  BitmapSpan MutableHeld(size_t holder) { return BitmapSpan({bits_.data() + 2 * holder * words_, words_}); }
  BitmapSpan MutableHere(size_t holder) { return BitmapSpan({bits_.data() + (2 * holder + 1) * words_, words_}); }
  size_t CountHeld() const;

  PageNumber first_;
  size_t words_ = 0;  // per bitmap
  size_t held_when_made_ = 0;
  std::vector<uint32_t> frames_;    // lower 32 bits
  std::vector<uint32_t> high_;      // upper 32 bits; empty if all are zero
  std::vector<MemberIndex> slots_;  // ascending
  std::vector<uint64_t> bits_;      // per holder two bitmaps: pages held, and pages here
  std::vector<Change> changes_;     // in this pass
};

// Packs the pages of one window, in any order, into blocks.
std::vector<MovedBlock> PackMovedPages(std::vector<MovedPage> pages);

// The place of a frame in the blocks.
struct MovedPlace {
  Pfn frame;
  uint32_t block = 0;  // index in MovedBlocks::All
  uint32_t page = 0;   // within the block

  bool operator<(const MovedPlace& other) const {
    return std::tie(frame, block, page) < std::tie(other.frame, other.block, other.page);
  }
};

class MovedBlocks {
 public:
  explicit MovedBlocks(size_t pages_per_window) : pages_(pages_per_window) {}

  bool empty() const { return windows_.empty(); }
  bool Has(WindowIndex window) const { return windows_.contains(window); }
  // Empty if nothing is recorded. Blocks keep their address until their window is packed.
  std::span<MovedBlock> In(WindowIndex window);
  std::span<const MovedBlock> In(WindowIndex window) const;
  const std::map<WindowIndex, std::vector<MovedBlock>>& windows() const { return windows_; }
  std::vector<MovedBlock*> All();

  // Adds pages of one window and packs its blocks again.
  void Add(WindowIndex window, std::vector<MovedPage> pages);
  // Adds pages of any windows. Leaves `pages` empty.
  Steps AddAll(std::vector<MovedPage>& pages);
  // Packs sparse blocks again to free memory.
  Steps PackSparse();
  // Finds the places of all held frames in these blocks, sorted by frame.
  static Steps FindPlaces(std::span<MovedBlock* const> blocks, std::vector<MovedPlace>& places);

  void Clear() { windows_.clear(); }
  // Heap bytes, without the allocator's overhead.
  uint64_t MemoryBytes() const;

 private:
  size_t pages_;
  std::map<WindowIndex, std::vector<MovedBlock>> windows_;
};

// Compares items by page, then by frame.
struct InOrderOfPages {
  template <class Item>
  bool operator()(const Item& a, const Item& b) const {
    return std::tie(a.page, a.frame) < std::tie(b.page, b.frame);
  }
};

}  // namespace cow::memory
