// Reads choices from a fuzzer's input. An input that is used up gives zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace cow::fuzz {

inline std::string_view Text(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : rest_(data, size) {}

  [[nodiscard]] bool Empty() const { return rest_.empty(); }

  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t byte = rest_.front();
    rest_ = rest_.subspan(1);
    return byte;
  }
  // A number below `limit`, which is at most 65536.
  uint64_t Below(uint64_t limit) {
    uint64_t number = Byte();
    if (limit > 256) number = number << 8U | Byte();
    return number % limit;
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace cow::fuzz
