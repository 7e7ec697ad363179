#include "config/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <system_error>

#include "collectors/base/utf8.h"

namespace cow::config {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr uint64_t kMaxMilliseconds =
    std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds::max()).count();

constexpr uint64_t kSecond = 1000;
constexpr uint64_t kDay = 86400 * kSecond;
constexpr std::array<Unit, 7> kDurationUnits = {{{"y", 365 * kDay},
                                                 {"w", 7 * kDay},
                                                 {"d", kDay},
                                                 {"h", 3600 * kSecond},
                                                 {"m", 60 * kSecond},
                                                 {"s", kSecond},
                                                 {"ms", 1}}};

constexpr uint64_t kMillisecondInNs = 1'000'000;
constexpr std::array<Unit, 8> kGoUnits = {{{"h", 3'600'000 * kMillisecondInNs},
                                           {"m", 60'000 * kMillisecondInNs},
                                           {"s", 1'000 * kMillisecondInNs},
                                           {"ms", kMillisecondInNs},
                                           {"us", 1'000},
                                           {"\u00b5s", 1'000},  // the micro sign
                                           {"\u03bcs", 1'000},  // and the Greek letter
                                           {"ns", 1}}};

constexpr std::array<Unit, 9> kSizeUnits = {{{"B", 1},
                                             {"KiB", uint64_t{1} << 10},
                                             {"MiB", uint64_t{1} << 20},
                                             {"GiB", uint64_t{1} << 30},
                                             {"TiB", uint64_t{1} << 40},
                                             {"kB", 1'000},
                                             {"MB", 1'000'000},
                                             {"GB", 1'000'000'000},
                                             {"TB", 1'000'000'000'000}}};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Removes the leading digits from `rest`. Fails without digits and on overflow of 64 bits.
std::optional<uint64_t> TakeInteger(std::string_view& rest) {
  uint64_t value = 0;
  if (rest.empty() || !IsDigit(rest.front())) return std::nullopt;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc{}) return std::nullopt;
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  return value;
}

std::string_view TakeUnit(std::string_view& rest) {
  size_t length = 0;
  while (length < rest.size() && !IsDigit(rest[length])) ++length;
  const std::string_view unit = rest.substr(0, length);
  rest.remove_prefix(length);
  return unit;
}

// a * b + c, or nothing beyond `limit`.
std::optional<uint64_t> MultiplyAdd(uint64_t a, uint64_t b, uint64_t c, uint64_t limit) {
  uint64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result) || __builtin_add_overflow(result, c, &result) || result > limit) {
    return std::nullopt;
  }
  return result;
}

tl::unexpected<std::string> Bad(std::string_view kind, std::string_view text, std::string_view why) {
  std::string message = "bad ";
  message.append(kind).append(" ").append(Quoted(text)).append(": ").append(why);
  return tl::unexpected(message);
}

// Returns the index of a unit. `known` lists the units for errors.
template <size_t N>
Parsed<size_t> FindUnit(const std::array<Unit, N>& units, std::string_view name, const std::string& known,
                        std::string_view kind, std::string_view text) {
  if (name.empty()) return Bad(kind, text, "no unit (" + known + ")");
  size_t i = 0;
  while (i < N && units[i].name != name) ++i;
  if (i == N) return Bad(kind, text, "unknown unit " + Quoted(name) + " (known: " + known + ")");
  return i;
}

// False for control characters (U+0000 to U+001F, U+007F to U+009F) and for bytes that are not UTF-8.
bool IsPrintable(std::string_view character) {
  const auto first = static_cast<unsigned char>(character.front());
  if (character.size() == 1) return first >= 0x20 && first < 0x7f;
  return first != 0xc2 || static_cast<unsigned char>(character[1]) >= 0xa0;
}

}  // namespace

Parsed<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  constexpr std::string_view kKind = "duration";
  constexpr std::string_view kForm = "expected something like 10s, 1h30m or 500ms";
  if (text == "0") return std::chrono::milliseconds{0};
  if (text.empty() || !IsDigit(text.front())) return Bad(kKind, text, kForm);
  uint64_t total = 0;
  size_t next_unit = 0;  // units must become smaller
  for (std::string_view rest = text; !rest.empty();) {
    const auto count = TakeInteger(rest);
    if (!count) return Bad(kKind, text, "too large");
    const auto unit = FindUnit(kDurationUnits, TakeUnit(rest), "y, w, d, h, m, s, ms", kKind, text);
    if (!unit) return tl::unexpected(unit.error());
    if (*unit < next_unit) return Bad(kKind, text, "units must go from large to small, each once");
    next_unit = *unit + 1;
    const auto sum = MultiplyAdd(*count, kDurationUnits.at(*unit).factor, total, kMaxMilliseconds);
    if (!sum) return Bad(kKind, text, "too large");
    total = *sum;
  }
  return std::chrono::milliseconds{static_cast<std::chrono::milliseconds::rep>(total)};
}

Parsed<std::chrono::nanoseconds> ParseGoDuration(std::string_view text) {
  constexpr std::string_view kKind = "duration";
  constexpr size_t kMaxDigits = 18;  // more digits exceed the precision of nanoseconds
  constexpr auto kMax = static_cast<double>(std::chrono::nanoseconds::max().count());
  if (text == "0") return std::chrono::nanoseconds{0};
  if (text.empty()) return Bad(kKind, text, "expected something like 1s, 1.5s or 100ms");
  double total = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t length = std::min(rest.find_first_not_of("0123456789."), rest.size());
    const auto count = length > kMaxDigits ? std::nullopt : std::optional(ParseNumber(rest.substr(0, length)));
    if (!count || !*count) return Bad(kKind, text, "expected something like 1s, 1.5s or 100ms");
    rest.remove_prefix(length);
    const auto unit = FindUnit(kGoUnits, TakeUnit(rest), "h, m, s, ms, us, ns", kKind, text);
    if (!unit) return tl::unexpected(unit.error());
    total += **count * static_cast<double>(kGoUnits.at(*unit).factor);
    if (total >= kMax) return Bad(kKind, text, "too large");
  }
  return std::chrono::nanoseconds{std::llround(std::ceil(total))};  // a small duration must not become 0
}

Parsed<uint64_t> ParseSize(std::string_view text) {
  constexpr std::string_view kKind = "size";
  if (text == "0") return uint64_t{0};
  if (text.empty() || !IsDigit(text.front())) return Bad(kKind, text, "expected something like 256MiB or 0B");
  std::string_view rest = text;
  const auto count = TakeInteger(rest);
  if (!count) return Bad(kKind, text, "too large");
  const auto unit = FindUnit(kSizeUnits, rest, "B, KiB, MiB, GiB, TiB, kB, MB, GB, TB", kKind, text);
  if (!unit) return tl::unexpected(unit.error());
  const auto bytes = MultiplyAdd(*count, kSizeUnits.at(*unit).factor, 0, std::numeric_limits<uint64_t>::max());
  if (!bytes) return Bad(kKind, text, "too large");
  return *bytes;
}

std::string FormatDuration(std::chrono::milliseconds duration) {
  constexpr size_t kHours = 3;  // write no larger unit than hours
  auto rest = static_cast<uint64_t>(duration.count());
  std::string text;
  for (size_t i = kHours; i < kDurationUnits.size(); ++i) {
    const Unit& unit = kDurationUnits.at(i);
    if (rest >= unit.factor) text.append(std::to_string(rest / unit.factor)).append(unit.name);
    rest %= unit.factor;
  }
  return text.empty() ? "0s" : text;
}

std::string FormatSize(uint64_t bytes) {
  constexpr size_t kTebibytes = 4;
  size_t unit = bytes == 0 ? 0 : kTebibytes;
  while (bytes % kSizeUnits.at(unit).factor != 0) --unit;
  return std::to_string(bytes / kSizeUnits.at(unit).factor).append(kSizeUnits.at(unit).name);
}

Parsed<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Bad("number", text, "too large or too small");
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    return Bad("number", text, "expected a decimal number");
  }
  return value;
}

