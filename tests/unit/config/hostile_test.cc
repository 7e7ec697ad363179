// Texts that are small and take long to read without limits. Each ends with an error within a second.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/web_config.h"

namespace cow::config {
namespace {

#ifdef COW_SANITIZED
constexpr std::chrono::seconds kMostTime{15};
#else
constexpr std::chrono::seconds kMostTime{1};
#endif

std::string Repeat(std::string_view text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

std::string First(const std::vector<ConfigError>& errors) { return errors.empty() ? "" : errors.front().ToString(); }

// Returns the first error of a configuration. Checks the time, and the number of errors.
std::string FirstError(const std::string& text) {
  const auto start = std::chrono::steady_clock::now();
  const LoadResult result = ParseConfig(text, "f", {});
  EXPECT_LT(std::chrono::steady_clock::now() - start, kMostTime) << text.substr(0, 100);
  EXPECT_LE(result.errors.size(), 101U) << text.substr(0, 100);
  return First(result.errors);
}

std::string FirstWebError(const std::string& text) {
  const auto start = std::chrono::steady_clock::now();
  const WebLoadResult result = ParseWebConfig(text, "f");
  EXPECT_LT(std::chrono::steady_clock::now() - start, kMostTime) << text.substr(0, 100);
  EXPECT_LE(result.errors.size(), 101U) << text.substr(0, 100);
  return First(result.errors);
}

constexpr std::string_view kTooMany = "more than 100000 values, each alias counted as what it stands for";

TEST(HostileTest, AliasesOfLists) {
  const std::string list = "&l [" + Repeat("x, ", 20'000) + "x]";
  EXPECT_EQ(FirstError("groups:\n- {name: x, comm: " + list + "}\n" + Repeat("- {name: x, comm: *l}\n", 20'000)),
            "f:6:19: " + std::string(kTooMany));
  EXPECT_EQ(FirstError("groups:\n- &g {name: x, comm: " + list + "}\n" + Repeat("- *g\n", 20'000)),
            "f:6:3: " + std::string(kTooMany));
  EXPECT_EQ(FirstWebError("tls_server_config: {curve_preferences: " + list + "}\nx: [" + Repeat("*l, ", 20'000) + "]"),
            "f:2:17: " + std::string(kTooMany));
}

TEST(HostileTest, AliasesOfAliases) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string number = std::to_string(i);
    text += "a" + number + ": &a" + number + " [" + Repeat("*a" + std::to_string(i - 1) + ", ", 9) + "]\n";
  }
  EXPECT_NE(FirstError(text).find(kTooMany), std::string::npos);
  EXPECT_NE(FirstWebError(text).find(kTooMany), std::string::npos);
}

TEST(HostileTest, AliasesOfALongText) {
  EXPECT_EQ(FirstError("groups: [{comm: [&a " + std::string(100'000, 'x') + ", " + Repeat("*a, ", 20'000) + "]}]"),
            "f:1:100183: aliases stand for more than 4 MiB of text");
}

TEST(HostileTest, AliasOfWhatContainsIt) {
  EXPECT_EQ(FirstError("groups: &g [*g]\n"), "f:1:13: an alias of a value that contains it");
}

TEST(HostileTest, Nesting) {
  EXPECT_EQ(FirstError(Repeat("[", 64) + Repeat("]", 64)), "f:1:1: the file: expected a map of keys, got a list");
  for (const char* open : {"[", "{", "- ", "? ", "{a: ", "[{a: ", "[a: "}) {
    EXPECT_NE(FirstError(Repeat(open, 100'000)).find("nested more than 64 levels deep"), std::string::npos) << open;
    EXPECT_NE(FirstWebError(Repeat(open, 100'000)).find("nested more than 64 levels deep"), std::string::npos) << open;
  }
}

// yaml-cpp reads the byte but writes U+FFFD, so /config would show another configuration.
TEST(HostileTest, InvalidUtf8) {
  EXPECT_EQ(FirstError("scan: {}\ndefault_group: '{\x88.Comm}}'\n"), "f:2:18: not valid UTF-8");
  EXPECT_EQ(FirstWebError("basic_auth_users: {\xc3\xa9\xff: x}\n"), "f:1:21: not valid UTF-8");
  EXPECT_EQ(FirstError("default_group: \xc3\xa9\n"), "");
}

TEST(HostileTest, ManyErrors) {
  std::string text;
  for (int i = 0; i < 40'000; ++i) text += "key" + std::to_string(i) + ": 1\n";
  EXPECT_EQ(ParseConfig(text, "f", {}).errors.back().ToString(), "f: 39900 more errors are not listed");
  FirstError(text);
  FirstWebError(text);
}

std::string Groups(size_t count, const std::string& expression) {
  return "groups:\n" + Repeat("- {name: x, cmdline: ['" + expression + "']}\n", count);
}

TEST(HostileTest, ManyLargeExpressions) {
  EXPECT_EQ(FirstError(Groups(1000, "redis-server .*:(?P<port>\\d+)")), "");
  EXPECT_EQ(
      FirstError(Groups(2000, "redis")),
      "f:1002:23: groups[1000].cmdline[0]: too many regular expressions: at most 1000 are possible in all groups");
  for (const std::string& large : {Repeat("a?", 2000), Repeat("[^a]{40}", 30), Repeat("(\\d|x)", 200)}) {
    EXPECT_NE(FirstError(Groups(250, large)).find("the regular expressions before this one are too large together"),
              std::string::npos)
        << large;
  }
  for (const std::string& huge : {std::string("\\pL{1000}"), Repeat("(?i)[^\\pL]{30}", 60)}) {
    EXPECT_NE(FirstError(Groups(1000, huge)).find("pattern too large"), std::string::npos) << huge;
  }
  EXPECT_NE(FirstError(Groups(1, std::string(5000, 'a'))).find("of 5000 bytes, at most 4096 are possible"),
            std::string::npos);
}

TEST(HostileTest, NamesWithManyVariables) {
  EXPECT_EQ(FirstError("groups: [{name: '" + Repeat("{{.Comm}}", 100'000) + "', comm: [a]}]"),
            "f:1:17: groups[0].name: a name of 900000 bytes, at most 4096 are possible");
  std::string captures;
  for (int i = 0; i < 300; ++i) captures += "(?P<n" + std::to_string(i) + ">a)";
  std::string lists;
  for (int i = 0; i < 200; ++i) lists += "'" + captures + "', ";
  EXPECT_NE(FirstError("groups: [{name: '" + Repeat("{{.Matches.zz}}", 270) + "', cmdline: [" + lists + "]}]")
                .find("captures \"zz\""),
            std::string::npos);
}

}  // namespace
}  // namespace cow::config
