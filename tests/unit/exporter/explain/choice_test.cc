// Tests the choice of a family by name or group.
#include "exporter/explain/choice.h"

#include <gtest/gtest.h>

#include <string>

namespace cow::exporter {
namespace {

constexpr uint64_t kBytesPerMiB = uint64_t{1024} * 1024;

explain::FamilySearch TwoServers() {
  return {{{100, "redis-server", "/usr/bin/redis-server /etc/redis.conf", 2, 412 * kBytesPerMiB},
           {200, "redis-server", "", 1, 3 * kBytesPerMiB}},
          {"bash", "redis-server"}};
}

TEST(ExplainChoice, TheOnlyFamily) {
  explain::FamilySearch found = TwoServers();
  found.families.pop_back();
  EXPECT_EQ(ChooseFrom(found, "redis-server", "named \"redis-server\"", 80).value(), 100);
}

TEST(ExplainChoice, SeveralAreListed) {
  EXPECT_EQ(ChooseFrom(TwoServers(), "redis-server", "named \"redis-server\"", 80).error(),
            R"(2 families are named "redis-server": explain one of them by its PID
      PID  PROCESSES  RESIDENT  COMMAND
      100          2   412 MiB  redis-server /etc/redis.conf
      200          1     3 MiB  redis-server
)");
}

TEST(ExplainChoice, LongListsAndLinesAreCut) {
  explain::FamilySearch found = TwoServers();
  found.families[0].command_line = std::string(200, 'x') + "\x1b[2J";
  found.families.resize(50, found.families[0]);
  const std::string text = ChooseFrom(found, "x", "named \"x\"", 60).error();
  EXPECT_NE(text.find("\nand 30 more\n"), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find(std::string(40, 'x')), std::string::npos);
}

TEST(ExplainChoice, NoneSuggestsTheNearest) {
  explain::FamilySearch found = TwoServers();
  found.families.clear();
  EXPECT_EQ(ChooseFrom(found, "redis-sever", "named \"redis-sever\"", 80).error(),
            "no process is named \"redis-sever\": did you mean \"redis-server\"?\n");
  EXPECT_EQ(ChooseFrom(found, "postgresql", "in the group \"postgresql\"", 80).error(),
            "no process is in the group \"postgresql\"\n");
}

}  // namespace
}  // namespace cow::exporter
