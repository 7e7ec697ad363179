#include "exporter/explain/arguments.h"

#include <algorithm>
#include <limits>
#include <string>

#include "collectors/base/text.h"

namespace cow::exporter {

using config::Parsed;
using config::Quoted;

Parsed<pid_t> ParsePid(std::string_view text) {
  const auto pid = config::ParseIntegerIn(text, 1, std::numeric_limits<pid_t>::max());
  if (!pid) return tl::unexpected("bad process id " + Quoted(text));
  return static_cast<pid_t>(*pid);
}

bool IsPid(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Parsed<uint64_t> ParseAddress(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  const auto address = text::ParseNumber<uint64_t>(digits, 16);
  if (!address) return tl::unexpected("bad address " + Quoted(text) + ": expected hexadecimal digits");
  return *address;
}

Parsed<std::string> ParsePath(std::string_view text) {
  if (text.empty() || text.find('\0') != std::string_view::npos) return tl::unexpected(std::string("expected a path"));
  return std::string(text);
}

}  // namespace cow::exporter
