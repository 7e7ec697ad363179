#include "config/to_yaml.h"

#include <yaml-cpp/yaml.h>

#include <array>
#include <charconv>

#include "config/name_template.h"

namespace cow::config {
namespace {

// The shortest text that parses to the same number.
std::string Shortest(double number) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), number).ptr;
  return {text.data(), end};
}

void WriteScan(const ScanConfig& scan, YAML::Emitter& out) {
  out << YAML::Key << "scan" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "interval" << YAML::Value << FormatDuration(scan.interval);
  out << YAML::Key << "max_cpu" << YAML::Value << Shortest(scan.max_cpu);
  out << YAML::Key << "full_every" << YAML::Value << FormatDuration(scan.full_every);
  out << YAML::Key << "threads" << YAML::Value << scan.threads;
  out << YAML::EndMap;
}

void WriteLimits(const LimitsConfig& limits, YAML::Emitter& out) {
  out << YAML::Key << "limits" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "max_groups" << YAML::Value << limits.max_groups;
  out << YAML::Key << "max_processes" << YAML::Value << limits.max_processes;
  out << YAML::Key << "label_value_length" << YAML::Value << limits.label_value_length;
  out << YAML::Key << "ledger_bytes" << YAML::Value << FormatSize(limits.ledger_bytes);
  out << YAML::Key << "ring_bytes" << YAML::Value << FormatSize(limits.ring_bytes);
  out << YAML::EndMap;
}

void WriteCollectors(const Config& config, YAML::Emitter& out) {
  out << YAML::Key << "collectors" << YAML::Value << YAML::BeginMap;
  for (const auto& [name, collector] : config.collectors) {
    out << YAML::Key << name << YAML::Value;
    if (!collector.enabled || collector.options.empty()) {
      out << collector.enabled;
      continue;
    }
    out << YAML::Flow << YAML::BeginMap;
    for (const auto& [option, value] : collector.options) out << YAML::Key << option << YAML::Value << value;
    out << YAML::EndMap;
  }
  out << YAML::EndMap;
}

void WriteTexts(const char* key, const std::vector<std::string>& texts, YAML::Emitter& out) {
  if (texts.empty()) return;
  out << YAML::Key << key << YAML::Value << YAML::Flow << YAML::BeginSeq;
  for (const std::string& text : texts) out << YAML::DoubleQuoted << text;
  out << YAML::EndSeq;
}

void WriteGroups(const std::vector<GroupRule>& groups, YAML::Emitter& out) {
  out << YAML::Key << "groups" << YAML::Value;
  if (groups.empty()) out << YAML::Flow;
  out << YAML::BeginSeq;
  for (const GroupRule& group : groups) {
    out << YAML::BeginMap;
    out << YAML::Key << "name" << YAML::Value << YAML::DoubleQuoted << TextOf(group.name);
    WriteTexts("comm", group.comm, out);
    WriteTexts("exe", group.exe, out);
    WriteTexts("cmdline", group.cmdline, out);
    WriteTexts("user", group.user, out);
    WriteTexts("cgroup", group.cgroup, out);
    WriteTexts("unit", group.unit, out);
    WriteTexts("container_id", group.container_id, out);
    out << YAML::EndMap;
  }
  out << YAML::EndSeq;
}

}  // namespace

std::string ToYaml(const Config& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  WriteScan(config.scan, out);
  WriteLimits(config.limits, out);
  WriteCollectors(config, out);
  WriteGroups(config.groups, out);
  out << YAML::Key << "default_group" << YAML::Value;
  if (config.default_group) {
    out << YAML::DoubleQuoted << TextOf(*config.default_group);
  } else {
    out << "drop";
  }
  out << YAML::EndMap;
  return std::string(out.c_str(), out.size()) + "\n";
}

}  // namespace cow::config
