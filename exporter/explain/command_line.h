// The command line of `explain`, and options that it shares with the program's own.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "config/units.h"
#include "exporter/explain/command.h"

namespace cow::exporter {

// Adds an option whose text `parse` reads into `target`. CLI11 only collects the text, so all errors have the same
// form.
template <class T, class Parse>
CLI::Option* AddValue(CLI::App& app, const std::string& name, const char* type, const std::string& help, Parse parse,
                      T& target) {
  const auto read = [name, parse, &target](const std::string& text) {
    auto parsed = parse(text);
    if (!parsed) throw CLI::ValidationError(name, parsed.error());
    target = std::move(*parsed);
  };
  return app.add_option_function<std::string>(name, read, help)->type_name(type);
}

// Parses the time between looks or of a watch: seconds, or a duration.
config::Parsed<std::chrono::milliseconds> ParsePause(std::string_view text);

// Adds --path.procfs and --path.sysfs to a group of --help.
void AddPathFlags(CLI::App& app, std::string& procfs, std::string& sysfs, const std::string& group);

// Adds the command to `app`. Parsing sets `result` and the file of its --config.file if the command is given; both must
// outlive the parsing.
void AddExplainCommand(CLI::App& app, std::optional<ExplainOptions>& result, std::string& config_file);

// True if a flag was given to `app` itself.
bool HasOptions(const CLI::App& app);

}  // namespace cow::exporter
