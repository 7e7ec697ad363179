#include "collectors/base/text.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace cow::text {
namespace {

TEST(TextTest, CutsLines) {
  std::string_view rest = "a\n\nb";
  std::string_view line;
  ASSERT_TRUE(NextLine(rest, line));
  EXPECT_EQ(line, "a");
  ASSERT_TRUE(NextLine(rest, line));
  EXPECT_EQ(line, "");
  ASSERT_TRUE(NextLine(rest, line));
  EXPECT_EQ(line, "b");
  EXPECT_FALSE(NextLine(rest, line));
}

TEST(TextTest, CutsFields) {
  std::string_view rest = "  one\ttwo  ";
  EXPECT_EQ(NextField(rest), "one");
  EXPECT_EQ(NextField(rest), "two");
  EXPECT_EQ(NextField(rest), "");
  EXPECT_EQ(NextField(rest), "");
}

TEST(TextTest, Trims) {
  EXPECT_EQ(Trim(" \t a b\t"), "a b");
  EXPECT_EQ(Trim(" \t "), "");
  EXPECT_EQ(Trim(""), "");
}

TEST(TextTest, ParsesWholeNumbersOnly) {
  EXPECT_EQ(ParseNumber<uint64_t>("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ParseNumber<uint64_t>("ff", 16), 255U);
  EXPECT_EQ(ParseNumber<int>("-7"), -7);
  for (const std::string_view bad : {"", " 1", "1 ", "1x", "-1", "+1", "0x1", "18446744073709551616"}) {
    EXPECT_FALSE(ParseNumber<uint64_t>(bad)) << bad;
  }
}

TEST(TextTest, KilobytesNeedTheUnitAndMustFit) {
  EXPECT_EQ(KilobytesField("f", "Rss", "\t  12 kB").value(), 12288U);
  EXPECT_EQ(KilobytesField("f", "Rss", "18014398509481983 kB").value(), 18446744073709550592U);
  for (const std::string_view bad : {"12", "12 MB", "12 kB x", "-1 kB", "18014398509481984 kB", "", "kB"}) {
    const auto value = KilobytesField("f", "Rss", bad);
    ASSERT_FALSE(value) << bad;
    EXPECT_EQ(value.error().kind, ErrorKind::kMalformed);
    EXPECT_NE(value.error().detail.find("Rss"), std::string::npos);
  }
}

TEST(TextTest, QuotesOnOneLine) {
  EXPECT_EQ(Quote("a\n\"\\\xff"), R"("a\x0a\"\\\xff")");
  EXPECT_EQ(Quote(std::string(100, 'a')), '"' + std::string(64, 'a') + "\"...");
}

}  // namespace
}  // namespace cow::text
