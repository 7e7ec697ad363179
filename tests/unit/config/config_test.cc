#include "config/config.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cow::config {
namespace {

using std::chrono::milliseconds;

std::optional<std::string> ProblemOfSize(std::string_view text) {
  const auto size = ParseSize(text);
  return size ? std::nullopt : std::optional(size.error());
}

const std::vector<KnownCollector>& Known() {
  static const std::vector<KnownCollector> known = {
      {"sharing", {}},   {"cow", {}},     {"zero_page", {}},
      {"thp", {}},       {"faults", {}},  {"ksm", {}},
      {"delayacct", {}}, {"process", {}}, {"smaps", {{"max_rss", &ProblemOfSize}}},
      {"writers", {}}};
  return known;
}

std::vector<std::string> Errors(std::string_view text) {
  std::vector<std::string> errors;
  for (const ConfigError& error : ParseConfig(text, "f.yml", Known()).errors) errors.push_back(error.ToString());
  return errors;
}

using Strings = std::vector<std::string>;

TEST(ConfigTest, EmptyFilesAreDefaults) {
  for (const char* text :
       {"", "\n\n", "# only this\n", "---\n", "{}", "scan:\nlimits:\ncollectors:\n", "\xef\xbb\xbf"}) {
    const LoadResult result = ParseConfig(text, "f.yml", Known());
    EXPECT_TRUE(result.errors.empty()) << text;
    EXPECT_EQ(result.config.scan.interval, milliseconds{10000});
    EXPECT_TRUE(result.config.collectors.empty());
  }
}

TEST(ConfigTest, ReferenceShowsEveryDefault) {
  const LoadResult result = LoadConfig(COW_REFERENCE_CONFIG, Known());
  ASSERT_TRUE(result.errors.empty()) << result.errors.front().ToString();
  const Config& reference = result.config;
  const Config defaults;
  EXPECT_EQ(reference.scan.interval, defaults.scan.interval);
  EXPECT_EQ(reference.scan.max_cpu, defaults.scan.max_cpu);
  EXPECT_EQ(reference.scan.full_every, defaults.scan.full_every);
  EXPECT_EQ(reference.scan.threads, defaults.scan.threads);
  EXPECT_EQ(reference.limits.max_groups, defaults.limits.max_groups);
  EXPECT_EQ(reference.limits.max_processes, defaults.limits.max_processes);
  EXPECT_EQ(reference.limits.label_value_length, defaults.limits.label_value_length);
  EXPECT_EQ(reference.limits.ledger_bytes, defaults.limits.ledger_bytes);
  EXPECT_EQ(reference.limits.ring_bytes, defaults.limits.ring_bytes);
  EXPECT_TRUE(reference.groups.empty());
  ASSERT_TRUE(reference.default_group);
  EXPECT_EQ(reference.default_group, defaults.default_group);
}

TEST(ConfigTest, ReadsEveryKey) {
  const LoadResult result = ParseConfig(R"(
scan: {interval: 0s, max_cpu: 0.5, full_every: 1h30m, threads: 8}
limits:
  max_groups: 1
  max_processes: 2
  label_value_length: 3
  ledger_bytes: 4KiB
collectors: {cow: false, thp: true, smaps: {max_rss: 512MiB}}
)",
                                        "f.yml", Known());
  ASSERT_TRUE(result.errors.empty()) << result.errors.front().ToString();
  const Config& config = result.config;
  EXPECT_EQ(config.scan.interval, milliseconds{0});
  EXPECT_EQ(config.scan.max_cpu, 0.5);
  EXPECT_EQ(config.scan.full_every, milliseconds{5'400'000});
  EXPECT_EQ(config.scan.threads, 8U);
  EXPECT_EQ(config.limits.max_groups, 1U);
  EXPECT_EQ(config.limits.max_processes, 2U);
  EXPECT_EQ(config.limits.label_value_length, 3U);
  EXPECT_EQ(config.limits.ledger_bytes, 4096U);
  ASSERT_EQ(config.collectors.size(), 3U);
  EXPECT_FALSE(config.collectors.at("cow").enabled);
  EXPECT_TRUE(config.collectors.at("thp").enabled);
  EXPECT_TRUE(config.collectors.at("smaps").enabled);
  EXPECT_EQ(config.collectors.at("smaps").options.at("max_rss"), "512MiB");
}

TEST(ConfigTest, ReportsAllErrorsAtOnceInOrder) {
  const std::string sampling =
      "f.yml:6:3: scan.sample_above: sampling was removed: delete this key; scan.max_cpu bounds the cost, and a pass "
      "may span intervals";
  EXPECT_EQ(Errors(R"(scan:
  intervall: 10s
  max_cpu: "0.1"
  full_every: 10x
  threads: 65
  sample_above: 64GiB
limits:
  max_groups: 0
  max_groups: 5
  label_value_length: -1
  ledger_bytes: [1]
collectors:
  cow: {top: 3}
  shairng: true
  thp: yes
outher: 1
)"),
            (Strings{
                R"(f.yml:2:3: scan: unknown key "intervall"; did you mean "interval"?)",
                R"(f.yml:3:12: scan.max_cpu: expected a number from 0 to 1, got the text "0.1")",
                R"(f.yml:4:15: scan.full_every: bad duration "10x": unknown unit "x" (known: y, w, d, h, m, s, ms))",
                R"(f.yml:5:12: scan.threads: "65" is out of range: it must be from 1 to 64)",
                sampling,
                R"(f.yml:8:15: limits.max_groups: "0" is out of range: it must be from 1 to 100000)",
                R"(f.yml:9:3: limits: duplicate key "max_groups", first given in line 8)",
                R"(f.yml:10:23: limits.label_value_length: bad number "-1": expected a whole number)",
                R"(f.yml:11:17: limits.ledger_bytes: expected a size such as 256MiB, got a list)",
                R"(f.yml:13:9: collectors.cow: unknown option "top"; none is valid here)",
                R"(f.yml:14:3: collectors: unknown collector "shairng"; did you mean "sharing"?)",
                R"(f.yml:15:8: collectors.thp: expected true, false or a map of options, got "yes")",
                R"(f.yml:16:1: unknown key "outher"; valid here: scan, limits, collectors, groups, default_group)",
            }));
}

