#include "exporter/explain/command_line.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/units.h"
#include "exporter/explain/arguments.h"
#include "exporter/explain/writers_options.h"

namespace cow::exporter {
namespace {

using config::Parsed;
using config::Quoted;

constexpr const char* kDefaultPause = "2";
constexpr const char* kDescription =
    "Show the family of a process and which of its memory is shared, copied, original or private now. The family is "
    "the process and its relatives by fork that run the same program. Your own processes need no root, but root sees "
    "more.\n"
    "\n"
    "Examples:\n"
    "  cow_exporter explain redis-server      by name: a Redis and its saving child\n"
    "  cow_exporter explain 6798              by PID\n"
    "  cow_exporter explain --group gunicorn  by the group that the metrics name\n"
    "  cow_exporter explain 6798 --watch=5    again every 5 seconds\n"
    "  cow_exporter explain 6798 --pages --mapping=7f2c57000000\n"
    "                                         the state of each page\n"
    "  cow_exporter explain 6798 --json       for programs";
constexpr const char* kStates =
    "Words for pages, in tables, --pages and JSON:\n"
    "  shared        another process maps the same page since a fork; a write\n"
    "                copies it\n"
    "  copied        this process wrote to a shared page, or to a page of a private\n"
    "                file mapping\n"
    "  original      the page that others copied, or still the file's own page in a\n"
    "                private file mapping\n"
    "  private       its own, neither copied nor original; in sums, unshared and\n"
    "                unattributed pages are part of it\n"
    "  unshared      shared at a fork, but no other process maps it now: the others\n"
    "                ended, released it, or moved it before they wrote\n"
    "  unattributed  a relative has a different page there; copied or never shared\n"
    "  zero          the zero page; it costs nothing\n"
    "  huge          mapped by a huge page; in sums pages of any state, in --pages a\n"
    "                private one\n"
    "  merged        merged by KSM\n"
    "  file          page of a shared mapping; a write copies nothing\n"
    "  swapped       in swap, with the processes that share it there\n"
    "  unresolved    migrating: neither present nor in swap\n"
    "  unknown       shared or the zero page (before Linux 6.7, without frame\n"
    "                numbers)\n"
    "  guard         guard region\n"
    "  absent        no page";

// Reads the process id, or else the name.
Parsed<ExplainOptions> ParseProcess(std::string_view text) {
  ExplainOptions process;
  if (IsPid(text)) {
    const auto pid = ParsePid(text);
    if (!pid) return tl::unexpected(pid.error());
    process.pid = *pid;
  } else if (text.empty() || text.starts_with('-') || text.find('\0') != std::string_view::npos) {
    return tl::unexpected(std::string("expected a process id or a name"));
  } else {
    process.name = text;
  }
  return process;
}

Parsed<std::string> ParseGroup(std::string_view text) {
  if (text.empty()) return tl::unexpected(std::string("expected the name of a group"));
  return std::string(text);
}

}  // namespace

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

void AddPathFlags(CLI::App& app, std::string& procfs, std::string& sysfs, const std::string& group) {
  AddValue(app, "--path.procfs", "DIR", "Mount point of procfs (default: /proc)", &ParsePath, procfs)->group(group);
  AddValue(app, "--path.sysfs", "DIR", "Mount point of sysfs (default: /sys)", &ParsePath, sysfs)->group(group);
}

void AddExplainCommand(CLI::App& app, std::optional<ExplainOptions>& result, std::string& config_file) {
  CLI::App* command = app.add_subcommand("explain", kDescription);
  const auto options = std::make_shared<ExplainOptions>();
  const auto process = std::make_shared<ExplainOptions>();  // only its pid and name
  command->option_defaults()->group("Flags");
  command->set_help_flag("-h,--help", "Print this help and exit");
  command->footer(kStates);
  AddValue(*command, "PROCESS", "", "PID or name; if several families have the name, list them and exit with 1",
           &ParseProcess, *process);
  AddValue(*command, "--group", "NAME", "Explain the family of this group; if it has several, list them as for a name",
           &ParseGroup, options->group);
  AddValue(*command, "--config.file", "FILE",
           "With --group: configuration with the rules of the groups (default: one group per process name)", &ParsePath,
           config_file)
      ->needs("--group");
  command->add_flag("--json", options->json, "Print JSON; with --watch, one line per look")->disable_flag_override();
  command->add_flag("--pages", options->pages, "Show runs of pages with their state")->disable_flag_override();
  AddValue(*command, "--mapping", "ADDRESS", "With --pages: show only the mapping of this address", &ParseAddress,
           options->mapping)
      ->needs("--pages");
  const auto watch = std::make_shared<std::string>();
  command->add_flag("--watch", *watch, "Look repeatedly, every 2 seconds or --watch=SECONDS");
  const auto writers = std::make_shared<std::optional<WritersOptions>>();
  AddWritersOptions(*command, writers);
  AddPathFlags(*command, options->procfs, options->sysfs, "Flags");
  command->callback([options, process, watch, writers, &result] {
    options->pid = process->pid;
    options->name = process->name;
    options->writers = *writers;
    if ((options->pid != 0 || !options->name.empty()) == !options->group.empty()) {
      throw CLI::ValidationError("explain", "expected either a PROCESS or --group");
    }
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