Parsed<uint64_t> ParseInteger(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Bad("number", text, "too large");
  if (error != std::errc{} || end != text.data() + text.size()) return Bad("number", text, "expected a whole number");
  return value;
}

Parsed<uint64_t> ParseIntegerIn(std::string_view text, uint64_t low, uint64_t high) {
  auto value = ParseInteger(text);
  if (!value || (*value >= low && *value <= high)) return value;
  return tl::unexpected(Quoted(text) + " is out of range: it must be from " + std::to_string(low) + " to " +
                        std::to_string(high));
}

std::string Escaped(std::string_view text, std::string_view special) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string escaped;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t length = std::max<size_t>(Utf8CharacterLength(rest), 1);
    const std::string_view character = rest.substr(0, length);
    rest.remove_prefix(length);
    if (special.find(character.front()) != std::string_view::npos) {
      escaped.append("\\").append(character);
    } else if (IsPrintable(character)) {
      escaped += character;
    } else {
      for (const char c : character) {
        escaped += "\\x";
        escaped += kHex[static_cast<unsigned char>(c) >> 4U];
        escaped += kHex[static_cast<unsigned char>(c) & 0xfU];
      }
    }
  }
  return escaped;
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMaxBytes = 64;
  std::string quoted = "\"";
  quoted += Escaped(text.substr(0, kMaxBytes), "\"\\");
  quoted += text.size() > kMaxBytes ? "...\"" : "\"";
  return quoted;
}

}  // namespace cow::config
