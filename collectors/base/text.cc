#include "collectors/base/text.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace cow::text {
namespace {

constexpr std::string_view kBlanks = " \t";
constexpr size_t kQuotedBytes = 64;
constexpr uint64_t kKilobyte = 1024;

}  // namespace

bool NextLine(std::string_view& rest, std::string_view& line) {
  if (rest.empty()) return false;
  line = CutAt(rest, '\n');
  return true;
}

std::string_view FirstLine(std::string_view text) { return Trim(CutAt(text, '\n')); }

// Compares byte by byte, which is fast because most fields are short; stat has fifty of them.
std::string_view NextField(std::string_view& rest) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  size_t begin = 0;
  while (begin < rest.size() && is_blank(rest[begin])) ++begin;
  size_t end = begin;
  while (end < rest.size() && !is_blank(rest[end])) ++end;
  const std::string_view field = rest.substr(begin, end - begin);
  rest.remove_prefix(end);
  return field;
}

std::string_view CutAt(std::string_view& rest, char separator) {
  const size_t length = rest.find(separator);
  const std::string_view part = rest.substr(0, length);
  rest.remove_prefix(length == std::string_view::npos ? rest.size() : length + 1);
  return part;
}

std::string_view Trim(std::string_view value) {
  value.remove_prefix(std::min(value.find_first_not_of(kBlanks), value.size()));
  return value.substr(0, value.find_last_not_of(kBlanks) + 1);
}

std::string Quote(std::string_view value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : value.substr(0, kQuotedBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      quoted += "\\x";
      quoted += kDigits[byte >> 4U];
      quoted += kDigits[byte & 0xfU];
    } else {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
  }
  quoted += value.size() > kQuotedBytes ? "\"..." : "\"";
  return quoted;
}

Error MissingField(const std::string& path, std::string_view field) {
  return Error::Malformed(path, std::string(field) + " is missing");
}

Error BadField(const std::string& path, std::string_view field, std::string_view value) {
  return Error::Malformed(path, "bad " + std::string(field) + ": " + Quote(value));
}

Result<uint64_t> KilobytesField(const std::string& path, std::string_view field, std::string_view value) {
  std::string_view rest = value;
  const auto kilobytes = NumberField<uint64_t>(path, field, NextField(rest));
  if (!kilobytes) return tl::unexpected(kilobytes.error());
  if (Trim(rest) != "kB" || *kilobytes > std::numeric_limits<uint64_t>::max() / kKilobyte) {
    return tl::unexpected(BadField(path, field, Trim(value)));
  }
  return *kilobytes * kKilobyte;
}

}  // namespace cow::text
