#include "exporter/explain/arguments.h"

#include <charconv>
#include <limits>
#include <string>
#include <system_error>

namespace cow::exporter {

using config::Parsed;
using config::Quoted;

Parsed<pid_t> ParsePid(std::string_view text) {
  const auto pid = config::ParseInteger(text);
  if (!pid || *pid == 0 || *pid > static_cast<uint64_t>(std::numeric_limits<pid_t>::max())) {
    return tl::unexpected("bad process id " + Quoted(text));
  }
  return static_cast<pid_t>(*pid);
}

Parsed<uint64_t> ParseAddress(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  uint64_t address = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), address, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return tl::unexpected("bad address " + Quoted(text) + ": expected hexadecimal digits");
  }
  return address;
}

}  // namespace cow::exporter
