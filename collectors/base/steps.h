// Splits long work into steps with a coroutine. The work pauses after each step, and the caller starts the next one.
//
//   Steps Sum(std::span<const uint64_t> items, uint64_t& sum) {
//     Pace pace;
//     for (const uint64_t item : items) {
//       sum += item;
//       if (pace.IsDue()) co_await Rest();
//     }
//   }
//
// `Steps sum = Sum(items, total); while (sum.Next()) {}` runs it. Work that awaits other work (`co_await Sum(…)`)
// pauses wherever that work pauses. Arguments passed by reference must outlive the work. Destroying it early abandons
// the remaining steps. Not thread-safe, but each step may run in a different thread.
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

  // Resumes the work that awaited this one.
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
    Handle innermost;  // the paused work; set in the outermost only
    Handle awaiting;   // the work that awaits this one; empty in the outermost
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

  // Runs one step. Returns false after the last one. If the work throws, it has ended, and Next rethrows the exception.
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

// Lets a caller stop long work. The work calls it between two steps. If it returns false, the work stops as soon as its
// state is consistent.
using MayGoOn = std::function<bool()>;

// Tells when a step has run long enough. A step takes about half a millisecond if a unit takes tens of nanoseconds.
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

// Sorts in place, like std::sort. The longest step passes over all items twice.
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
      // Items equal to the pivot, at least the pivot itself, are in place.
      const auto beyond = std::partition(above, part.end(), [&](const Item& item) { return !less(pivot, item); });
      parts.emplace_back(part.begin(), above);
      parts.emplace_back(beyond, part.end());
    }
    if (pace.IsDue(part.size())) co_await Rest();
  }
}

// Does the same as SortUnique.
template <class Item>
Steps SortUniqueInSteps(std::vector<Item>& items) {
  co_await SortInSteps(std::span(items));
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

}  // namespace cow
