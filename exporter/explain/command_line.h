// The part of the command line that is `explain`'s.
#pragma once

#include <optional>

#include "exporter/explain/command.h"

namespace CLI {
class App;
}

namespace cow::exporter {

// Adds the command to `app`; where it is given, parsing fills `result`, which outlives the parsing.
void AddExplainCommand(CLI::App& app, std::optional<ExplainOptions>& result);

// A flag of the program itself was given.
bool HasOptions(const CLI::App& app);

}  // namespace cow::exporter
