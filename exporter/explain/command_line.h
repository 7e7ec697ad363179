// The command line of `explain`.
#pragma once

#include <optional>

#include "exporter/explain/command.h"

namespace CLI {
class App;
}

namespace cow::exporter {

// Adds the command to `app`. Parsing sets `result` if the command is given; `result` must outlive the parsing.
void AddExplainCommand(CLI::App& app, std::optional<ExplainOptions>& result);

// True if a flag was given to `app` itself.
bool HasOptions(const CLI::App& app);

}  // namespace cow::exporter
