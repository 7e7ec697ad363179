#include "collectors/groups/group_rules.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cow::collectors {
namespace {

using Kind = GroupNamePart::Kind;

GroupName Fixed(std::string name) { return {{Kind::kText, std::move(name)}}; }

std::optional<std::string> FindNobody(uint32_t /*uid*/) { return std::nullopt; }
std::optional<std::string> FindRedis(uint32_t uid) {
  return uid == 999 ? std::optional<std::string>("redis") : std::nullopt;
}

class GroupRulesTest : public testing::Test {
 protected:
  GroupRulesTest() {
    subject_.comm = "redis-server";
    subject_.exe = "/usr/bin/redis-check-rdb";
    subject_.uid = 999;
    subject_.cgroup_path = "/system.slice/redis-server.service";
    subject_.names.unit = "redis-server.service";
    subject_.names.container_id = std::string(60, 'a') + "bbbb";
    subject_.names.pod_uid = "12345678-9abc-def0-1234-56789abcdef0";
    subject_.read_command_line = [this] {
      ++command_lines_read_;
      return command_line_;
    };
  }

  GroupRule& Add(GroupName name) {
    options_.rules.emplace_back().name = std::move(name);
    return options_.rules.back();
  }
  GroupVerdict Judge() { return GroupRules(options_, &FindRedis).Judge(subject_); }
  // Returns true if the last rule added names the process.
  bool Matches(const GroupRule& rule) {
    GroupOptions options;
    options.rules = {rule};
    options.rules.front().name = Fixed("matched");
    return GroupRules(options, &FindRedis).Judge(subject_).name == "matched";
  }

