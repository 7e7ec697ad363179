// Which windows of a family that is too large to be read whole are read in a pass: a stratified random sample, drawn
// anew for each pass.
//
// Windows are taken in the order of their addresses, those that no pass has read yet apart from the others, and cut
// into strata of neighbours; of each stratum the same share is drawn, without replacement, each window with the same
// chance. A window that no draw has hit for long is read for certain. Remembers between passes when each window was
// read, so that what a member shows there for the first time can be told from what has changed. Pure; not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cow::memory {

// What Sampling::StratumOf says of a window that belongs to none: it is read whatever is drawn, or not read.
inline constexpr uint32_t kCertain = ~uint32_t{0};
inline constexpr uint32_t kNotDrawn = kCertain - 1;

struct Stratum {
  uint64_t windows = 0;
  uint64_t drawn = 0;  // two at least, fewer than `windows`
};

struct PlannedWindow {
  uint64_t window = 0;
  bool certain = false;  // to be read whatever is drawn
};

struct SampleRequest {
  double share = 1;  // of the windows, to be drawn
  std::chrono::steady_clock::time_point now;
  // A window is read for certain after half to all of this time, each after another part of it.
  std::chrono::milliseconds full_every{0};
  uint64_t seed = 0;
};

class Sampling {
 public:
  // Fewer windows than this tell too little: as many are drawn whatever the share is.
  static constexpr uint64_t kLeastDrawn = 16;

  // A pass begins. `windows` are all that somebody maps, ascending; others are forgotten.
  void Draw(std::span<const PlannedWindow> windows, const SampleRequest& request);
  // No pass is sampled any more, until the next Draw.
  void Clear();
  bool active() const { return active_; }

  // Number of the pass under way, from 1; of all that this family's passes ever drew.
  uint64_t pass() const { return pass_; }
  // The window's stratum in it, or kCertain (also of windows that nobody maps), or kNotDrawn.
  uint32_t StratumOf(uint64_t window) const;
  std::span<const Stratum> strata() const { return strata_; }
  // Every window is read.
  bool IsWhole() const { return active_ && strata_.empty(); }

  void WasRead(uint64_t window, std::chrono::steady_clock::time_point now);
  // The window has not been read since the pass `joined`, in which it was there: what a member that was seen first in
  // that pass shows now, it may have had from its fork on.
  bool IsFirstLook(uint64_t window, uint64_t joined) const;

  // Bytes of heap.
  size_t MemoryBytes() const;

 private:
  struct Window {
    uint64_t number = 0;
    uint64_t planned = 0;                         // the pass in which it was mapped first
    uint64_t read = 0;                            // the last pass that read it; 0: none
    std::chrono::steady_clock::time_point since;  // when it was read last, or planned first
    uint32_t stratum = kNotDrawn;
  };

  void TakeOver(std::span<const PlannedWindow> windows, std::chrono::steady_clock::time_point now);
  static bool IsOverdue(const Window& window, const SampleRequest& request);
  template <class Random>
  void DrawFrom(std::span<const size_t> windows, double share, Random& random);
  const Window* Find(uint64_t window) const;

  uint64_t pass_ = 0;
  bool active_ = false;
  std::vector<Window> windows_;  // ascending
  std::vector<Stratum> strata_;
};

}  // namespace cow::memory
