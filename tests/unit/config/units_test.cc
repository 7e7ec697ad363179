#include "config/units.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cow::config {
namespace {

using std::chrono::milliseconds;

TEST(UnitsTest, FormatsRoundTrip) {
  const auto duration = [](int64_t count) { return FormatDuration(std::chrono::milliseconds(count)); };
  EXPECT_EQ(duration(0), "0s");
  EXPECT_EQ(duration(10'000), "10s");
  EXPECT_EQ(duration(600'000), "10m");
  EXPECT_EQ(duration(5'400'001), "1h30m1ms");
  EXPECT_EQ(duration(86'400'000), "24h");
  EXPECT_EQ(ParseDuration(duration(123'456'789))->count(), 123'456'789);
  EXPECT_EQ(FormatSize(0), "0B");
  EXPECT_EQ(FormatSize(1000), "1000B");
  EXPECT_EQ(FormatSize(uint64_t{256} << 20U), "256MiB");
  EXPECT_EQ(FormatSize(uint64_t{1025} << 30U), "1025GiB");
  EXPECT_EQ(ParseSize(FormatSize(~uint64_t{0})), ~uint64_t{0});
}

TEST(ParseDurationTest, AcceptsPrometheusFormat) {
  const std::vector<std::pair<std::string, int64_t>> cases = {
      {"0", 0},        {"0s", 0},         {"10s", 10'000},     {"500ms", 500},         {"1h30m", 5'400'000},
      {"1m0s", 60000}, {"2d", 172800000}, {"1w", 604'800'000}, {"1y", 31'536'000'000}, {"1h1m1s1ms", 3'661'001}};
  for (const auto& [text, expected] : cases) {
    const auto parsed = ParseDuration(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error();
    EXPECT_EQ(*parsed, milliseconds{expected}) << text;
  }
}

TEST(ParseDurationTest, RefusesTheRest) {
  for (const char* text : {"",
                           "10",
                           "s",
                           "10 s",
                           " 10s",
                           "10s ",
                           "-1s",
                           "+1s",
                           "1.5s",
                           "10x",
                           "1m1h",
                           "1s1s",
                           "1ms1s",
                           "1S",
                           "1s2",
                           "0x1s",
                           "99999999999999999999s",
                           "99999999999y",
                           "300y",
                           "1s\n"}) {
    EXPECT_FALSE(ParseDuration(text)) << text;
  }
  EXPECT_EQ(ParseDuration("10x").error(), R"(bad duration "10x": unknown unit "x" (known: y, w, d, h, m, s, ms))");
  EXPECT_EQ(ParseDuration("10").error(), R"(bad duration "10": no unit (y, w, d, h, m, s, ms))");
}

TEST(ParseGoDurationTest, AcceptsGoFormat) {
  const std::vector<std::pair<std::string, int64_t>> cases = {{"0", 0},
                                                              {"0s", 0},
                                                              {"1s", 1'000'000'000},
                                                              {"1.5s", 1'500'000'000},
                                                              {".5s", 500'000'000},
                                                              {"100ms", 100'000'000},
                                                              {"10us", 10'000},
                                                              {"10\xc2\xb5s", 10'000},
                                                              {"10\xce\xbcs", 10'000},
                                                              {"7ns", 7},
                                                              {"1h1m1s", 3'661'000'000'000},
                                                              {"1m1h", 3'660'000'000'000},
                                                              {"0.1ns", 1}};
  for (const auto& [text, expected] : cases) {
    const auto parsed = ParseGoDuration(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error();
    EXPECT_EQ(parsed->count(), expected) << text;
  }
}

TEST(ParseGoDurationTest, RefusesTheRest) {
  for (const char* text :
       {"", "1", "s", "-1s", "1 s", "1d", "1.2.3s", ".s", "1e3s", "infs", "99999999999999999999s", "9999999h", "1s2"}) {
    EXPECT_FALSE(ParseGoDuration(text)) << text;
  }
}

TEST(ParseSizeTest, AcceptsBinaryAndDecimalUnits) {
  const std::vector<std::pair<std::string, uint64_t>> cases = {
      {"0", 0},       {"0B", 0},          {"1KiB", 1024},   {"256MiB", 268'435'456},    {"1GiB", 1'073'741'824},
      {"1kB", 1'000}, {"2MB", 2'000'000}, {"4096B", 4'096}, {"1TiB", 1'099'511'627'776}};
  for (const auto& [text, expected] : cases) {
    const auto parsed = ParseSize(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error();
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(ParseSizeTest, RefusesTheRest) {
  for (const char* text : {"", "1", "MiB", "1 MiB", "-1B", "1.5GiB", "1mib", "1MiBx", "99999999999999999999B",
                           "99999999TiB", "1MiB1KiB"}) {
    EXPECT_FALSE(ParseSize(text)) << text;
  }
}

TEST(ParseNumberTest, WholeFiniteTextOnly) {
  EXPECT_EQ(ParseNumber("0.1"), 0.1);
  EXPECT_EQ(ParseNumber("1e-2"), 0.01);
  for (const char* text : {"", "nan", "inf", "-inf", "1e999", "0.1 ", "0,1", "0x1", "1%"}) {
    EXPECT_FALSE(ParseNumber(text)) << text;
  }
}

TEST(ParseIntegerTest, WholeNumberWithoutSign) {
  EXPECT_EQ(ParseInteger("18446744073709551615"), UINT64_MAX);
  for (const char* text : {"", "-1", "+1", "1.0", "1e3", "0x10", "18446744073709551616", "1 "}) {
    EXPECT_FALSE(ParseInteger(text)) << text;
  }
}

TEST(EscapedTest, IsSafeToPrint) {
  EXPECT_EQ(Escaped(std::string("(?P<a\0b>\x1b\x9c\"", 11)), R"((?P<a\x00b>\x1b\x9c")");
  EXPECT_EQ(Escaped("a\"b\\c", "\""), R"(a\"b\c)");
}

TEST(QuotedTest, IsSafeToPrint) {
  EXPECT_EQ(Quoted("a\"b\\c\n\x1b[0m"), R"("a\"b\\c\x0a\x1b[0m")");
  EXPECT_EQ(Quoted(std::string(1000, 'x')).size(), 64U + 5U);
  EXPECT_EQ(Quoted("\xc3\xa9\xc2\x9c\x9c\x7f"), "\"\xc3\xa9\\xc2\\x9c\\x9c\\x7f\"");
  EXPECT_EQ(Quoted(std::string(63, 'x') + "\xc3\xa9").substr(60), "xxxx\\xc3...\"");
}

}  // namespace
}  // namespace cow::config
