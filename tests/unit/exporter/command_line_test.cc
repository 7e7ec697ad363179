#include "exporter/command_line.h"

#include <gtest/gtest.h>

#include <chrono>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;

std::variant<CommandLine, EarlyExit> Parse(const std::vector<const char*>& arguments) {
  std::vector<const char*> all = {"cow_exporter"};
  for (const char* argument : arguments) all.push_back(argument);
  return ParseCommandLine(all, {{"cow", "Breaks", true}, {"smaps", "Sums", false}}, {"1.2.3", "abc", "GNU 1"});
}

CommandLine Good(const std::vector<const char*>& arguments) {
  auto parsed = Parse(arguments);
  const auto* problem = std::get_if<EarlyExit>(&parsed);
  EXPECT_EQ(problem, nullptr) << problem->text;
  return problem == nullptr ? std::get<CommandLine>(parsed) : CommandLine{};
}

TEST(CommandLineTest, Defaults) {
  const CommandLine line = Good({});
  EXPECT_EQ(line.config_file, "");
  EXPECT_FALSE(line.check_config);
  EXPECT_FALSE(line.health_check);
  EXPECT_FALSE(line.once);
  ASSERT_EQ(line.listen_addresses.size(), 1U);
  EXPECT_EQ(line.listen_addresses[0].host, "");
  EXPECT_EQ(line.listen_addresses[0].port, 10066);
  EXPECT_FALSE(line.systemd_socket);
  EXPECT_EQ(line.web_config_file, "");
  EXPECT_EQ(line.telemetry_path, "/metrics");
  EXPECT_EQ(line.max_requests, 40U);
  EXPECT_TRUE(line.process_metrics);
  EXPECT_EQ(line.procfs, "/proc");
  EXPECT_EQ(line.sysfs, "/sys");
  EXPECT_FALSE(line.scan_interval);
  EXPECT_FALSE(line.scan_max_cpu);
  EXPECT_FALSE(line.scan_full_every);
  EXPECT_FALSE(line.scan_threads);
  EXPECT_TRUE(line.collectors.empty());
  EXPECT_EQ(line.sandbox, SandboxMode::kAuto);
  EXPECT_EQ(line.log_level, LogLevel::kInfo);
  EXPECT_EQ(line.log_format, LogFormat::kLogfmt);
}

TEST(CommandLineTest, BothFormsOfValues) {
  const CommandLine line = Good({"--scan.interval=0",
                                 "--scan.max-cpu",
                                 "0.5",
                                 "--scan.full-every=1h",
                                 "--web.listen-address",
                                 "127.0.0.1:0",
                                 "--web.listen-address=unix:/run/c.sock",
                                 "--web.listen-address=[::1]:1",
                                 "--web.config.file=/etc/web.yml",
                                 "--web.external-url=https://proxy.example/cow",
                                 "--web.telemetry-path=/m",
                                 "--web.max-requests=3",
                                 "--web.disable-exporter-metrics",
                                 "--path.procfs=/host/proc",
                                 "--path.sysfs",
                                 "/s",
                                 "--sandbox=require",
                                 "--log.level=debug",
                                 "--log.format",
                                 "json",
                                 "--config.file=c.yml",
                                 "--scan.threads=8",
                                 "--once"});
  EXPECT_EQ(line.scan_interval, milliseconds{0});
  EXPECT_EQ(line.scan_max_cpu, 0.5);
  EXPECT_EQ(line.scan_full_every, milliseconds{3'600'000});
  EXPECT_EQ(line.scan_threads, 8U);
  ASSERT_EQ(line.listen_addresses.size(), 3U);
  EXPECT_EQ(line.listen_addresses[0].host, "127.0.0.1");
  EXPECT_EQ(line.listen_addresses[1].path, "/run/c.sock");
  EXPECT_EQ(line.listen_addresses[2].host, "::1");
  EXPECT_EQ(line.web_config_file, "/etc/web.yml");
  EXPECT_EQ(line.external_url, "https://proxy.example/cow");
  EXPECT_EQ(line.telemetry_path, "/m");
  EXPECT_EQ(line.max_requests, 3U);
  EXPECT_FALSE(line.process_metrics);
  EXPECT_EQ(line.procfs, "/host/proc");
  EXPECT_EQ(line.sysfs, "/s");
  EXPECT_EQ(line.sandbox, SandboxMode::kRequire);
  EXPECT_EQ(line.log_level, LogLevel::kDebug);
  EXPECT_EQ(line.log_format, LogFormat::kJson);
  EXPECT_EQ(line.config_file, "c.yml");
  EXPECT_TRUE(line.once);
}

