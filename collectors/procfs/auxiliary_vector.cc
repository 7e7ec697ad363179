#include "collectors/procfs/auxiliary_vector.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>

namespace cow::procfs {
namespace {

constexpr size_t kMaxVectorBytes = size_t{64} << 10;  // far above what a kernel stores

template <class Word>
std::vector<std::pair<uint64_t, uint64_t>> Parse(std::string_view bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> values;
  std::array<Word, 2> pair{};
  for (; bytes.size() >= sizeof(pair); bytes.remove_prefix(sizeof(pair))) {
    std::memcpy(pair.data(), bytes.data(), sizeof(pair));
    const auto [type, value] = pair;
    if (type == AT_NULL) break;
    values.emplace_back(type, value);
  }
  return values;
}

}  // namespace

AuxiliaryVector::AuxiliaryVector(std::string_view bytes) : values_(Parse<uint64_t>(bytes)) {
  // Two words of 32 bits, read as one, are no type: their second half is a value.
  const bool is_narrow = std::any_of(values_.begin(), values_.end(), [](const auto& value) {
    return value.first > std::numeric_limits<uint32_t>::max();
  });
  if (is_narrow) values_ = Parse<uint32_t>(bytes);
}

std::optional<uint64_t> AuxiliaryVector::Find(uint64_t type) const {
  const auto found =
      std::find_if(values_.begin(), values_.end(), [type](const auto& value) { return value.first == type; });
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

Result<AuxiliaryVector> ReadAuxiliaryVector(const Root& root, const std::string& path) {
  const auto bytes = ReadTextFile(root, path, kMaxVectorBytes);
  if (!bytes) return tl::unexpected(bytes.error());
  return AuxiliaryVector(*bytes);
}

}  // namespace cow::procfs