TEST(ConfigTest, Ranges) {
  EXPECT_EQ(
      Errors("scan: {interval: 1ms}"),
      (Strings{"f.yml:1:18: scan.interval: \"1ms\" is out of range: it must be 0s (a pass at each scrape) or from "
               "10ms to 24h"}));
  EXPECT_EQ(Errors("scan: {interval: 25h}").size(), 1U);
  EXPECT_EQ(Errors("scan: {max_cpu: 1.01}").size(), 1U);
  EXPECT_EQ(Errors("scan: {max_cpu: -0.1}").size(), 1U);
  EXPECT_EQ(Errors("scan: {max_cpu: .nan}").size(), 1U);
  EXPECT_EQ(Errors("scan: {full_every: 31d}").size(), 1U);
  EXPECT_EQ(Errors("scan: {threads: 0}").size(), 1U);
  EXPECT_EQ(Errors("scan: {threads: 64}"), Strings());
  EXPECT_EQ(Errors("limits: {ledger_bytes: 2TiB}").size(), 1U);
  EXPECT_EQ(Errors("limits: {ring_bytes: 1KiB}").size(), 1U);
  EXPECT_EQ(Errors("limits: {ring_bytes: 2GiB}").size(), 1U);
  EXPECT_TRUE(Errors("limits: {ring_bytes: 1GiB}").empty());
  EXPECT_EQ(Errors("limits: {max_processes: 99999999999999999999}").size(), 1U);
}

TEST(ConfigTest, WrongShapes) {
  EXPECT_EQ(Errors("- a\n"), (Strings{"f.yml:1:1: the file: expected a map of keys, got a list"}));
  EXPECT_EQ(Errors("text"), (Strings{"f.yml:1:1: the file: expected a map of keys, got a text"}));
  EXPECT_EQ(Errors("scan: 5"), (Strings{"f.yml:1:7: scan: expected a map of keys, got a text"}));
  EXPECT_EQ(Errors("? [a, b]\n: 1\n"), (Strings{"f.yml:1:3: a key must be a plain name, got a list"}));
  EXPECT_EQ(Errors("scan:\n  interval:\n"),
            (Strings{"f.yml:2:3: scan.interval: expected a duration such as 10s, got nothing"}));
  EXPECT_EQ(Errors("collectors: {smaps: {max_rss: [1]}}"),
            (Strings{"f.yml:1:31: collectors.smaps.max_rss: expected a single value, got a list"}));
  EXPECT_EQ(Errors("collectors: {smaps: {max_rss: 1 apple}}"),
            (Strings{"f.yml:1:31: collectors.smaps.max_rss: " + ProblemOfSize("1 apple").value_or("none")}));
  EXPECT_EQ(Errors("scan: {}\nscan: {}\n"), (Strings{"f.yml:2:1: duplicate key \"scan\", first given in line 1"}));
}

TEST(ConfigTest, SecondDocument) {
  EXPECT_EQ(Errors("scan: {}\n---\nlimits: {}\n"),
            (Strings{"f.yml:2:1: a second document: one file holds one configuration"}));
}

TEST(ConfigTest, SyntaxErrorsHaveAPlace) {
  const Strings errors = Errors("scan:\n  interval: [1\n  max_cpu: 3\n");
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors.front().rfind("f.yml:3:", 0), 0U) << errors.front();
  EXPECT_EQ(Errors("scan: *nowhere\n").size(), 1U);
  EXPECT_EQ(Errors("\tscan: {}\n").size(), 1U);
}

TEST(ConfigTest, HostileTextIsAnError) {
  EXPECT_FALSE(Errors(std::string(100'000, '[')).empty());
  EXPECT_FALSE(Errors(std::string(100'000, '{')).empty());
  EXPECT_FALSE(Errors(std::string("a\0b: 1", 6)).empty());
  EXPECT_FALSE(Errors("\xfd\xfe").empty());
  EXPECT_FALSE(Errors(", a\nscan: {}\n").empty());  // YAML::LoadAll would loop forever
  EXPECT_FALSE(Errors("a: &x [*x, *x]\n").empty());
  EXPECT_FALSE(Errors("\"a\\x1b[2Jb\": 1\n").front().empty());
  EXPECT_EQ(Errors("\"a\\x1b[2Jb\": 1\n").front().find('\x1b'), std::string::npos);
}

TEST(ConfigTest, UnreadableFiles) {
  EXPECT_EQ(LoadConfig("/nonexistent.yml", Known()).errors.at(0).ToString(),
            "/nonexistent.yml: No such file or directory");
  EXPECT_EQ(LoadConfig("/proc", Known()).errors.at(0).ToString(), "/proc: expected a regular file, got a directory");
}

}  // namespace
}  // namespace cow::config