TEST(CommandLineTest, SandboxModes) {
  EXPECT_EQ(Good({"--sandbox=auto"}).sandbox, SandboxMode::kAuto);
  EXPECT_EQ(Good({"--sandbox", "off"}).sandbox, SandboxMode::kOff);
}

TEST(CommandLineTest, HealthCheck) {
  const CommandLine line = Good({"--web.healthcheck", "--web.listen-address=unix:/run/c.sock"});
  EXPECT_TRUE(line.health_check);
  EXPECT_EQ(line.listen_addresses.at(0).path, "/run/c.sock");
}

TEST(CommandLineTest, Collectors) {
  const CommandLine line = Good({"--collector.smaps", "--no-collector.cow", "--collector.disable-defaults"});
  EXPECT_TRUE(line.collectors.at("smaps"));
  EXPECT_FALSE(line.collectors.at("cow"));
  EXPECT_TRUE(line.disable_default_collectors);
}

TEST(CommandLineTest, WrongUsageIsTwo) {
  const std::vector<std::vector<const char*>> cases = {
      {"--nope"},
      {"word"},
      {"--web.listen-address", ":1", ":2"},
      {"--scan.interval"},
      {"--scan.interval="},
      {"--scan.interval=5"},
      {"--scan.interval=-5s"},
      {"--scan.interval=1s", "--scan.interval=2s"},
      {"--scan.max-cpu=nan"},
      {"--scan.max-cpu=2"},
      {"--scan.threads=0"},
      {"--scan.threads=65"},
      {"--scan.threads=two"},
      {"--web.max-requests=0"},
      {"--web.max-requests=x"},
      {"--web.external-url=proxy.example"},
      {"--web.external-url="},
      {"--web.telemetry-path=metrics"},
      {"--web.telemetry-path=/"},
      {"--web.telemetry-path=/a?b"},
      {"--web.telemetry-path=/<script>"},
      {"--web.telemetry-path=/-/ready"},
      {"--web.listen-address=nonsense"},
      {"--sandbox=on"},
      {"--sandbox"},
      {"--log.level=loud"},
      {"--log.format=xml"},
      {"--once=maybe"},
      {"--once", "--config.check"},
      {"--once", "--web.healthcheck"},
      {"--config.check", "--web.healthcheck"},
      {"--web.healthcheck", "--web.systemd-socket"},
      {"--web.listen-address=:1", "--web.systemd-socket"},
      {"--collector.nope"},
      {"--collector.cow", "--no-collector.cow"},
      {"--no-collector.smaps", "--collector.smaps"},
      {"--config.file=a", "--config.file=b"},
  };
  for (const auto& arguments : cases) {
    const auto parsed = Parse(arguments);
    const auto* problem = std::get_if<EarlyExit>(&parsed);
    ASSERT_NE(problem, nullptr) << arguments.front();
    EXPECT_EQ(problem->code, 2) << arguments.front();
    EXPECT_FALSE(problem->text.empty()) << arguments.front();
  }
}

TEST(CommandLineTest, Explain) {
  EXPECT_FALSE(Good({}).explain);
  EXPECT_FALSE(Good({}).enable_api);
  EXPECT_TRUE(Good({"--web.enable-api"}).enable_api);
  const auto plain = Good({"explain", "12"}).explain;
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->pid, 12);
  EXPECT_FALSE(plain->json || plain->pages || plain->mapping || plain->watch);
  EXPECT_EQ(plain->procfs, "/proc");
  const auto full =
      Good({"explain", "--pages", "--mapping=0x7f00", "--json", "--watch=0.5", "--path.procfs=/p", "3"}).explain;
  ASSERT_TRUE(full);
  EXPECT_TRUE(full->json && full->pages);
  EXPECT_EQ(full->mapping, 0x7f00U);
  EXPECT_EQ(full->watch, milliseconds{500});
  EXPECT_EQ(full->procfs, "/p");
  EXPECT_EQ(Good({"explain", "--watch", "3"}).explain->watch, milliseconds{2000});
  EXPECT_EQ(Good({"explain", "3", "--watch=1m"}).explain->watch, milliseconds{60000});
  EXPECT_EQ(Good({"explain", "3", "--pages", "--mapping", "7f2c57000000"}).explain->mapping, 0x7f2c57000000U);
}

TEST(CommandLineTest, ExplainByNameOrGroup) {
  const auto named = Good({"explain", "redis-server"}).explain;
  ASSERT_TRUE(named);
  EXPECT_EQ(named->pid, 0);
  EXPECT_EQ(named->name, "redis-server");
  EXPECT_EQ(Good({"explain", "12x"}).explain->name, "12x");
  const CommandLine line = Good({"explain", "--group", "redis-6379", "--config.file=c.yml"});
  ASSERT_TRUE(line.explain);
  EXPECT_EQ(line.explain->group, "redis-6379");
  EXPECT_EQ(line.explain->name, "");
  EXPECT_EQ(line.config_file, "c.yml");
  EXPECT_EQ(Good({"explain", "--group", "a"}).config_file, "");
}

