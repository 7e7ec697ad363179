// Parsing helpers of the kernel-file readers. Only errors and Quote allocate. Pure.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "collectors/base/result.h"

namespace cow::text {

// Removes the first line from `rest` and stores it in `line` without its newline. Returns false if `rest` is empty. The
// last line may lack a newline.
bool NextLine(std::string_view& rest, std::string_view& line);

// Returns the first line without blanks on both sides.
std::string_view FirstLine(std::string_view text);

// Removes the first field from `rest` and returns it. Blanks (spaces and tabs) separate fields. Returns an empty field
// if there are no more.
std::string_view NextField(std::string_view& rest);

// Removes everything up to and including the first `separator` from `rest` and returns it without the separator. Takes
// the whole of `rest` if it has no separator.
std::string_view CutAt(std::string_view& rest, char separator);

// Removes blanks on both sides.
std::string_view Trim(std::string_view value);

// Quotes a value for an error: double quotes, one line, unprintable bytes escaped, cut after 64 bytes.
std::string Quote(std::string_view value);

// Parses a number that takes all of `value` and fits in T. Accepts no blanks, and no sign if T is unsigned.
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

// Parses a required numeric field. An empty `value` means that the field is missing.
template <std::integral T>
Result<T> NumberField(const std::string& path, std::string_view field, std::string_view value, int base = 10) {
  if (value.empty()) return tl::unexpected(MissingField(path, field));
  const auto number = ParseNumber<T>(value, base);
  if (!number) return tl::unexpected(BadField(path, field, value));
  return *number;
}

// Parses several required numeric fields. Keeps the first error.
class NumberFields {
 public:
  explicit NumberFields(const std::string& path) : path_(path) {}

  // Stores the number in `number`, unless there is an error.
  template <std::integral T>
  void Get(std::string_view field, std::string_view value, T& number, int base = 10) {
    if (error_) return;
    auto parsed = NumberField<T>(path_, field, value, base);
    if (parsed) {
      number = *parsed;
    } else {
      error_ = std::move(parsed.error());
    }
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const std::string& path_;
  std::optional<Error> error_;
};

// Parses "  123 kB" and returns bytes.
Result<uint64_t> KilobytesField(const std::string& path, std::string_view field, std::string_view value);

}  // namespace cow::text
