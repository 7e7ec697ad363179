// Moves each collector's cells when collectors are added or removed. Pure; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace cow::collectors {

// Where the cells of one remaining collector move.
struct CellMove {
  size_t from = 0;
  size_t to = 0;
  size_t count = 0;
};

// Returns `count` cells: moved cells at their new places, 0 elsewhere. `cells` may be empty.
template <class T>
std::vector<T> LaidOut(const std::vector<T>& cells, size_t count, std::span<const CellMove> moves) {
  std::vector<T> laid_out(count, T{});
  if (cells.empty()) return laid_out;
  for (const CellMove& move : moves) {
    const auto from = cells.begin() + static_cast<std::ptrdiff_t>(move.from);
    std::copy_n(from, move.count, laid_out.begin() + static_cast<std::ptrdiff_t>(move.to));
  }
  return laid_out;
}

}  // namespace cow::collectors
