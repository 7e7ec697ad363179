#include "exporter/settings.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "config/units.h"

namespace cow::exporter {
namespace {

using Applied = tl::expected<void, std::string>;

Applied ApplySmapsMaxRss(std::string_view text, collectors::CollectorOptions& options) {
  return config::ParseSize(text).map([&options](uint64_t bytes) { options.smaps.max_rss_bytes = bytes; });
}

Applied ApplyProcessTop(std::string_view text, collectors::CollectorOptions& options) {
  return config::ParseIntegerIn(text, 1, collectors::ProcessOptions::kMostTop).map([&options](uint64_t top) {
    options.process.top = top;
  });
}

Applied ApplyProcessBy(std::string_view text, collectors::CollectorOptions& options) {
  using By = collectors::ProcessOptions::By;
  constexpr std::array<std::pair<std::string_view, By>, 3> kNames{
      {{"exposure", By::kExposure}, {"private", By::kPrivate}, {"breaks", By::kBreaks}}};
  for (const auto& [name, by] : kNames) {
    if (text != name) continue;
    options.process.by = by;
    return {};
  }
  return tl::unexpected("bad order " + config::Quoted(text) + " (known: exposure, private, breaks)");
}

Applied ApplyProcessHold(std::string_view text, collectors::CollectorOptions& options) {
  return config::ParseDuration(text).map([&options](std::chrono::milliseconds hold) { options.process.hold = hold; });
}

Applied ApplyWritersTop(std::string_view text, collectors::CollectorOptions& options) {
  return config::ParseIntegerIn(text, 1, collectors::WritersOptions::kMostTop).map([&options](uint64_t top) {
    options.writers.top = top;
  });
}

Applied ApplyWritersOneIn(std::string_view text, collectors::CollectorOptions& options) {
  return config::ParseIntegerIn(text, 1, collectors::WritersOptions::kMostOneIn).map([&options](uint64_t one_in) {
    options.writers.one_in = static_cast<uint32_t>(one_in);
  });
}

// An option of a collector in the configuration.
struct Option {
  std::string_view collector;
  std::string_view name;
  Applied (*apply)(std::string_view text, collectors::CollectorOptions& options);
};
constexpr std::array kOptions{
    Option{"process", "top", &ApplyProcessTop},   Option{"process", "by", &ApplyProcessBy},
    Option{"process", "hold", &ApplyProcessHold}, Option{"smaps", "max_rss", &ApplySmapsMaxRss},
    Option{"writers", "top", &ApplyWritersTop},   Option{"writers", "one_in", &ApplyWritersOneIn}};

std::optional<std::string> ProblemOf(const Option& option, std::string_view text) {
  collectors::CollectorOptions unused;
  const Applied applied = option.apply(text, unused);
  return applied ? std::nullopt : std::optional(applied.error());
}

collectors::CollectorOptions CollectorOptionsOf(const config::Config& config) {
  collectors::CollectorOptions options;
  for (const Option& option : kOptions) {
    const auto collector = config.collectors.find(std::string(option.collector));
    if (collector == config.collectors.end()) continue;
    const auto value = collector->second.options.find(std::string(option.name));
    if (value != collector->second.options.end()) static_cast<void>(option.apply(value->second, options));
  }
  return options;
}

std::vector<std::string> EnabledCollectors(const CommandLine& command_line, const config::Config& config,
                                           const std::vector<collectors::CollectorInfo>& available) {
  std::vector<std::string> enabled;
  for (const collectors::CollectorInfo& info : available) {
    const std::string name(info.name);
    bool wanted = info.enabled_by_default && !command_line.disable_default_collectors;
    if (const auto key = config.collectors.find(name); key != config.collectors.end()) wanted = key->second.enabled;
    if (const auto flag = command_line.collectors.find(name); flag != command_line.collectors.end()) {
      wanted = flag->second;
    }
    if (wanted) enabled.push_back(name);
  }
  return enabled;
}

}  // namespace

std::vector<config::KnownCollector> KnownCollectors(const std::vector<collectors::CollectorInfo>& available) {
  std::vector<config::KnownCollector> known;
  known.reserve(available.size());
  for (const collectors::CollectorInfo& info : available) {
    config::KnownCollector& collector = known.emplace_back();
    collector.name = info.name;
    for (const Option& option : kOptions) {
      if (option.collector != info.name) continue;
      const auto problem = [&option](std::string_view text) { return ProblemOf(option, text); };
      collector.options.push_back({std::string(option.name), problem});
    }
  }
  return known;
}

config::LoadResult LoadConfig(const CommandLine& command_line,
                              const std::vector<collectors::CollectorInfo>& available) {
  if (command_line.config_file.empty()) return {};
  return config::LoadConfig(command_line.config_file, KnownCollectors(available));
}

Settings MakeSettings(const CommandLine& command_line, const config::Config& config,
                      const std::vector<collectors::CollectorInfo>& available) {
  Settings settings;
  settings.config = config;
  config::ScanConfig& scan = settings.config.scan;
  scan.interval = command_line.scan_interval.value_or(scan.interval);
  scan.max_cpu = command_line.scan_max_cpu.value_or(scan.max_cpu);
  scan.full_every = command_line.scan_full_every.value_or(scan.full_every);
  scan.threads = command_line.scan_threads.value_or(scan.threads);
  settings.engine.collectors = EnabledCollectors(command_line, config, available);
  for (const collectors::CollectorInfo& info : available) {
    const std::vector<std::string>& enabled = settings.engine.collectors;
    settings.config.collectors[std::string(info.name)].enabled =
        std::find(enabled.begin(), enabled.end(), info.name) != enabled.end();
  }
  settings.engine.collector_options = CollectorOptionsOf(config);
  settings.engine.max_groups = config.limits.max_groups;
  settings.engine.max_processes = config.limits.max_processes;
  settings.engine.label_value_length = config.limits.label_value_length;
  settings.engine.ledger_bytes = config.limits.ledger_bytes;
  settings.engine.collector_options.writers.ring_bytes = config.limits.ring_bytes;
  settings.engine.full_every = scan.full_every;
  settings.engine.interval = scan.interval;
  settings.engine.threads = scan.threads;
  settings.engine.groups = {config.groups, config.default_group};
  settings.scan.interval = scan.interval;
  settings.scan.threads = scan.threads;
  settings.scan.max_cpu = scan.max_cpu;
  return settings;
}

}  // namespace cow::exporter
