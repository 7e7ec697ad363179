// Parsing helpers shared by the readers; not for use outside of this folder. Nothing here allocates but the errors.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "collectors/base/result.h"

namespace cow::text {

// Cuts the first line off `rest`, without its newline. False when `rest` is used up. A last line may lack the newline.
bool NextLine(std::string_view& rest, std::string_view& line);

// Cuts the first field off `rest`: blanks (spaces and tabs) before it are dropped, it ends before the next blank. Empty
// when there is no more.
std::string_view NextField(std::string_view& rest);

// Cuts off everything up to the first `separator`, which is dropped; the whole of `rest` where there is none.
std::string_view CutAt(std::string_view& rest, char separator);

// Without the blanks on both sides.
std::string_view Trim(std::string_view value);

// The value in double quotes on one line, unprintable bytes escaped, cut after some bytes: for errors.
std::string Quote(std::string_view value);

// All of `value` must be the number; no sign where T is unsigned, no blanks, and it must fit.
template <std::integral T>
std::optional<T> ParseNumber(std::string_view value, int base = 10) {
  T number{};
  const char* end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number, base);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

Error MissingField(const std::string& path, std::string_view field);
Error BadField(const std::string& path, std::string_view field, std::string_view value);

// The field that must be there and be a number; an empty `value` is a missing field.
template <std::integral T>
Result<T> NumberField(const std::string& path, std::string_view field, std::string_view value, int base = 10) {
  if (value.empty()) return tl::unexpected(MissingField(path, field));
  const auto number = ParseNumber<T>(value, base);
  if (!number) return tl::unexpected(BadField(path, field, value));
  return *number;
}

// "  123 kB" in bytes.
Result<uint64_t> KilobytesField(const std::string& path, std::string_view field, std::string_view value);

}  // namespace cow::text