  GroupOptions options_;
  GroupSubject subject_;
  std::optional<std::string> command_line_ = "/usr/bin/redis-server 127.0.0.1:6379";
  int command_lines_read_ = 0;
};

TEST_F(GroupRulesTest, SaysWhetherTheUserMatters) {
  const auto ask = [this] { return GroupRules(options_, &FindRedis).AskForUser(); };
  Add(Fixed("a")).comm = {"a"};
  EXPECT_FALSE(ask());
  Add(Fixed("b")).user = {"redis"};
  EXPECT_TRUE(ask());
  options_.rules.back() = {{{Kind::kText, "u-"}, {Kind::kUsername, ""}}, {"b"}, {}, {}, {}, {}, {}, {}};
  EXPECT_TRUE(ask());
  options_.rules.clear();
  EXPECT_FALSE(ask());
  options_.default_name = {{Kind::kUsername, ""}};
  EXPECT_TRUE(ask());
  options_.default_name.reset();
  EXPECT_FALSE(ask());
}

TEST_F(GroupRulesTest, DefaultIsTheName) {
  EXPECT_EQ(Judge().name, "redis-server");
  options_.default_name = Fixed("rest");
  EXPECT_EQ(Judge().name, "rest");
  options_.default_name.reset();
  EXPECT_EQ(Judge().name, std::nullopt);
}

TEST_F(GroupRulesTest, FirstMatchCounts) {
  Add(Fixed("postgres")).comm = {"postgres"};
  Add(Fixed("a")).comm = {"valkey-server", "redis-server"};
  Add(Fixed("b")).comm = {"redis-server"};
  EXPECT_EQ(Judge().name, "a");
}

TEST_F(GroupRulesTest, EachKey) {
  const auto with = [](std::vector<std::string> GroupRule::*key, std::vector<std::string> values) {
    GroupRule rule;
    rule.*key = std::move(values);
    return rule;
  };
  EXPECT_TRUE(Matches(with(&GroupRule::comm, {"redis-server"})));
  EXPECT_FALSE(Matches(with(&GroupRule::comm, {"redis", "Redis-server", "redis-server2"})));
  EXPECT_TRUE(Matches(with(&GroupRule::exe, {"x", "redis-check-rdb"})));
  EXPECT_TRUE(Matches(with(&GroupRule::exe, {"/usr/bin/redis-check-rdb"})));
  EXPECT_FALSE(Matches(with(&GroupRule::exe, {"/usr/local/bin/redis-check-rdb", "redis-server", "redis"})));
  EXPECT_TRUE(Matches(with(&GroupRule::cmdline, {":6379$"})));
  EXPECT_TRUE(Matches(with(&GroupRule::cmdline, {"6379", "^/usr/bin/redis-server 127"})));
  EXPECT_FALSE(Matches(with(&GroupRule::cmdline, {"6379", "6380"})));
  EXPECT_TRUE(Matches(with(&GroupRule::user, {"root", "redis"})));
  EXPECT_TRUE(Matches(with(&GroupRule::user, {"999"})));
  EXPECT_FALSE(Matches(with(&GroupRule::user, {"root", "0", "99"})));
  EXPECT_TRUE(Matches(with(&GroupRule::cgroup, {"nothing", R"(^/system\.slice/)"})));
  EXPECT_FALSE(Matches(with(&GroupRule::cgroup, {"^system", "user.slice"})));
  EXPECT_TRUE(Matches(with(&GroupRule::unit, {"redis-server.service"})));
  EXPECT_FALSE(Matches(with(&GroupRule::unit, {"redis-server", "redis"})));
  EXPECT_TRUE(Matches(with(&GroupRule::container_id, {"bbbb", "aaaaaaaaaaaa"})));
  EXPECT_FALSE(Matches(with(&GroupRule::container_id, {"b"})));
  subject_.names = {};
  EXPECT_FALSE(Matches(with(&GroupRule::container_id, {"a"})));
  EXPECT_FALSE(Matches(with(&GroupRule::unit, {"redis-server.service"})));
}

TEST_F(GroupRulesTest, KeysAreAnded) {
  GroupRule& rule = Add(Fixed("a"));
  rule.comm = {"redis-server"};
  rule.user = {"redis"};
  EXPECT_EQ(Judge().name, "a");
  rule.unit = {"other.service"};
  EXPECT_EQ(Judge().name, "redis-server");
}

TEST_F(GroupRulesTest, NamesAreExpanded) {
  GroupRule& rule = Add({{Kind::kText, "r-"},
                         {Kind::kMatch, "port"},
                         {Kind::kText, "/"},
                         {Kind::kComm, ""},
                         {Kind::kText, "/"},
                         {Kind::kExeBase, ""},
                         {Kind::kText, "/"},
                         {Kind::kUsername, ""},
                         {Kind::kText, "/"},
                         {Kind::kUnit, ""},
                         {Kind::kText, "/"},
                         {Kind::kPodUid, ""}});
  rule.cmdline = {R"(:(?P<port>\d+)( |$))"};
  EXPECT_EQ(Judge().name,
            "r-6379/redis-server/redis-check-rdb/redis/redis-server.service/12345678-9abc-def0-1234-56789abcdef0");
  options_.rules.front().name = {{Kind::kContainerId, ""}};
  EXPECT_EQ(Judge().name, subject_.names.container_id);
}

// The expression in the documentation matches the process titles of Redis.
TEST_F(GroupRulesTest, PortOfARedis) {
  GroupRule& rule = Add({{Kind::kMatch, "port"}});
  rule.cmdline = {R"(:(?P<port>\d+)( |$))"};
  for (const auto& [title, port] :
       std::vector<std::pair<std::string, std::string>>{{"redis-server *:6379", "6379"},
                                                        {"redis-server 127.0.0.1:6380", "6380"},
                                                        {"redis-server ::1:16380", "16380"},
                                                        {"redis-server ::1:16381 [cluster]", "16381"},
                                                        {"redis-server fe80::1:2:6382 [sentinel]", "6382"},
                                                        {"/usr/bin/redis-server 127.0.0.1:6379", "6379"},
                                                        {"redis-server unixsocket:/run/redis.sock", "redis-server"}}) {
    subject_.read_command_line = [&title = title] { return title; };
    EXPECT_EQ(Judge().name, port) << title;
  }
}

TEST_F(GroupRulesTest, LaterCapturesReplaceEarlierOnesAndOthersAreEmpty) {
  GroupRule& rule = Add({{Kind::kText, "<"}, {Kind::kMatch, "a"}, {Kind::kMatch, "b"}, {Kind::kText, ">"}});
  rule.cmdline = {R"((?P<a>redis)|(?P<b>nothing))", R"((?P<a>\d+)$)"};
  EXPECT_EQ(Judge().name, "<6379>");
}

TEST_F(GroupRulesTest, EmptyNamesGetOne) {
  options_.default_name = GroupName{{Kind::kUnit, ""}};
  subject_.names = {};
  EXPECT_EQ(Judge().name, GroupRules::kUnnamed);
}

TEST_F(GroupRulesTest, UsersWithoutNameAreNumbers) {
  options_.default_name = GroupName{{Kind::kUsername, ""}};
  EXPECT_EQ(GroupRules(options_, &FindNobody).Judge(subject_).name, "999");
}

TEST_F(GroupRulesTest, EachUserIsAskedForOnce) {
  int asked = 0;
  options_.default_name = GroupName{{Kind::kUsername, ""}};
  GroupRules rules(options_, [&asked](uint32_t /*uid*/) {
    ++asked;
    return std::optional<std::string>("somebody");
  });
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rules.Judge(subject_).name, "somebody");
  EXPECT_EQ(asked, 1);
  for (uint32_t uid = 0; uid < 3 * UserNames::kMaxKept; ++uid) {
    subject_.uid = uid;
    rules.Judge(subject_);
  }
}

