// Writes log lines with fields, as logfmt (`ts=… level=info msg=listening address=127.0.0.1:10066`) or as one JSON
// object per line. Quotes and escapes values; replaces invalid UTF-8 by U+FFFD.
//
// Throws only bad_alloc; drops a line that cannot be written. Any thread.
#pragma once

#include <spdlog/logger.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "exporter/log/line_writer.h"

namespace cow::exporter {

enum class LogFormat { kLogfmt, kJson };
enum class LogLevel {
  kDebug = spdlog::level::debug,
  kInfo = spdlog::level::info,
  kWarn = spdlog::level::warn,
  kError = spdlog::level::err
};
inline constexpr std::array<std::pair<std::string_view, LogLevel>, 4> kLogLevels{
    {{"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo}, {"warn", LogLevel::kWarn}, {"error", LogLevel::kError}}};

struct LogField {
  std::string_view key;  // a plain name
  std::string value;
};
using LogFields = std::initializer_list<LogField>;

class Log {
 public:
  Log(LogLevel level, LogFormat format, spdlog::sink_ptr sink);
  // Never blocks: drops lines while standard error takes none.
  static Log ToStderr(LogLevel level, LogFormat format);

  void Debug(std::string_view message, LogFields fields = {}) { Write(LogLevel::kDebug, message, fields); }
  void Info(std::string_view message, LogFields fields = {}) { Write(LogLevel::kInfo, message, fields); }
  void Warn(std::string_view message, LogFields fields = {}) { Write(LogLevel::kWarn, message, fields); }
  void Error(std::string_view message, LogFields fields = {}) { Write(LogLevel::kError, message, fields); }

  // Waits briefly until all lines are written.
  void Flush() { logger_.flush(); }
  // Lines that standard error did not take.
  [[nodiscard]] uint64_t DroppedLines() const;

 private:
  void Write(LogLevel level, std::string_view message, LogFields fields);

  LogFormat format_;
  spdlog::logger logger_;
  std::shared_ptr<const LineWriter> writer_;  // only of ToStderr
};

}  // namespace cow::exporter
