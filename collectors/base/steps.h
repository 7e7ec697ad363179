// Work in steps. It rests after each one, and its caller decides when it goes on.
//
//   Steps Sum(std::span<const uint64_t> items, uint64_t& sum) {
//     Pace pace;
//     for (const uint64_t item : items) {
//       sum += item;
//       if (pace.IsDue()) co_await Rest();
//     }
//   }
//
// `Steps sum = Sum(items, total); while (sum.Next()) {}` does it. Work that awaits other work (`co_await Sum(…)`) rests
// where that one rests. What it was given by reference has to outlive it. Destroyed before its end, it is left as it
// is. Not thread-safe; each step may be made by another thread.
#pragma once

#include <algorithm>
#include <array>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace cow {

class [[nodiscard]] Steps {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  // Goes on with the work that awaited this one.
  struct End {
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle ended) const noexcept;
    void await_resume() const noexcept {}
  };
  struct promise_type {
    Steps get_return_object() { return Steps(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    End final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { error = std::current_exception(); }

    promise_type* outermost = this;
    Handle innermost;  // of the outermost: the work that rests
    Handle awaiting;   // the work that awaits this one; empty for the outermost
    std::exception_ptr error;
  };
  struct Inner {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    Handle await_suspend(Handle awaiting) const noexcept {
      promise_type& inner = handle.promise();
      inner.awaiting = awaiting;
      inner.outermost = awaiting.promise().outermost;
      inner.outermost->innermost = handle;
      return handle;
    }
    void await_resume() const {
      if (handle.promise().error) std::rethrow_exception(handle.promise().error);
    }
  };

  explicit Steps(Handle handle) : handle_(handle) { handle.promise().innermost = handle; }
  Steps(Steps&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Steps& operator=(Steps&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Steps() {
    if (handle_) handle_.destroy();
  }

  // Makes a step. False if it was the last one. Throws what the work throws, which has ended then.
  bool Next() {
    promise_type& promise = handle_.promise();
    promise.innermost.resume();
    if (promise.error) std::rethrow_exception(promise.error);
    return !handle_.done();
  }
  void MakeAll() {
    while (Next()) {
    }
  }

  Inner operator co_await() && noexcept { return {handle_}; }

 private:
  Handle handle_;
};

inline std::coroutine_handle<> Steps::End::await_suspend(Handle ended) const noexcept {
  const promise_type& promise = ended.promise();
  if (!promise.awaiting) return std::noop_coroutine();
  promise.outermost->innermost = promise.awaiting;
  return promise.awaiting;
}

using Rest = std::suspend_always;

// Tells when a step has been long enough: about half a millisecond where a unit is some ten nanoseconds.
class Pace {
 public:
  bool IsDue(size_t units = 1) {
    done_ += units;
    if (done_ < kUnits) return false;
    done_ = 0;
    return true;
  }

 private:
  static constexpr size_t kUnits = 16384;
  size_t done_ = 0;
};

// As std::sort, in place. The longest step goes twice through all items.
template <class Item, class Less = std::less<Item>>
Steps SortInSteps(std::span<Item> items, Less less = {}) {
  constexpr size_t kFew = 2048;
  constexpr size_t kSample = 31;
  Pace pace;
  std::vector<std::span<Item>> parts{items};
  while (!parts.empty()) {
    const std::span<Item> part = parts.back();
    parts.pop_back();
    if (part.size() <= kFew) {
      std::sort(part.begin(), part.end(), less);
    } else {
      std::array<Item, kSample> sample;
      for (size_t i = 0; i < kSample; ++i) sample[i] = part[i * part.size() / kSample];
      std::sort(sample.begin(), sample.end(), less);
      const Item& pivot = sample[kSample / 2];
      const auto above = std::partition(part.begin(), part.end(), [&](const Item& item) { return less(item, pivot); });
      // Those that equal the pivot, itself at least, are in place.
      const auto beyond = std::partition(above, part.end(), [&](const Item& item) { return !less(pivot, item); });
      parts.emplace_back(part.begin(), above);
      parts.emplace_back(beyond, part.end());
    }
    if (pace.IsDue(part.size())) co_await Rest();
  }
}

// As SortUnique.
template <class Item>
Steps SortUniqueInSteps(std::vector<Item>& items) {
  co_await SortInSteps(std::span(items));
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

}  // namespace cow
