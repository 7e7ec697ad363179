#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/name_template.h"
#include "config/to_yaml.h"

namespace cow::config {
namespace {

using Strings = std::vector<std::string>;

LoadResult Load(std::string_view text) { return ParseConfig(text, "f.yml", {}); }

Strings GroupErrors(std::string_view text) {
  Strings errors;
  for (const ConfigError& error : Load(text).errors) errors.push_back(error.ToString());
  return errors;
}

TEST(ConfigGroupsTest, ReadsEveryKey) {
  const LoadResult result = Load(R"(
groups:
  - name: "redis-{{.Matches.port}}-{{ .Username }}"
    comm: [redis-server]
    exe: [redis-server, /usr/bin/redis-check-rdb]
    cmdline: [':(?P<port>\d+)( |$)', 'cluster']
    user: [redis, 999]
    cgroup: [^/system\.slice/]
    unit: [redis.service]
    container_id: [0123abcd]
  - comm: [bash]
    exe: []
    user:
default_group: "rest-{{.Unit}}"
)");
  ASSERT_TRUE(result.errors.empty()) << result.errors.front().ToString();
  ASSERT_EQ(result.config.groups.size(), 2U);
  const GroupRule& redis = result.config.groups[0];
  EXPECT_EQ(TextOf(redis.name), "redis-{{.Matches.port}}-{{.Username}}");
  ASSERT_EQ(redis.name.size(), 4U);
  EXPECT_EQ(redis.name[0].kind, GroupNamePart::Kind::kText);
  EXPECT_EQ(redis.name[0].text, "redis-");
  EXPECT_EQ(redis.name[1].kind, GroupNamePart::Kind::kMatch);
  EXPECT_EQ(redis.name[1].text, "port");
  EXPECT_EQ(redis.name[2].text, "-");
  EXPECT_EQ(redis.name[3].kind, GroupNamePart::Kind::kUsername);
  EXPECT_EQ(redis.comm, (Strings{"redis-server"}));
  EXPECT_EQ(redis.exe, (Strings{"redis-server", "/usr/bin/redis-check-rdb"}));
  EXPECT_EQ(redis.cmdline, (Strings{R"(:(?P<port>\d+)( |$))", "cluster"}));
  EXPECT_EQ(redis.user, (Strings{"redis", "999"}));
  EXPECT_EQ(redis.cgroup, (Strings{R"(^/system\.slice/)"}));
  EXPECT_EQ(redis.unit, (Strings{"redis.service"}));
  EXPECT_EQ(redis.container_id, (Strings{"0123abcd"}));
  const GroupRule& bash = result.config.groups[1];
  EXPECT_EQ(TextOf(bash.name), "{{.ExeBase}}");
  ASSERT_EQ(bash.name.size(), 1U);
  EXPECT_EQ(bash.name[0].kind, GroupNamePart::Kind::kExeBase);
  EXPECT_TRUE(bash.exe.empty());
  ASSERT_TRUE(result.config.default_group);
  EXPECT_EQ(result.config.default_group->at(1).kind, GroupNamePart::Kind::kUnit);
}

TEST(ConfigGroupsTest, Defaults) {
  const LoadResult result = Load("groups:\n");
  EXPECT_TRUE(result.errors.empty());
  EXPECT_TRUE(result.config.groups.empty());
  ASSERT_TRUE(result.config.default_group);
  EXPECT_EQ(TextOf(result.config.default_group.value()), "{{.Comm}}");
  EXPECT_FALSE(Load("default_group: drop").config.default_group);
}

TEST(ConfigGroupsTest, AllErrorsAtOnce) {
  EXPECT_EQ(
      GroupErrors(R"(groups:
  - name: "a-{{.Matches.prot}}"
    com: [x]
    cmdline: ['(?P<port>\d+)']
  - name: "{{.Com}}"
    comm: chromium
    exe: [bin/x, /usr/bin/, [1]]
  - name: ""
    comm: [chromium-browser, ""]
    cmdline: ['(', 'a(?P<b']
    cgroup: ['[z-a]']
    container_id: [0xF]
  - name: only
  - name: {{.Comm}}
    comm: [x]
  - name: "{{.Comm"
    comm: [x]
  - text
  -
  - name: "{{.Matches.x}}"
    comm: [x]
default_group: "{{.Matches.y}}"
)"),
      (Strings{
          R"(f.yml:2:11: groups[0].name: no cmdline of this entry captures "prot"; did you mean "port"?)",
          R"(f.yml:3:5: groups[0]: unknown key "com"; did you mean "comm"?)",
          R"(f.yml:5:11: groups[1].name: unknown variable ".Com"; did you mean ".Comm"?)",
          R"(f.yml:6:11: groups[1].comm: expected a list of names, got a text)",
          R"(f.yml:7:11: groups[1].exe[0]: "bin/x" can't match: expected an absolute path or a base name)",
          R"(f.yml:7:18: groups[1].exe[1]: "/usr/bin/" can't match: expected an absolute path or a base name)",
          R"(f.yml:7:29: groups[1].exe[2]: expected a text, got a list)",
          R"(f.yml:8:11: groups[2].name: a name can't be empty)",
          R"(f.yml:9:12: groups[2].comm[0]: "chromium-browser" can't match, a process' name has at most 15 bytes; did you mean "chromium-browse"?)",
          R"(f.yml:9:30: groups[2].comm[1]: expected a text, got "")",
          R"(f.yml:10:15: groups[2].cmdline[0]: bad regular expression "(": missing ): ()",
          R"(f.yml:10:20: groups[2].cmdline[1]: bad regular expression "a(?P<b": invalid named capture group: (?P<b)",
          R"(f.yml:11:14: groups[2].cgroup[0]: bad regular expression "[z-a]": invalid character class range: z-a)",
          R"(f.yml:12:20: groups[2].container_id[0]: "0xF" can't match: expected up to 64 digits of 0-9a-f)",
          R"(f.yml:13:5: groups[3]: nothing to match by: expected at least one of comm, exe, cmdline, user, cgroup, unit, container_id (default_group names all others))",
          R"(f.yml:14:11: groups[4].name: expected a name such as "redis-{{.Matches.port}}", got a map)",
          R"(f.yml:16:11: groups[5].name: no }} after {{ in "{{.Comm")",
          R"(f.yml:18:5: groups[6]: expected a map of keys, got a text)",
          R"(f.yml:20:3: groups[7]: nothing to match by: expected at least one of comm, exe, cmdline, user, cgroup, unit, container_id (default_group names all others))",
          R"(f.yml:20:11: groups[8].name: no cmdline of this entry captures "x"; none has a capture group, which is written (?P<NAME>...))",
          R"(f.yml:22:16: default_group: .Matches needs cmdline, which default_group does not have)",
      }));
}

TEST(ConfigGroupsTest, WrongShapes) {
  EXPECT_EQ(GroupErrors("groups: {a: 1}"), (Strings{"f.yml:1:9: groups: expected a list of maps, got a map"}));
  EXPECT_EQ(GroupErrors("default_group: [a]"),
            (Strings{R"(f.yml:1:16: default_group: expected a name such as "{{.Comm}}", or drop, got a list)"}));
  EXPECT_EQ(GroupErrors("defaultgroup: drop"),
            (Strings{R"(f.yml:1:1: unknown key "defaultgroup"; did you mean "default_group"?)"}));
  EXPECT_EQ(GroupErrors("process_names: []").size(), 1U);
  EXPECT_EQ(GroupErrors("default_group: '{{.ExeFull}}'"),
            (Strings{R"(f.yml:1:16: default_group: unknown variable ".ExeFull"; did you mean ".ExeBase"?)"}));
  EXPECT_EQ(GroupErrors("default_group: '{{.PID}}-{{.StartTime}}'"),
            (Strings{R"(f.yml:1:16: default_group: unknown variable ".PID"; valid here: .Comm, .ExeBase, .Username, )"
                     R"(.Unit, .ContainerID, .PodUID, .Matches.NAME)"}));
  EXPECT_EQ(GroupErrors("default_group: '{{.Matches.}}'").size(), 1U);
  EXPECT_FALSE(ParseNameTemplate("{{.Matches.a} }}"));  // written again it would be another template
  EXPECT_FALSE(GroupErrors("groups: &g [*g]").empty());
  EXPECT_FALSE(GroupErrors("groups: [{comm: &c [*c]}]").empty());
}

TEST(ConfigGroupsTest, YamlRoundTrip) {
  const std::string text = R"(
scan: {interval: 1h30m, max_cpu: 0.25, full_every: 0s, threads: 3}
limits: {max_groups: 7, ledger_bytes: 1000B}
groups:
  - {name: "a \"b\" {{.Matches.p}}", cmdline: ['\s"(?P<p>.*)'], user: [0]}
  - {comm: [true, "5"]}
default_group: drop
)";
  const LoadResult first = Load(text);
  ASSERT_TRUE(first.errors.empty()) << first.errors.front().ToString();
  const std::string yaml = ToYaml(first.config);
  const LoadResult second = Load(yaml);
  ASSERT_TRUE(second.errors.empty()) << second.errors.front().ToString() << yaml;
  EXPECT_EQ(ToYaml(second.config), yaml);
  EXPECT_EQ(second.config.scan.interval, std::chrono::minutes{90});
  EXPECT_EQ(second.config.scan.max_cpu, 0.25);
  EXPECT_EQ(second.config.limits.ledger_bytes, 1000U);
  ASSERT_EQ(second.config.groups.size(), 2U);
  EXPECT_EQ(TextOf(second.config.groups[0].name), "a \"b\" {{.Matches.p}}");
  EXPECT_EQ(second.config.groups[0].cmdline, (Strings{R"(\s"(?P<p>.*))"}));
  EXPECT_EQ(second.config.groups[1].comm, (Strings{"true", "5"}));
  EXPECT_FALSE(second.config.default_group);
  EXPECT_EQ(ToYaml(Config()), R"(scan:
  interval: 10s
  max_cpu: 0.1
  full_every: 10m
  threads: 1
limits:
  max_groups: 200
  max_processes: 20000
  label_value_length: 128
  ledger_bytes: 256MiB
  ring_bytes: 8MiB
collectors:
  {}
groups: []
default_group: "{{.Comm}}"
)");
}

}  // namespace
}  // namespace cow::config
