// The configuration: YAML to settings in force, which written as YAML give the same settings.
#include <string>
#include <vector>

#include "collectors/groups/group_rules.h"
#include "collectors/registry.h"
#include "config/config.h"
#include "config/to_yaml.h"
#include "exporter/settings.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace config = cow::config;
namespace exporter = cow::exporter;

namespace {

exporter::Settings InForce(const config::Config& config) {
  return exporter::MakeSettings({}, config, cow::collectors::AvailableCollectors());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto known = exporter::KnownCollectors(cow::collectors::AvailableCollectors());
  const std::string_view text = cow::fuzz::Text(data, size);
  const config::LoadResult loaded = config::ParseConfig(text, "f", known);
  for (const config::ConfigError& error : loaded.errors) {
    Check(!error.message.empty() && error.line >= 0, "an error has a text");
    for (const char c : error.message) Check(c >= ' ' || c < 0, "an error has no control characters: " + error.message);
  }
  if (!loaded.errors.empty()) return 0;
  const exporter::Settings settings = InForce(loaded.config);
  const std::string yaml = config::ToYaml(settings.config);
  const config::LoadResult again = config::ParseConfig(yaml, "f", known);
  Check(again.errors.empty(),
        "settings in force load: " + (again.errors.empty() ? "" : again.errors[0].ToString()) + "\n" + yaml);
  const exporter::Settings same = InForce(again.config);
  Check(same.engine.groups == settings.engine.groups, "the same groups:\n" + yaml);
  Check(same.engine.collectors == settings.engine.collectors, "the same collectors:\n" + yaml);
  Check(config::ToYaml(same.config) == yaml, "the same text:\n" + yaml);
  return 0;
}
