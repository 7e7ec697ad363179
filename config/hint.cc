#include "config/hint.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace cow::config {
namespace {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (const char c : a) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (c == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

const std::string* Nearest(std::string_view name, const std::vector<std::string>& valid) {
  constexpr size_t kMaxNameBytes = 64;
  if (name.size() > kMaxNameBytes) return nullptr;
  const std::string* nearest = nullptr;
  size_t best = std::max<size_t>(2, name.size() / 2);
  for (const std::string& candidate : valid) {
    if (candidate.size() > kMaxNameBytes) continue;
    const size_t distance = EditDistance(name, candidate);
    if (distance < best || (distance == best && nearest == nullptr)) {
      best = distance;
      nearest = &candidate;
    }
  }
  return nearest;
}

std::string Hint(std::string_view name, const std::vector<std::string>& valid) {
  constexpr size_t kMaxListed = 40;
  if (valid.empty()) return "none is valid here";
  if (const std::string* nearest = Nearest(name, valid)) return "did you mean \"" + *nearest + "\"?";
  std::string all = "valid here: ";
  for (size_t i = 0; i < std::min(valid.size(), kMaxListed); ++i) {
    if (i != 0) all += ", ";
    all += valid[i];
  }
  if (valid.size() > kMaxListed) all += " and " + std::to_string(valid.size() - kMaxListed) + " more";
  return all;
}

}  // namespace cow::config
