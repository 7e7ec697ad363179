#include "exporter/http/query.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace cow::exporter {
namespace {

using Parameters = std::vector<QueryParameter>;

TEST(ParseQueryTest, DecodesPairs) {
  EXPECT_EQ(ParseQuery(""), Parameters());
  EXPECT_EQ(ParseQuery("&&"), Parameters());
  EXPECT_EQ(ParseQuery("a=1&a=2&b"), (Parameters{{"a", "1"}, {"a", "2"}, {"b", ""}}));
  EXPECT_EQ(ParseQuery("a%5b%5D=x%20y+z&=v&k=a=b"), (Parameters{{"a[]", "x y z"}, {"", "v"}, {"k", "a=b"}}));
  EXPECT_EQ(ParseQuery("a=%00"), (Parameters{{"a", std::string(1, '\0')}}));
  EXPECT_EQ(ParseQuery("%26=%3D"), (Parameters{{"&", "="}}));
}

TEST(ParseQueryTest, RefusesBrokenEncoding) {
  for (const char* query : {"%", "a=%", "a=%1", "a=%zz", "%g0=1", "a=%1%20"}) EXPECT_FALSE(ParseQuery(query)) << query;
}

constexpr std::array<std::string_view, 3> kKnown = {"cow", "ksm", "thp"};
constexpr std::array<std::string_view, 2> kEnabled = {"cow", "thp"};

TEST(FilterTest, CollectAndExclude) {
  const auto filter = [](std::string_view query) { return ParseFilter(query, kKnown, kEnabled).value(); };
  EXPECT_TRUE(filter("").Wants("cow"));
  EXPECT_TRUE(filter("other=1").Wants("cow"));
  EXPECT_TRUE(filter("collect[]=cow").Wants("cow"));
  EXPECT_FALSE(filter("collect[]=cow").Wants("thp"));
  EXPECT_TRUE(filter("collect[]=cow").Wants(""));
  EXPECT_TRUE(filter("collect[]=cow&collect[]=thp").Wants("thp"));
  EXPECT_FALSE(filter("exclude[]=cow").Wants("cow"));
  EXPECT_TRUE(filter("exclude[]=cow").Wants("thp"));
  EXPECT_TRUE(filter("exclude[]=ksm").Wants("thp"));
}

TEST(FilterTest, Refuses) {
  const auto problem = [](std::string_view query) { return ParseFilter(query, kKnown, kEnabled).error(); };
  EXPECT_EQ(problem("collect[]=x\n"), "unknown collector \"x\\x0a\"");
  EXPECT_EQ(problem("exclude[]="), "unknown collector \"\"");
  EXPECT_EQ(problem("collect[]=ksm"), "the collector \"ksm\" is not enabled");
  EXPECT_EQ(problem("exclude[]=cow&collect[]=thp"), "collect[] and exclude[] exclude each other");
}

TEST(QueryTest, AcceptsAnyBytes) {
  std::mt19937 random(1);  // NOLINT: the same each time
  const std::string alphabet = "%&=+0aF[]colect";
  for (int i = 0; i < 20'000; ++i) {
    std::string text(random() % 40, ' ');
    for (char& c : text) c = i % 4 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    const auto parsed = ParseQuery(text);
    EXPECT_TRUE(parsed || !parsed.error().empty());
  }
}

}  // namespace
}  // namespace cow::exporter
