#include "exporter/explain/writers_options.h"

#include <string_view>

#include "config/units.h"
#include "exporter/explain/arguments.h"
#include "exporter/explain/command_line.h"

namespace cow::exporter {
namespace {

using Stacks = WritersOptions::Stacks;

constexpr const char* kDefaultTime = "10s";

config::Parsed<Stacks> ParseStacks(std::string_view text) {
  if (text == "off") return Stacks::kOff;
  if (text == "fp") return Stacks::kFramePointers;
  if (text == "dwarf") return Stacks::kDwarf;
  return tl::unexpected("unknown stacks " + config::Quoted(text) + " (known: off, fp, dwarf)");
}

}  // namespace

void AddWritersOptions(CLI::App& command, const std::shared_ptr<std::optional<WritersOptions>>& result) {
  struct Texts {
    std::string time;
    WritersOptions options;
  };
  const auto texts = std::make_shared<Texts>();
  command
      .add_flag("--writers", texts->time,
                "Watch for 10 seconds or --writers=TIME, and show which code broke the sharing")
      ->excludes("--pages")
      ->excludes("--watch");
  AddValue(command, "--stacks", "KIND",
           "With --writers: call stacks by frame pointers (fp) or debug information (dwarf)", &ParseStacks,
           texts->options.stacks)
      ->needs("--writers");
  AddValue(command, "--folded", "FILE", "With --writers: write collapsed stacks, weighted in bytes", &ParsePath,
           texts->options.folded)
      ->needs("--writers");
  AddValue(command, "--pprof", "FILE", "With --writers: write a profile for pprof", &ParsePath, texts->options.pprof)
      ->needs("--writers");
  // The command's own callback runs later.
  command.parse_complete_callback([texts, result] {
    if (texts->time.empty()) return;
    if (texts->time == "true") texts->time = kDefaultTime;  // CLI11's value for a flag without a value
    const auto time = ParsePause(texts->time);
    if (!time) throw CLI::ValidationError("--writers", time.error());
    *result = texts->options;
    (*result)->time = *time;
  });
}

}  // namespace cow::exporter
