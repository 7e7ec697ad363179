// Where the numbers of each collector are among those of all, when others come and go. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace cow::collectors {

// Cells that stay: of one collector.
struct CellMove {
  size_t from = 0;
  size_t to = 0;
  size_t count = 0;
};

// So many cells, those that stay at their new places and the others 0. None of `cells` may be there yet.
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
