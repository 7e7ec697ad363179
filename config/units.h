// Durations, sizes and numbers as people write them in the configuration and on the command line.
//
// Every parser takes the whole text or fails; the error is one phrase that names the text and says what is wrong with
// it, without a place. Pure functions, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace cow::config {

template <class T>
using Parsed = tl::expected<T, std::string>;

// Prometheus' form: `1h30m`, `10s`, `500ms`, units y w d h m s ms, largest first, each at most once; or a bare `0`.
Parsed<std::chrono::milliseconds> ParseDuration(std::string_view text);

// Go's form, which files of other exporters are written in: `1.5s`, `1h30m`, `250us`, units h m s ms us (or µs) ns; or
// a bare `0`. Not negative.
Parsed<std::chrono::nanoseconds> ParseGoDuration(std::string_view text);

// Bytes: a whole number with B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000); or a bare `0`.
Parsed<uint64_t> ParseSize(std::string_view text);

// What the parsers above read, as short as it is exact: "1h30m", "0s"; "256MiB", "1000B".
std::string FormatDuration(std::chrono::milliseconds duration);  // not negative
std::string FormatSize(uint64_t bytes);

// A decimal number. Infinity and NaN are none.
Parsed<double> ParseNumber(std::string_view text);

// A whole decimal number without sign.
Parsed<uint64_t> ParseInteger(std::string_view text);

// `text` in double quotes, control bytes escaped, cut after 64 bytes: safe to print to a terminal or a log.
std::string Quoted(std::string_view text);

}  // namespace cow::config
