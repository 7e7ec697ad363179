#include "exporter/http/query.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <optional>
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

const std::array<std::string, 3> kKnown = {"cow", "ksm", "thp"};
const std::array<std::string, 2> kEnabled = {"cow", "thp"};

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

TEST(ParseExplainQueryTest, Everything) {
  const auto query = ParseExplainQuery("pid=12&pages&mapping=0x7f00&x=1").value();
  EXPECT_EQ(query.pid, 12);
  EXPECT_TRUE(query.pages);
  EXPECT_EQ(query.mapping, 0x7f00U);
  EXPECT_FALSE(ParseExplainQuery("pid=1").value().pages);
  EXPECT_EQ(ParseExplainQuery("pid=1").value().mapping, std::nullopt);
  for (const auto& [text, error] :
       std::map<std::string, std::string>{{"", "expected ?pid="},
                                          {"pid=0", "bad process id \"0\""},
                                          {"pid=%z", "bad percent-encoding in \"%z\""},
                                          {"pid=4294967297", "bad process id \"4294967297\""}}) {
    EXPECT_EQ(ParseExplainQuery(text).error(), error) << text;
  }
  EXPECT_FALSE(ParseExplainQuery("pid=1&mapping=g"));
}

}  // namespace
}  // namespace cow::exporter