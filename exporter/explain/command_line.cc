#include "exporter/explain/command_line.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/units.h"
#include "exporter/explain/arguments.h"

namespace cow::exporter {
namespace {

using config::Parsed;
using config::Quoted;

constexpr const char* kDefaultPause = "2";
constexpr const char* kStates =
    "States of pages:\n"
    "  shared        another process maps the same page since a fork; a write copies it\n"
    "  copied        this process wrote to a page that was shared at a fork, or to a page of a private file mapping\n"
    "  original      this process kept a page that was shared at a fork and that others copied; or the page of a\n"
    "                private file mapping is still the file's own\n"
    "  unshared      shared at a fork, but no other process maps it now: the others ended, released it, or moved it\n"
    "                before they wrote\n"
    "  unattributed  this process's own, and a relative has a different page there; copied or never shared\n"
    "  private       this process's own, and never seen shared; huge: the same, mapped by a huge page\n"
    "  zero          the zero page; it costs nothing\n"
    "  merged        merged by KSM\n"
    "  file          page of a shared mapping; a write copies nothing\n"
    "  swapped       in swap, with the processes that share it there\n"
    "  unresolved    migrating: neither present nor in swap\n"
    "  unknown       shared or the zero page (before Linux 6.7, without frame numbers)\n"
    "  guard         guard region\n"
    "  absent        no page\n";

// Parses seconds or a duration.
Parsed<std::chrono::milliseconds> ParsePause(std::string_view text) {
  constexpr double kMinSeconds = 0.1;
  constexpr double kMaxSeconds = 86400;
  const auto number = config::ParseNumber(text);
  if (!number) {
    const auto duration = config::ParseDuration(text);
    if (!duration) return tl::unexpected(duration.error());
    return ParsePause(std::to_string(std::chrono::duration<double>(*duration).count()));
  }
  if (*number < kMinSeconds || *number > kMaxSeconds) {
    return tl::unexpected(Quoted(text) + " is out of range: expected 0.1 to 86400 seconds");
  }
  return std::chrono::milliseconds(static_cast<int64_t>(*number * 1000));
}

}  // namespace

void AddPathFlags(CLI::App& app, std::string& procfs, std::string& sysfs) {
  AddValue(app, "--path.procfs", "DIR", "Mount point of procfs (default: /proc)", &ParsePath, procfs);
  AddValue(app, "--path.sysfs", "DIR", "Mount point of sysfs (default: /sys)", &ParsePath, sysfs);
}

void AddExplainCommand(CLI::App& app, std::optional<ExplainOptions>& result) {
  CLI::App* command = app.add_subcommand(
      "explain", "Show a process's family and which of its memory is shared, broken or private, and exit");
  const auto options = std::make_shared<ExplainOptions>();
  command->set_help_flag("-h,--help", "Print this help and exit");
  command->get_formatter()->column_width(40);
  command->footer(kStates);
  AddValue(*command, "PID", "", "Process to explain", &ParsePid, options->pid)->required();
  command->add_flag("--json", options->json, "Print JSON; with --watch, one line per look")->disable_flag_override();
  command->add_flag("--pages", options->pages, "Show runs of pages with their state")->disable_flag_override();
  AddValue(*command, "--mapping", "ADDRESS", "With --pages: show only the mapping of this address", &ParseAddress,
           options->mapping)
      ->needs("--pages");
  const auto watch = std::make_shared<std::string>();
  command->add_flag("--watch", *watch, "Look repeatedly, every 2 seconds or --watch=SECONDS");
  AddPathFlags(*command, options->procfs, options->sysfs);
  command->callback([options, watch, &result] {
    if (*watch == "true") *watch = kDefaultPause;  // CLI11's value for a flag without a value
    if (!watch->empty()) {
      const auto pause = ParsePause(*watch);
      if (!pause) throw CLI::ValidationError("--watch", pause.error());
      options->watch = *pause;
    }
    result = *options;
  });
}

bool HasOptions(const CLI::App& app) {
  const std::vector<const CLI::Option*> options = app.get_options();
  return std::any_of(options.begin(), options.end(), [](const CLI::Option* option) { return option->count() > 0; });
}

}  // namespace cow::exporter
