#include "exporter/log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>

namespace cow::exporter {
namespace {

class LogTest : public testing::Test {
 protected:
  Log Make(LogLevel level, LogFormat format) {
    return {level, format, std::make_shared<spdlog::sinks::ostream_sink_mt>(out_)};
  }
  // All that was logged, the times replaced.
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

TEST_F(LogTest, LevelsBelowAreDropped) {
  Log log = Make(LogLevel::kWarn, LogFormat::kLogfmt);
  log.Debug("no");
  log.Info("no");
  log.Warn("yes");
  EXPECT_EQ(Text(), "ts=NOW level=warn msg=yes\n");
}

}  // namespace
}  // namespace cow::exporter
