#include "exporter/settings.h"

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
  const auto top = config::ParseInteger(text);
  if (!top) return tl::unexpected(top.error());
  if (*top == 0 || *top > collectors::ProcessOptions::kMostTop) {
    return tl::unexpected(config::Quoted(text) + " is out of range: it must be from 1 to " +
                          std::to_string(collectors::ProcessOptions::kMostTop));
  }
  options.process.top = *top;
  return {};
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

// The options that collectors take in the configuration.
struct Option {
  std::string_view collector;
  std::string_view name;
  Applied (*apply)(std::string_view text, collectors::CollectorOptions& options);
};
constexpr std::array kOptions{Option{"process", "top", &ApplyProcessTop}, Option{"process", "by", &ApplyProcessBy},
                              Option{"process", "hold", &ApplyProcessHold},
                              Option{"smaps", "max_rss", &ApplySmapsMaxRss}};

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

Settings MakeSettings(const CommandLine& command_line, const config::Config& config,
                      const std::vector<collectors::CollectorInfo>& available) {
  Settings settings;
  settings.engine.collectors = EnabledCollectors(command_line, config, available);
  settings.engine.collector_options = CollectorOptionsOf(config);
  settings.engine.max_groups = config.limits.max_groups;
  settings.engine.max_processes = config.limits.max_processes;
  settings.engine.label_value_length = config.limits.label_value_length;
  settings.engine.ledger_bytes = config.limits.ledger_bytes;
  settings.engine.full_every = command_line.scan_full_every.value_or(config.scan.full_every);
  settings.engine.sample_above_bytes = config.scan.sample_above_bytes;
  settings.engine.interval = command_line.scan_interval.value_or(config.scan.interval);
  settings.engine.threads = command_line.scan_threads.value_or(config.scan.threads);
  settings.scan.interval = settings.engine.interval;
  settings.scan.threads = settings.engine.threads;
  settings.scan.max_cpu = command_line.scan_max_cpu.value_or(config.scan.max_cpu);
  return settings;
}

}  // namespace cow::exporter
