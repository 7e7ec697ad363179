// Stores the pages that are shared between different addresses, as blocks (moved_block.h) by window.
//
// Pure. Page numbers are those of the address space. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/moved_block.h"

namespace cow::memory {

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
