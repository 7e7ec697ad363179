// Numbers of pages and windows as types of their own: a call that confuses two of them does not compile.
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

  friend constexpr auto operator<=>(WindowIndex, WindowIndex) = default;

 private:
  uint64_t number_ = 0;
};

constexpr WindowIndex PageNumber::Window(size_t pages_per_window) const {
  return WindowIndex(number_ / pages_per_window);
}

}  // namespace cow

template <>
struct std::hash<cow::WindowIndex> {
  size_t operator()(cow::WindowIndex window) const noexcept { return window.number(); }
};
