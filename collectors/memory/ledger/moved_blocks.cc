#include "collectors/memory/ledger/moved_blocks.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>

#include "collectors/base/sort_unique.h"

namespace cow::memory {

MovedBlock::MovedBlock(std::span<const MovedPage> pages)
    : first_(pages.front().page),
      words_((pages.back().page - first_) / 64 + 1),
      held_when_made_(pages.size()),
      frames_(pages.back().page - first_ + 1) {
  for (const MovedPage& moved : pages) slots_.push_back(moved.slot);
  SortUnique(slots_);
  slots_.shrink_to_fit();
  bits_.resize(2 * slots_.size() * words_);
  for (const MovedPage& moved : pages) {
    const size_t holder = FindHolder(moved.slot);
    const size_t page = moved.page - first_;
    SetFrame(page, moved.frame);
    MutableHeld(holder).Set(page);
    if (moved.here) MutableHere(holder).Set(page);
  }
}

size_t MovedBlock::FindHolder(MemberIndex slot) const {
  const auto found = std::lower_bound(slots_.begin(), slots_.end(), slot);
  return found == slots_.end() || *found != slot ? slots_.size() : static_cast<size_t>(found - slots_.begin());
}

void MovedBlock::SetFrame(size_t page, Pfn frame) {
  const uint64_t number = frame.number();
  frames_[page] = static_cast<uint32_t>(number);
  if (high_.empty() && number > std::numeric_limits<uint32_t>::max()) high_.resize(frames_.size());
  if (!high_.empty()) high_[page] = static_cast<uint32_t>(number >> 32U);
}

size_t MovedBlock::CountHolders(size_t page) const {
  size_t count = 0;
  for (size_t word = page / 64; word < bits_.size(); word += 2 * words_) count += (bits_[word] >> (page % 64)) & 1U;
  return count;
}

size_t MovedBlock::CountHere(size_t page) const {
  size_t count = 0;
  for (size_t word = words_ + page / 64; word < bits_.size(); word += 2 * words_) {
    count += (bits_[word] >> (page % 64)) & 1U;
  }
  return count;
}

void MovedBlock::Expect(size_t holder, bool unchanged) {
  const BitmapView held = Held(holder);
  const BitmapSpan here = MutableHere(holder);
  for (size_t w = 0; w < words_; ++w) here.Word(w) = unchanged ? held.Word(w) : 0;
}

void MovedBlock::Note(size_t holder, size_t page, PageEntry entry, Pfn zero_frame) {
  const bool here = AnonFrame(entry, zero_frame) == FrameAt(page);
  SetHere(holder, page, here);
  if (!here) changes_.push_back({entry, static_cast<uint32_t>(holder), static_cast<uint32_t>(page)});
}

void MovedBlock::SortChanges() {
  std::stable_sort(changes_.begin(), changes_.end(), [](const Change& a, const Change& b) {
    return std::pair(a.holder, a.page) < std::pair(b.holder, b.page);
  });
}

const MovedBlock::Change* MovedBlock::FindChange(size_t holder, size_t page) const {
  const auto after = std::upper_bound(changes_.begin(), changes_.end(), std::pair(holder, page),
                                      [](const std::pair<size_t, size_t>& place, const Change& change) {
                                        return place < std::pair<size_t, size_t>(change.holder, change.page);
                                      });
  if (after == changes_.begin()) return nullptr;
  const Change& change = *std::prev(after);
  return change.holder == holder && change.page == page ? &change : nullptr;
}

void MovedBlock::ForgetChanges() { std::vector<Change>().swap(changes_); }

void MovedBlock::Leave(size_t holder, size_t page) {
  MutableHeld(holder).Clear(page);
  MutableHere(holder).Clear(page);
}

void MovedBlock::Take(size_t holder, size_t page, bool here) {
  MutableHeld(holder).Set(page);
  SetHere(holder, page, here);
}

void MovedBlock::SetHere(size_t holder, size_t page, bool here) {
  here ? MutableHere(holder).Set(page) : MutableHere(holder).Clear(page);
}

void MovedBlock::AddPages(std::vector<MovedPage>& pages) const {
  for (size_t page = 0; page < frames_.size(); ++page) {
    for (size_t holder = 0; holder < slots_.size(); ++holder) {
      if (!Holds(holder, page)) continue;
      pages.push_back({first_ + page, FrameAt(page), slots_[holder], IsHere(holder, page)});
    }
  }
}

size_t MovedBlock::CountHeld() const {
  size_t count = 0;
  for (size_t holder = 0; holder < slots_.size(); ++holder) count += Held(holder).Count();
  return count;
}

uint64_t MovedBlock::MemoryBytes() const {
  return sizeof(*this) + (frames_.capacity() + high_.capacity()) * sizeof(uint32_t) +
         slots_.capacity() * sizeof(MemberIndex) + bits_.capacity() * sizeof(uint64_t) +
         changes_.capacity() * sizeof(Change);
}

std::vector<MovedBlock> PackMovedPages(std::vector<MovedPage> pages) {
  const auto order = [](const MovedPage& a, const MovedPage& b) {
    return std::tie(a.page, a.frame, a.slot) < std::tie(b.page, b.frame, b.slot);
  };
  if (!std::is_sorted(pages.begin(), pages.end(), order)) std::sort(pages.begin(), pages.end(), order);
  // The second frame of an address goes to the second layer, and so on.
  std::vector<std::vector<MovedPage>> layers(1);
  for (size_t i = 0, layer = 0; i < pages.size(); ++i) {
    const bool same_address = i != 0 && pages[i].page == pages[i - 1].page;
    if (!same_address) layer = 0;
    if (same_address && pages[i].frame != pages[i - 1].frame) ++layer;
    if (layer == layers.size()) layers.emplace_back();
    layers[layer].push_back(pages[i]);
  }
  std::vector<MovedBlock> blocks;
  for (const std::vector<MovedPage>& layer : layers) {
    for (size_t begin = 0; begin < layer.size();) {
      size_t end = begin + 1;
      while (end < layer.size() && layer[end].page - layer[end - 1].page <= MovedBlock::kMaxGap) ++end;
      blocks.emplace_back(std::span(layer).subspan(begin, end - begin));
      begin = end;
    }
  }
  blocks.shrink_to_fit();
  return blocks;
}

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
  for (std::span<const MovedPage> rest = pages; !rest.empty();) {
    const auto run = TakeRun(rest, [this](const MovedPage& each) { return each.page.Window(pages_); });
    Add(run.front().page.Window(pages_), {run.begin(), run.end()});
    if (pace.IsDue(32 * run.size())) co_await Rest();
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