TEST(CommandLineTest, ExplainWrongUsage) {
  const std::vector<std::vector<const char*>> cases = {
      {"explain"},
      {"explain", "0"},
      {"explain", "-1"},
      {"explain", ""},
      {"explain", "--group="},
      {"explain", "1", "--group=a"},
      {"explain", "redis-server", "--group=a"},
      {"explain", "redis-server", "--config.file=c.yml"},
      {"explain", "99999999999"},
      {"explain", "1", "2"},
      {"explain", "1", "--mapping=7f00"},
      {"explain", "1", "--pages", "--mapping=x"},
      {"explain", "1", "--watch=0"},
      {"explain", "1", "--watch=-3"},
      {"explain", "1", "--watch=soon"},
      {"explain", "1", "--json=no"},
      {"--once", "explain", "1"},
      {"explain", "1", "--once"},
  };
  for (const auto& arguments : cases) {
    const auto parsed = Parse(arguments);
    const auto* problem = std::get_if<EarlyExit>(&parsed);
    ASSERT_NE(problem, nullptr) << arguments.back();
    EXPECT_EQ(problem->code, 2) << arguments.back();
  }
  const auto help = std::get<EarlyExit>(Parse({"explain", "--help"}));
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.text.find("unattributed"), std::string::npos);
}

std::string ProblemOf(const std::vector<const char*>& arguments) {
  const auto parsed = Parse(arguments);
  const auto* problem = std::get_if<EarlyExit>(&parsed);
  return problem == nullptr ? "" : problem->text.substr(0, problem->text.find('\n'));
}

TEST(CommandLineTest, UnknownFlagsSuggestTheNearest) {
  EXPECT_EQ(ProblemOf({"--scan.intervall=3s"}),
            "cow_exporter: unknown flag \"--scan.intervall\": did you mean \"--scan.interval\"?");
  EXPECT_EQ(ProblemOf({"-config.file", "c.yml"}),
            "cow_exporter: unknown flag \"-config.file\": did you mean \"--config.file\"?");
  EXPECT_EQ(ProblemOf({"--no-collector.smap"}),
            "cow_exporter: unknown flag \"--no-collector.smap\": did you mean \"--no-collector.smaps\"?");
  EXPECT_EQ(ProblemOf({"explain", "1", "--watc"}), "cow_exporter: unknown flag \"--watc\": did you mean \"--watch\"?");
  EXPECT_EQ(ProblemOf({"--xyzzy"}), "cow_exporter: unknown flag \"--xyzzy\"");
  EXPECT_EQ(ProblemOf({"explian", "1"}), "cow_exporter: unexpected argument \"explian\": did you mean \"explain\"?");
  EXPECT_EQ(ProblemOf({"explain", "1", "2"}), "cow_exporter: unexpected argument \"2\"");
}

void ExpectFits(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

TEST(CommandLineTest, HelpIsGroupedAndFits80Columns) {
  const std::string help = std::get<EarlyExit>(Parse({"--help"})).text;
  ExpectFits(help);
  size_t last = 0;
  for (const char* part :
       {"Usage: cow_exporter [FLAGS]\n       cow_exporter explain [FLAGS] PROCESS\n",
        "\nExamples:\n  cow_exporter explain ", "\nGeneral:\n", "\nWeb:\n", "\nScanning:\n",
        "\nCollectors (on by default, unless marked off):\n", "  --[no-]collector.cow            Breaks\n",
        "  --[no-]collector.smaps          Sums (off)\n", "\nLogging:\n", "\nCommands:\n",
        "By default the exporter listens on port 10066 of all interfaces"}) {
    const size_t found = help.find(part, last);
    ASSERT_NE(found, std::string::npos) << part;
    last = found;
  }
  const std::string explain = std::get<EarlyExit>(Parse({"explain", "--help"})).text;
  ExpectFits(explain);
  EXPECT_LT(explain.find("\nExamples:\n"), explain.find("\nFlags:\n"));
  EXPECT_NE(explain.find("Usage: cow_exporter explain [FLAGS] PROCESS\n"), std::string::npos);
}

TEST(CommandLineTest, HelpAndVersion) {
  const auto help = std::get<EarlyExit>(Parse({"--help"}));
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.text.find("--[no-]collector.smaps"), std::string::npos);
  const auto version = std::get<EarlyExit>(Parse({"--version"}));
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.text, "cow_exporter, version 1.2.3 (revision: abc)\n  compiler: GNU 1\n");
}

}  // namespace
}  // namespace cow::exporter
