#include "exporter/settings.h"

namespace cow::exporter {
namespace {

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
  for (const collectors::CollectorInfo& info : available) known.push_back({std::string(info.name), {}});
  return known;
}

Settings MakeSettings(const CommandLine& command_line, const config::Config& config,
                      const std::vector<collectors::CollectorInfo>& available) {
  Settings settings;
  settings.engine.collectors = EnabledCollectors(command_line, config, available);
  settings.engine.max_groups = config.limits.max_groups;
  settings.engine.max_processes = config.limits.max_processes;
  settings.engine.label_value_length = config.limits.label_value_length;
  settings.engine.ledger_bytes = config.limits.ledger_bytes;
  settings.engine.full_every = command_line.scan_full_every.value_or(config.scan.full_every);
  settings.engine.interval = command_line.scan_interval.value_or(config.scan.interval);
  settings.scan.interval = settings.engine.interval;
  settings.scan.max_cpu = command_line.scan_max_cpu.value_or(config.scan.max_cpu);
  return settings;
}

}  // namespace cow::exporter
