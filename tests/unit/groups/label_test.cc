#include "collectors/base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace cow::collectors {
namespace {

constexpr size_t kPlenty = 128;

TEST(LabelTest, KeepsValidText) {
  for (const std::string text : {"", "redis-server", "a b\"\\\n\t", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x90\x84",
                                 "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(LabelValue(text, kPlenty), text);
  }
}

TEST(LabelTest, ReplacesWhatIsNoUtf8) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(LabelValue("a\xFF"
                       "b",
                       kPlenty),
            "a" + bad + "b");
  EXPECT_EQ(LabelValue("\x80", kPlenty), bad);
  EXPECT_EQ(LabelValue("\xC3", kPlenty), bad);
  EXPECT_EQ(LabelValue("\xC0\xAF", kPlenty), bad + bad);                      // overlong
  EXPECT_EQ(LabelValue("\xE0\x80\xAF", kPlenty), bad + bad + bad);            // overlong
  EXPECT_EQ(LabelValue("\xED\xA0\x80", kPlenty), bad + bad + bad);            // surrogate
  EXPECT_EQ(LabelValue("\xF4\x90\x80\x80", kPlenty), bad + bad + bad + bad);  // beyond U+10FFFF
  EXPECT_EQ(LabelValue("\xE2\x82x", kPlenty), bad + bad + "x");
}

TEST(LabelTest, CutsAtTheEndOfACharacter) {
  EXPECT_EQ(LabelValue("abcdef", 4), "abcd");
  EXPECT_EQ(LabelValue("ab\xE2\x82\xAC", 5), "ab\xE2\x82\xAC");
  EXPECT_EQ(LabelValue("ab\xE2\x82\xAC", 4), "ab");
  EXPECT_EQ(LabelValue("ab\xFF", 4), "ab");
  EXPECT_EQ(LabelValue("abc", 0), "");
}

}  // namespace
}  // namespace cow::collectors
