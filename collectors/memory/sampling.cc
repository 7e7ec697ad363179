#include "collectors/memory/sampling.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>

#include "collectors/memory/half_to_all.h"

namespace cow::memory {
namespace {

// Enough for a fair estimate of a stratum's variance; more and smaller strata would estimate it worse, fewer and larger
// ones would have more of it.
constexpr uint64_t kDrawnPerStratum = 8;

}  // namespace

void Sampling::Draw(std::span<const PlannedWindow> windows, const SampleRequest& request) {
  ++pass_;
  active_ = true;
  strata_.clear();
  TakeOver(windows, request.now);
  std::vector<size_t> never_read;
  std::vector<size_t> known;
  for (size_t i = 0; i < windows_.size(); ++i) {
    Window& window = windows_[i];
    window.stratum = kNotDrawn;
    if (windows[i].certain || request.share >= 1 || IsOverdue(window, request)) {
      window.stratum = kCertain;
    } else {
      (window.read == 0 ? never_read : known).push_back(i);
    }
  }
  std::seed_seq seed{request.seed & 0xffffffffU, request.seed >> 32U, pass_};
  std::mt19937_64 random(seed);
  DrawFrom(never_read, request.share, random);
  DrawFrom(known, request.share, random);
}

void Sampling::Clear() {
  active_ = false;
  windows_ = {};
  strata_ = {};
}

// What is known of windows that are still mapped.
void Sampling::TakeOver(std::span<const PlannedWindow> windows, std::chrono::steady_clock::time_point now) {
  std::vector<Window> taken;
  taken.reserve(windows.size());
  size_t old = 0;
  for (const PlannedWindow& planned : windows) {
    while (old < windows_.size() && windows_[old].number < planned.window) ++old;
    const bool known = old < windows_.size() && windows_[old].number == planned.window;
    taken.push_back(known ? windows_[old] : Window{planned.window, pass_, 0, now, kNotDrawn});
  }
  windows_ = std::move(taken);
}

// The time differs by window, so that those that were read together are not all read together again.
bool Sampling::IsOverdue(const Window& window, const SampleRequest& request) {
  const uint64_t mixed = window.number * 0x9e3779b97f4a7c15U >> 32U;
  return request.now - window.since >= HalfToAll(request.full_every, mixed);
}

// `windows`: indexes, ascending.
template <class Random>
void Sampling::DrawFrom(std::span<const size_t> windows, double share, Random& random) {
  const uint64_t all = windows.size();
  const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(all)));
  const uint64_t draws = std::min(all, std::max(wanted, kLeastDrawn));
  const uint64_t parts = std::max<uint64_t>(draws / kDrawnPerStratum, 1);
  std::vector<size_t> drawn;
  for (uint64_t part = 0; part < parts && all != 0; ++part) {
    const uint64_t begin = all * part / parts;
    const uint64_t end = all * (part + 1) / parts;
    const uint64_t count = draws * (part + 1) / parts - draws * part / parts;
    const std::span<const size_t> stratum = windows.subspan(begin, end - begin);
    const bool whole = count >= stratum.size();
    drawn.clear();
    std::sample(stratum.begin(), stratum.end(), std::back_inserter(drawn), static_cast<int64_t>(count), random);
    for (const size_t i : drawn) windows_[i].stratum = whole ? kCertain : static_cast<uint32_t>(strata_.size());
    if (!whole) strata_.push_back({stratum.size(), count});
  }
}

const Sampling::Window* Sampling::Find(uint64_t window) const {
  const auto found = std::lower_bound(windows_.begin(), windows_.end(), window,
                                      [](const Window& each, uint64_t number) { return each.number < number; });
  return found != windows_.end() && found->number == window ? &*found : nullptr;
}

uint32_t Sampling::StratumOf(uint64_t window) const {
  const Window* found = Find(window);
  return found == nullptr ? kCertain : found->stratum;
}

void Sampling::WasRead(uint64_t window, std::chrono::steady_clock::time_point now) {
  const Window* found = Find(window);
  if (found == nullptr) return;
  Window& known = windows_[static_cast<size_t>(found - windows_.data())];
  known.read = pass_;
  known.since = now;
}

bool Sampling::IsFirstLook(uint64_t window, uint64_t joined) const {
  const Window* found = Find(window);
  return joined != 0 && found != nullptr && found->planned <= joined && found->read < joined;
}

size_t Sampling::MemoryBytes() const {
  return windows_.capacity() * sizeof(Window) + strata_.capacity() * sizeof(Stratum);
}

}  // namespace cow::memory
