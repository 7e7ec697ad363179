// The options of `explain PID --writers`.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace cow::exporter {

struct WritersOptions {
  enum class Stacks { kOff, kFramePointers, kDwarf };

  std::chrono::milliseconds time{0};
  Stacks stacks = Stacks::kOff;
  std::optional<std::string> folded;  // files
  std::optional<std::string> pprof;
};

// Adds the options to the command. Parsing sets the result if --writers is given.
void AddWritersOptions(CLI::App& command, const std::shared_ptr<std::optional<WritersOptions>>& result);

}  // namespace cow::exporter
