#include "exporter/log/log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace cow::exporter {
namespace {

class LogTest : public testing::Test {
 protected:
  Log Make(LogLevel level, LogFormat format) {
    return {level, format, std::make_shared<spdlog::sinks::ostream_sink_mt>(out_)};
  }
  // The log with its times replaced.
  std::string Text() const {
    constexpr std::string_view kForm = "2026-11-20T16:17:03.168Z";
    std::string text = out_.str();
    for (size_t i = 0; i + kForm.size() <= text.size(); ++i) {
      if (IsTime(std::string_view(text).substr(i, kForm.size()), kForm)) text.replace(i, kForm.size(), "NOW");
    }
    return text;
  }
  static bool IsTime(std::string_view text, std::string_view form) {
    const auto same = [](char a, char b) { return IsDigit(a) ? IsDigit(b) : a == b; };
    return std::equal(text.begin(), text.end(), form.begin(), form.end(), same);
  }
  static bool IsDigit(char c) { return c >= '0' && c <= '9'; }

  std::ostringstream out_;
};

TEST_F(LogTest, LogfmtQuotesOnlyWhereNeeded) {
  Log log = Make(LogLevel::kInfo, LogFormat::kLogfmt);
  log.Info("listening", {{"address", "127.0.0.1:41234"}});
  log.Error("two words", {{"a", ""}, {"b", "x=y"}, {"c", "q\"\\\n\t\x01"}, {"d", "\xff|\xc3\xa9"}, {"e", "[::1]:1"}});
  EXPECT_EQ(Text(),
            "ts=NOW level=info msg=listening address=127.0.0.1:41234\n"
            "ts=NOW level=error msg=\"two words\" a=\"\" b=\"x=y\" c=\"q\\\"\\\\\\n\\t\\u0001\" "
            "d=\"\xef\xbf\xbd|\xc3\xa9\" e=[::1]:1\n");
}

TEST_F(LogTest, JsonIsOneObjectPerLine) {
  Log log = Make(LogLevel::kInfo, LogFormat::kJson);
  log.Warn("a {} b", {{"k", "v\"\n\xed\xa0\x80"}});
  EXPECT_EQ(Text(),
            "{\"ts\":\"NOW\",\"level\":\"warn\",\"msg\":\"a {} "
            "b\",\"k\":\"v\\\"\\n\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}\n");
}

// A process name can contain any byte but NUL.
TEST_F(LogTest, AnyBytesMakeOneValidLine) {
  Log json = Make(LogLevel::kInfo, LogFormat::kJson);
  std::mt19937 random(1);  // NOLINT: the same each time
  std::vector<std::string> names;
  names.reserve(256 + 2000);
  for (int byte = 0; byte < 256; ++byte) names.emplace_back(1, static_cast<char>(byte));
  for (int i = 0; i < 2000; ++i) {
    std::string& name = names.emplace_back(1 + random() % 16, '\0');
    for (char& c : name) c = static_cast<char>(random());
  }
  for (const std::string& name : names) json.Warn(name, {{"group", name}});
  std::istringstream lines(out_.str());
  std::string line;
  for (const std::string& name : names) {
    ASSERT_TRUE(std::getline(lines, line));
    const auto parsed = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(parsed.is_object()) << line;
    ASSERT_EQ(parsed.size(), 4U);
    EXPECT_EQ(parsed["group"], parsed["msg"]);
    const bool is_ascii = std::all_of(name.begin(), name.end(), [](char c) { return c >= 0; });
    if (is_ascii) {
      EXPECT_EQ(parsed["group"], name);
    }
  }
  EXPECT_FALSE(std::getline(lines, line));

  out_.str("");
  Log logfmt = Make(LogLevel::kInfo, LogFormat::kLogfmt);
  for (const std::string& name : names) logfmt.Warn("m", {{"group", name}});
  const std::string text = out_.str();
  EXPECT_EQ(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')), names.size());
  lines = std::istringstream(text);
  for (const std::string& name : names) {
    ASSERT_TRUE(std::getline(lines, line));
    const std::string value = line.substr(line.find(" group=") + 7);
    // The value is bare or a JSON string, so it cannot look like another field.
    const bool quoted = value.size() >= 2 && value.front() == '"';
    ASSERT_TRUE(quoted ? nlohmann::json::accept(value) : value == name && name.find('=') == std::string::npos) << line;
  }
}

TEST_F(LogTest, LevelsBelowAreDropped) {
  Log log = Make(LogLevel::kWarn, LogFormat::kLogfmt);
  log.Debug("no");
  log.Info("no");
  log.Warn("yes");
  EXPECT_EQ(Text(), "ts=NOW level=warn msg=yes\n");
}

}  // namespace
}  // namespace cow::exporter
