#include "exporter/settings.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

namespace cow::exporter {
namespace {

using Strings = std::vector<std::string>;

const std::vector<collectors::CollectorInfo>& Available() {
  static const std::vector<collectors::CollectorInfo> available = {
      {"cow", "", true}, {"faults", "", true}, {"ksm", "", false}, {"process", "", false}, {"smaps", "", false}};
  return available;
}

TEST(SettingsTest, FlagOverridesKeyOverridesDefault) {
  CommandLine line;
  config::Config config;
  EXPECT_EQ(MakeSettings(line, config, Available()).engine.collectors, (Strings{"cow", "faults"}));

  config.collectors["cow"].enabled = false;
  config.collectors["ksm"].enabled = true;
  EXPECT_EQ(MakeSettings(line, config, Available()).engine.collectors, (Strings{"faults", "ksm"}));

  line.collectors["cow"] = true;
  line.collectors["ksm"] = false;
  EXPECT_EQ(MakeSettings(line, config, Available()).engine.collectors, (Strings{"cow", "faults"}));
}

TEST(SettingsTest, DisabledDefaultsKeepNamedCollectors) {
  CommandLine line;
  line.disable_default_collectors = true;
  line.collectors["smaps"] = true;
  config::Config config;
  config.collectors["faults"].enabled = true;
  EXPECT_EQ(MakeSettings(line, config, Available()).engine.collectors, (Strings{"faults", "smaps"}));
}

TEST(SettingsTest, CollectorOptionsAreChecked) {
  const auto load = [](const std::string& text) {
    return config::ParseConfig(text, "f.yml", KnownCollectors(Available()));
  };
  const config::LoadResult good = load("collectors: {smaps: {max_rss: 1GiB}}");
  ASSERT_TRUE(good.errors.empty()) << good.errors.front().ToString();
  const Settings settings = MakeSettings({}, good.config, Available());
  EXPECT_EQ(settings.engine.collector_options.smaps.max_rss_bytes, uint64_t{1} << 30U);
  EXPECT_EQ(settings.engine.collectors, (Strings{"cow", "faults", "smaps"}));
  EXPECT_EQ(MakeSettings({}, {}, Available()).engine.collector_options.smaps.max_rss_bytes, uint64_t{512} << 20U);

  const config::LoadResult process = load("collectors: {process: {top: 3, by: breaks, hold: 5m}}");
  ASSERT_TRUE(process.errors.empty()) << process.errors.front().ToString();
  const collectors::ProcessOptions options =
      MakeSettings(CommandLine(), process.config, Available()).engine.collector_options.process;
  EXPECT_EQ(options.top, 3U);
  EXPECT_EQ(options.by, collectors::ProcessOptions::By::kBreaks);
  EXPECT_EQ(options.hold, std::chrono::minutes(5));
  const config::LoadResult wrong = load("collectors: {process: {top: 0, by: size, hold: long}}");
  ASSERT_EQ(wrong.errors.size(), 3U);
  EXPECT_EQ(wrong.errors.at(0).message, R"(collectors.process.top: "0" is out of range: it must be from 1 to 1000)");
  EXPECT_EQ(wrong.errors.at(1).message,
            R"(collectors.process.by: bad order "size" (known: exposure, private, breaks))");

  const config::LoadResult bad = load("collectors: {smaps: {max_rss: much}, ksm: {max_rss: 1B}}");
  ASSERT_EQ(bad.errors.size(), 2U);
  EXPECT_EQ(bad.errors.at(0).ToString().rfind("f.yml:1:31: collectors.smaps.max_rss: bad size \"much\"", 0), 0U)
      << bad.errors.at(0).ToString();
  EXPECT_EQ(bad.errors.at(1).ToString(), "f.yml:1:44: collectors.ksm: unknown option \"max_rss\"; none is valid here");
}

TEST(SettingsTest, ScanFlagsOverrideKeys) {
  CommandLine line;
  config::Config config;
  config.scan.interval = std::chrono::seconds{3};
  config.scan.max_cpu = 0.2;
  config.scan.threads = 3;
  config.limits.max_groups = 7;
  config.limits.ledger_bytes = 4096;
  EXPECT_EQ(MakeSettings(line, config, {}).scan.interval, std::chrono::seconds{3});
  EXPECT_EQ(MakeSettings(line, config, {}).engine.interval, std::chrono::seconds{3});
  EXPECT_EQ(MakeSettings(line, config, {}).engine.ledger_bytes, 4096U);
  EXPECT_EQ(MakeSettings(line, config, {}).engine.full_every, std::chrono::minutes{10});
  EXPECT_EQ(MakeSettings(line, config, {}).engine.threads, 3U);
  EXPECT_EQ(MakeSettings(line, config, {}).scan.threads, 3U);
  line.scan_threads = 4;
  line.scan_full_every = std::chrono::minutes{1};
  line.scan_interval = std::chrono::seconds{0};
  line.scan_max_cpu = 0;
  const Settings settings = MakeSettings(line, config, {});
  EXPECT_EQ(settings.scan.interval, std::chrono::seconds{0});
  EXPECT_EQ(settings.scan.max_cpu, 0);
  EXPECT_EQ(settings.engine.threads, 4U);
  EXPECT_EQ(settings.scan.threads, 4U);
  EXPECT_EQ(settings.engine.full_every, std::chrono::minutes{1});
  EXPECT_EQ(settings.engine.max_groups, 7U);
}

TEST(SettingsTest, ConvertsGroups) {
  const config::LoadResult loaded = config::ParseConfig(R"(
groups:
  - name: "a-{{.Comm}}{{.ExeBase}}{{.Username}}{{.Unit}}{{.ContainerID}}{{.PodUID}}{{.Matches.m}}"
    comm: [c]
    exe: [e]
    cmdline: ['(?P<m>l)']
    user: [u]
    cgroup: [g]
    unit: [n]
    container_id: [d]
default_group: drop
)",
                                                        "f.yml", {});
  ASSERT_TRUE(loaded.errors.empty());
  const GroupOptions groups = MakeSettings({}, loaded.config, {}).engine.groups;
  ASSERT_EQ(groups.rules.size(), 1U);
  using Kind = GroupNamePart::Kind;
  const GroupRule expected{{{Kind::kText, "a-"},
                            {Kind::kComm, ""},
                            {Kind::kExeBase, ""},
                            {Kind::kUsername, ""},
                            {Kind::kUnit, ""},
                            {Kind::kContainerId, ""},
                            {Kind::kPodUid, ""},
                            {Kind::kMatch, "m"}},
                           {"c"},
                           {"e"},
                           {"(?P<m>l)"},
                           {"u"},
                           {"g"},
                           {"n"},
                           {"d"}};
  EXPECT_EQ(groups.rules.front(), expected);
  EXPECT_FALSE(groups.default_name);
  EXPECT_EQ(MakeSettings({}, {}, {}).engine.groups, GroupOptions());
}

TEST(SettingsTest, ConfigIncludesFlags) {
  CommandLine line;
  line.scan_interval = std::chrono::seconds{3};
  line.collectors["ksm"] = true;
  line.collectors["cow"] = false;
  const config::Config config = MakeSettings(line, {}, Available()).config;
  EXPECT_EQ(config.scan.interval, std::chrono::seconds{3});
  ASSERT_EQ(config.collectors.size(), Available().size());
  EXPECT_TRUE(config.collectors.at("ksm").enabled);
  EXPECT_FALSE(config.collectors.at("cow").enabled);
  EXPECT_TRUE(config.collectors.at("faults").enabled);
  EXPECT_FALSE(config.collectors.at("smaps").enabled);
}

TEST(SettingsTest, ReferenceNamesEveryCollectorWithItsDefault) {
  const auto available = collectors::AvailableCollectors();
  const config::LoadResult reference = config::LoadConfig(COW_REFERENCE_CONFIG, KnownCollectors(available));
  ASSERT_TRUE(reference.errors.empty()) << reference.errors.front().ToString();
  for (const collectors::CollectorInfo& info : available) {
    const auto key = reference.config.collectors.find(std::string(info.name));
    ASSERT_NE(key, reference.config.collectors.end()) << info.name;
    EXPECT_EQ(key->second.enabled, info.enabled_by_default) << info.name;
  }
}

}  // namespace
}  // namespace cow::exporter
