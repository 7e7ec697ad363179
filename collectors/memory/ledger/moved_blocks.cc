#include "collectors/memory/ledger/moved_blocks.h"

#include <algorithm>
#include <utility>

namespace cow::memory {

std::span<MovedBlock> MovedBlocks::In(WindowIndex window) {
  const auto found = windows_.find(window);
  return found == windows_.end() ? std::span<MovedBlock>() : std::span(found->second);
}

std::span<const MovedBlock> MovedBlocks::In(WindowIndex window) const {
  const auto found = windows_.find(window);
  return found == windows_.end() ? std::span<const MovedBlock>() : std::span(found->second);
}

std::vector<MovedBlock*> MovedBlocks::All() {
  std::vector<MovedBlock*> all;
  for (auto& [window, blocks] : windows_) {
    for (MovedBlock& block : blocks) all.push_back(&block);
  }
  return all;
}

void MovedBlocks::Add(WindowIndex window, std::vector<MovedPage> pages) {
  std::vector<MovedBlock>& blocks = windows_[window];
  for (const MovedBlock& block : blocks) block.AddPages(pages);
  if (pages.empty()) {
    windows_.erase(window);
  } else {
    blocks = PackMovedPages(std::move(pages));
  }
}

Steps MovedBlocks::AddAll(std::vector<MovedPage>& pages) {
  co_await SortInSteps(std::span(pages), InOrderOfPages());
  Pace pace;
  for (size_t begin = 0; begin < pages.size();) {
    const WindowIndex window = pages[begin].page.Window(pages_);
    size_t end = begin;
    while (end < pages.size() && pages[end].page.Window(pages_) == window) ++end;
    Add(window, {pages.begin() + static_cast<std::ptrdiff_t>(begin), pages.begin() + static_cast<std::ptrdiff_t>(end)});
    if (pace.IsDue(32 * (end - begin))) co_await Rest();
    begin = end;
  }
  std::vector<MovedPage>().swap(pages);
}

Steps MovedBlocks::PackSparse() {
  Pace pace;
  std::vector<WindowIndex> sparse;
  for (const auto& [window, blocks] : windows_) {
    if (std::any_of(blocks.begin(), blocks.end(), [](const MovedBlock& block) { return block.IsSparse(); }))
      sparse.push_back(window);
    if (pace.IsDue(pages_)) co_await Rest();
  }
  for (const WindowIndex window : sparse) {
    Add(window, {});
    if (pace.IsDue(32 * pages_)) co_await Rest();
  }
}

Steps MovedBlocks::FindPlaces(std::span<MovedBlock* const> blocks, std::vector<MovedPlace>& places) {
  Pace pace;
  for (uint32_t number = 0; number < blocks.size(); ++number) {
    const MovedBlock& block = *blocks[number];
    for (uint32_t page = 0; page < block.pages(); ++page) {
      if (block.CountHolders(page) != 0) places.push_back({block.FrameAt(page), number, page});
    }
    if (pace.IsDue(block.pages() * (1 + block.holders()))) co_await Rest();
  }
  co_await SortInSteps(std::span(places));
}

uint64_t MovedBlocks::MemoryBytes() const {
  // A tree node takes four pointers beside its value.
  constexpr uint64_t kWindowBytes = 4 * sizeof(void*) + sizeof(WindowIndex) + sizeof(std::vector<MovedBlock>);
  uint64_t bytes = 0;
  for (const auto& [window, blocks] : windows_) {
    bytes += kWindowBytes + (blocks.capacity() - blocks.size()) * sizeof(MovedBlock);
    for (const MovedBlock& block : blocks) bytes += block.MemoryBytes();
  }
  return bytes;
}

}  // namespace cow::memory