TEST_F(GroupRulesTest, CommandLineIsReadOnceAndOnlyIfNeeded) {
  for (const char* name : {"a", "b"}) {
    GroupRule& rule = Add(Fixed(name));
    rule.comm = {"postgres"};
    rule.cmdline = {"x"};
  }
  Judge();
  EXPECT_EQ(command_lines_read_, 0);
  for (GroupRule& rule : options_.rules) rule.comm = {"redis-server"};
  Judge();
  EXPECT_EQ(command_lines_read_, 1);
}

TEST_F(GroupRulesTest, WhatCantBeReadDoesNotMatch) {
  Add(Fixed("by exe")).exe = {"redis-check-rdb"};
  Add(Fixed("by name")).comm = {"redis-server"};
  EXPECT_EQ(Judge().unread_key, "");
  subject_.exe.clear();
  EXPECT_EQ(Judge().name, "by name");
  EXPECT_EQ(Judge().unread_key, "exe");
  options_.rules.front() = {};
  options_.rules.front().cmdline = {""};
  command_line_.reset();
  EXPECT_EQ(Judge().name, "by name");
  EXPECT_EQ(Judge().unread_key, "cmdline");
  command_line_ = "";
  EXPECT_EQ(Judge().unread_key, "");
  // A rule whose other keys do not match never reads the missing one.
  options_.rules.front().comm = {"other"};
  options_.rules.front().exe = {"redis-check-rdb"};
  EXPECT_EQ(Judge().unread_key, "");
}

TEST_F(GroupRulesTest, ReplacedProgramsKeepTheirName) {
  subject_.exe += " (deleted)";
  Add({{Kind::kExeBase, ""}}).exe = {"/usr/bin/redis-check-rdb"};
  EXPECT_EQ(Judge().name, "redis-check-rdb");
}

TEST_F(GroupRulesTest, BytesThatAreNoTextCanBeMatched) {
  command_line_ = "prefix \xff\xfe 42";
  Add({{Kind::kMatch, "all"}}).cmdline = {"^prefix (?P<all>.*)$"};
  EXPECT_EQ(Judge().name, "\xEF\xBF\xBD\xEF\xBF\xBD 42");
}

TEST_F(GroupRulesTest, FixedNames) {
  Add(Fixed("a")).comm = {"x"};
  Add({{Kind::kText, "b-"}, {Kind::kComm, ""}}).comm = {"y"};
  Add(Fixed("c")).comm = {"z"};
  Add({{Kind::kText, "a"}}).comm = {"w"};
  EXPECT_EQ(GroupRules(options_).fixed_names(), (std::vector<std::string>{"a", "c"}));
  options_.default_name = Fixed("rest");
  EXPECT_EQ(GroupRules(options_).fixed_names(), (std::vector<std::string>{"a", "c", "rest"}));
}

TEST_F(GroupRulesTest, BadExpressionsThrow) {
  Add(Fixed("a")).cgroup = {"("};
  EXPECT_THROW(GroupRules{options_}, std::invalid_argument);
}

TEST(UserNamesTest, RootIsKnownOnThisHost) {
  EXPECT_EQ(FindUserName(0), "root");
  EXPECT_EQ(FindUserName(4'000'000'000), std::nullopt);
}

}  // namespace
}  // namespace cow::collectors
