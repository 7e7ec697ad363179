// Bitmaps in 64-bit words: over the pages of a window, or over other small numbers.
//
// A WindowBitmap owns its words and keeps its buffer when it is reset. BitmapView and BitmapSpan refer to words that
// something else owns, as packed storage does. Code that combines whole bitmaps does so word by word. Pure values.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace cow {

constexpr size_t BitmapWords(size_t bits) { return (bits + 63) / 64; }

// Counts the bits set within [first, first + count).
size_t CountBits(std::span<const uint64_t> words, size_t first, size_t count);

// Refers to the words of a bitmap. Copies refer to the same words.
template <class Unit>
class BasicBitmap {
 public:
  constexpr BasicBitmap() = default;
  explicit constexpr BasicBitmap(std::span<Unit> words) : words_(words) {}

  // True if it refers to nothing.
  constexpr bool empty() const { return words_.empty(); }
  constexpr std::span<Unit> words() const { return words_; }
  constexpr Unit& Word(size_t word) const { return words_[word]; }

  bool Test(size_t bit) const { return ((words_[bit / 64] >> (bit % 64)) & 1) != 0; }
  void Set(size_t bit) const { words_[bit / 64] |= uint64_t{1} << (bit % 64); }
  void Clear(size_t bit) const { words_[bit / 64] &= ~(uint64_t{1} << (bit % 64)); }

  bool Any() const {
    uint64_t any = 0;
    for (const uint64_t word : words_) any |= word;
    return any != 0;
  }
  size_t Count() const {
    size_t count = 0;
    for (const uint64_t word : words_) count += static_cast<size_t>(std::popcount(word));
    return count;
  }
  // Counts the bits set within [first, first + count).
  size_t Count(size_t first, size_t count) const { return CountBits(words_, first, count); }

  // Calls visit(bit) for each bit that is set, in ascending order.
  template <class Visit>
  void ForEach(Visit&& visit) const {
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t rest = words_[w]; rest != 0; rest &= rest - 1) {
        visit(w * 64 + static_cast<size_t>(std::countr_zero(rest)));
      }
    }
  }

  // NOLINTNEXTLINE(google-explicit-constructor): like a span, which converts to one of constants
  constexpr operator BasicBitmap<const uint64_t>() const requires(!std::is_const_v<Unit>) {
    return BasicBitmap<const uint64_t>(words_);
  }

 private:
  std::span<Unit> words_;
};

using BitmapView = BasicBitmap<const uint64_t>;
using BitmapSpan = BasicBitmap<uint64_t>;

inline bool AreEqual(BitmapView a, BitmapView b) {
  return std::equal(a.words().begin(), a.words().end(), b.words().begin(), b.words().end());
}
// True if both refer to the same words in memory.
inline bool AreSameWords(BitmapView a, BitmapView b) { return a.words().data() == b.words().data(); }

// A bitmap over the pages of one window.
class WindowBitmap {
 public:
  WindowBitmap() = default;
  // No bit is set.
  explicit WindowBitmap(size_t pages) : words_(BitmapWords(pages)) {}

  // Clears all bits.
  void Reset(size_t pages) { words_.assign(BitmapWords(pages), 0); }
  // Sets all bits, also those of the last word beyond the last page.
  void Fill(size_t pages) { words_.assign(BitmapWords(pages), ~uint64_t{0}); }
  void Assign(BitmapView other) { words_.assign(other.words().begin(), other.words().end()); }

  uint64_t Word(size_t word) const { return words_[word]; }
  uint64_t& Word(size_t word) { return words_[word]; }
  bool Test(size_t page) const { return View().Test(page); }
  void Set(size_t page) { BitmapSpan(words_).Set(page); }
  void Clear(size_t page) { BitmapSpan(words_).Clear(page); }
  bool Any() const { return View().Any(); }
  size_t Count() const { return View().Count(); }
  size_t Count(size_t first, size_t count) const { return View().Count(first, count); }
  template <class Visit>
  void ForEach(Visit&& visit) const {
    View().ForEach(visit);
  }

  BitmapView View() const { return BitmapView(words_); }
  operator BitmapView() const { return View(); }        // NOLINT(google-explicit-constructor): as of a span
  operator BitmapSpan() { return BitmapSpan(words_); }  // NOLINT(google-explicit-constructor)

 private:
  std::vector<uint64_t> words_;
};

// Bitmaps over the pages of one window, one after another in one buffer.
class WindowBitmaps {
 public:
  WindowBitmaps() = default;
  explicit WindowBitmaps(size_t pages) : words_per_bitmap_(BitmapWords(pages)) {}

  size_t size() const { return words_.size() / words_per_bitmap_; }
  void Reserve(size_t bitmaps) { words_.reserve(bitmaps * words_per_bitmap_); }
  // New bitmaps have no bit set.
  void Resize(size_t bitmaps) { words_.resize(bitmaps * words_per_bitmap_); }
  // Changes their number and size. Their bits are unspecified afterwards.
  void Reshape(size_t bitmaps, size_t pages) {
    words_per_bitmap_ = BitmapWords(pages);
    Resize(bitmaps);
  }
  bool Any() const { return BitmapView(words_).Any(); }

  BitmapView At(size_t bitmap) const {
    return BitmapView({words_.data() + bitmap * words_per_bitmap_, words_per_bitmap_});
  }
  BitmapSpan At(size_t bitmap) { return BitmapSpan({words_.data() + bitmap * words_per_bitmap_, words_per_bitmap_}); }

  bool operator==(const WindowBitmaps&) const = default;

 private:
  size_t words_per_bitmap_ = 1;
  std::vector<uint64_t> words_;
};

}  // namespace cow
