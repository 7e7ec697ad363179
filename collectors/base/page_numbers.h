// Numbers of page frames, pages and windows as types of their own: a call that confuses two of them does not compile.
//
// Each takes as much memory as its number and has only the arithmetic that makes sense. number() is for storage and for
// the kernel's files. Pure values.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace cow {

class WindowIndex;

// A page frame, named by its PFN.
class Pfn {
 public:
  // No frame: PFN 0 is never a page of a process, and the kernel shows it where frames are hidden.
  constexpr Pfn() = default;
  explicit constexpr Pfn(uint64_t number) : number_(number) {}
  static constexpr Pfn None() { return {}; }

  constexpr uint64_t number() const { return number_; }
  // Its place in the aligned run of `frames` frames that contains it.
  constexpr size_t InRun(size_t frames) const { return number_ % frames; }
  // The first frame of that run.
  constexpr Pfn FirstOfRun(size_t frames) const { return Pfn(number_ - number_ % frames); }

  friend constexpr Pfn operator+(Pfn frame, uint64_t frames) { return Pfn(frame.number_ + frames); }
  friend constexpr Pfn operator-(Pfn frame, uint64_t frames) { return Pfn(frame.number_ - frames); }
  friend constexpr uint64_t operator-(Pfn a, Pfn b) { return a.number_ - b.number_; }
  constexpr Pfn& operator++() {
    ++number_;
    return *this;
  }
  // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
  friend constexpr auto operator<=>(Pfn, Pfn) = default;
  // Written out: GCC 12 compiles !(a == b) to longer loops over frames.
  friend constexpr bool operator!=(Pfn a, Pfn b) { return a.number_ != b.number_; }

 private:
  uint64_t number_ = 0;
};

// A virtual page: its address divided by the page size.
class PageNumber {
 public:
  constexpr PageNumber() = default;
  explicit constexpr PageNumber(uint64_t number) : number_(number) {}

  constexpr uint64_t number() const { return number_; }
  constexpr uint64_t Address(size_t page_bytes) const { return number_ * page_bytes; }
  constexpr WindowIndex Window(size_t pages_per_window) const;
  // The page's place in its window.
  constexpr size_t InWindow(size_t pages_per_window) const { return number_ % pages_per_window; }

  friend constexpr PageNumber operator+(PageNumber page, uint64_t pages) { return PageNumber(page.number_ + pages); }
  friend constexpr uint64_t operator-(PageNumber a, PageNumber b) { return a.number_ - b.number_; }
  constexpr PageNumber& operator++() {
    ++number_;
    return *this;
  }
  // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
  friend constexpr auto operator<=>(PageNumber, PageNumber) = default;

 private:
  uint64_t number_ = 0;
};

// A window: the range of addresses that one PMD maps, numbered from address 0.
class WindowIndex {
 public:
  constexpr WindowIndex() = default;
  explicit constexpr WindowIndex(uint64_t number) : number_(number) {}

  constexpr uint64_t number() const { return number_; }
  constexpr PageNumber FirstPage(size_t pages_per_window) const { return PageNumber(number_ * pages_per_window); }
  // The first page behind it.
  constexpr PageNumber EndPage(size_t pages_per_window) const { return Next().FirstPage(pages_per_window); }
  constexpr uint64_t Address(size_t window_bytes) const { return number_ * window_bytes; }
  constexpr WindowIndex Next() const { return WindowIndex(number_ + 1); }

  // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
  friend constexpr auto operator<=>(WindowIndex, WindowIndex) = default;

 private:
  uint64_t number_ = 0;
};

constexpr WindowIndex PageNumber::Window(size_t pages_per_window) const {
  return WindowIndex(number_ / pages_per_window);
}

}  // namespace cow

template <>
struct std::hash<cow::Pfn> {
  size_t operator()(cow::Pfn frame) const noexcept { return frame.number(); }
};

template <>
struct std::hash<cow::WindowIndex> {
  size_t operator()(cow::WindowIndex window) const noexcept { return window.number(); }
};
