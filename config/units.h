// Parses and formats durations, sizes and numbers of the configuration and the command line.
//
// A parser must consume the whole text. Its error is one phrase that quotes the text and names no place. Pure
// functions, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace cow::config {

template <class T>
using Parsed = tl::expected<T, std::string>;

// Prometheus' format: `1h30m`, `10s`, `500ms`; units y w d h m s ms, largest first, each at most once; or a bare `0`.
Parsed<std::chrono::milliseconds> ParseDuration(std::string_view text);

// Go's format, which exporter-toolkit uses: `1.5s`, `1h30m`, `250us`; units h m s ms us (or µs) ns; or a bare `0`.
// Rejects negative values.
Parsed<std::chrono::nanoseconds> ParseGoDuration(std::string_view text);

// Bytes: a whole number with B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000); or a bare `0`.
Parsed<uint64_t> ParseSize(std::string_view text);

// The inverse of the parsers, in the shortest exact form: "1h30m", "0s"; "256MiB", "1000B".
std::string FormatDuration(std::chrono::milliseconds duration);  // not negative
std::string FormatSize(uint64_t bytes);

// A finite decimal number.
Parsed<double> ParseNumber(std::string_view text);

// A whole decimal number without sign.
Parsed<uint64_t> ParseInteger(std::string_view text);
Parsed<uint64_t> ParseIntegerIn(std::string_view text, uint64_t low, uint64_t high);

// Text that may contain what a user wrote, for a message: control characters and bytes that are not UTF-8 become \xNN,
// and a backslash precedes characters in `special`.
std::string Escaped(std::string_view text, std::string_view special = "");

// Quotes a text for a terminal or a log: escapes control characters and bytes that are not UTF-8, and truncates after
// 64 bytes.
std::string Quoted(std::string_view text);

}  // namespace cow::config
