#include "exporter/log/log.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

namespace cow::exporter {
namespace {

std::string_view LevelName(LogLevel level) {
  return std::find_if(kLogLevels.begin(), kLogLevels.end(),
                      [level](const auto& known) { return known.second == level; })
      ->first;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) { return static_cast<spdlog::level::level_enum>(level); }

// UTC with milliseconds (RFC 3339).
std::string Timestamp() {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)),
                     (now - seconds).count());
}

// A JSON string. logfmt uses the same quotes and escapes.
void AppendQuoted(std::string_view value, std::string& line) {
  line += nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool NeedsQuotes(std::string_view value) {
  return value.empty() || std::any_of(value.begin(), value.end(), [](char c) {
           return c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f;  // bytes from 0x80 are negative
         });
}

void AppendLogfmt(std::string_view key, std::string_view value, std::string& line) {
  if (!line.empty()) line += ' ';
  line.append(key).append("=");
  if (NeedsQuotes(value)) {
    AppendQuoted(value, line);
  } else {
    line += value;
  }
}

void AppendJson(std::string_view key, std::string_view value, std::string& line) {
  line += line.empty() ? '{' : ',';
  AppendQuoted(key, line);
  line += ':';
  AppendQuoted(value, line);
}

std::string FormatLine(LogFormat format, LogLevel level, std::string_view message, LogFields fields) {
  const auto append = format == LogFormat::kJson ? &AppendJson : &AppendLogfmt;
  std::string line;
  append("ts", Timestamp(), line);
  append("level", LevelName(level), line);
  append("msg", message, line);
  for (const LogField& field : fields) append(field.key, field.value, line);
  if (format == LogFormat::kJson) line += '}';
  return line;
}

}  // namespace

Log::Log(LogLevel level, LogFormat format, spdlog::sink_ptr sink) : format_(format), logger_("", std::move(sink)) {
  logger_.set_level(ToSpdlog(level));
  logger_.set_pattern("%v");
  logger_.set_error_handler([](const std::string& /*message*/) {});  // drop the line
}

Log Log::ToStderr(LogLevel level, LogFormat format) {
  const auto report = [format](uint64_t dropped) {
    return FormatLine(format, LogLevel::kWarn, "dropped " + std::to_string(dropped) + " log lines", {}) + "\n";
  };
  auto writer = std::make_shared<LineWriter>(STDERR_FILENO, report);
  Log log(level, format, writer);
  log.writer_ = std::move(writer);
  return log;
}

uint64_t Log::DroppedLines() const { return writer_ ? writer_->DroppedLines() : 0; }

void Log::Write(LogLevel level, std::string_view message, LogFields fields) {
  if (!logger_.should_log(ToSpdlog(level))) return;
  const std::string line = FormatLine(format_, level, message, fields);
  logger_.log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace cow::exporter
