#include "exporter/explain/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
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
    "  shared        another process maps the same page, from fork: a write copies it\n"
    "  copied        was shared at a fork, and this process wrote: it has a copy of its own; or a page of a private\n"
    "                file mapping that was written to\n"
    "  original      was shared at a fork, and this process kept the page while others copied it; or a page of a\n"
    "                private file mapping that is still the file's\n"
    "  unshared      was shared at a fork, and nobody else maps it any more: the others ended, gave theirs up, or "
    "moved\n"
    "                it before they wrote\n"
    "  unattributed  its own, and a relative has another page there: copied, or never shared, nothing tells which\n"
    "  private       its own, and nothing shows that it ever was shared; huge: the same, mapped by a huge page\n"
    "  zero          the zero page, costs nothing\n"
    "  merged        by KSM\n"
    "  file          of a shared mapping: writing copies nothing\n"
    "  swapped       in swap; with whom it is shared there\n"
    "  unresolved    on its way, neither present nor in swap\n"
    "  unknown       shared or the zero page (before Linux 6.7, without frame numbers)\n"
    "  guard         a guard region's; absent: nothing there\n";

// Seconds, or a duration.
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

// An option whose text `parse` takes, into `target`.
template <class T, class Parse>
std::function<void(const std::string&)> Into(std::string name, Parse parse, T& target) {
  return [name = std::move(name), parse, &target](const std::string& text) {
    const auto parsed = parse(text);
    if (!parsed) throw CLI::ValidationError(name, parsed.error());
    target = *parsed;
  };
}

}  // namespace

void AddExplainCommand(CLI::App& app, std::optional<ExplainOptions>& result) {
  CLI::App* command = app.add_subcommand(
      "explain", "Show a process' family and what of its memory is shared, broken or its own, and exit");
  const auto options = std::make_shared<ExplainOptions>();
  command->set_help_flag("-h,--help", "Print this help and exit");
  command->get_formatter()->column_width(40);
  command->footer(kStates);
  command->add_option_function<std::string>("PID", Into("PID", &ParsePid, options->pid), "Process to explain")
      ->type_name("")
      ->required();
  command->add_flag("--json", options->json, "JSON, with --watch one line for each look")->disable_flag_override();
  command->add_flag("--pages", options->pages, "Which pages exactly: runs of pages and their state")
      ->disable_flag_override();
  const auto set_address = Into("--mapping", &ParseAddress, options->mapping);
  command
      ->add_option_function<std::string>("--mapping", set_address,
                                         "With --pages: only the mapping that holds this address")
      ->type_name("ADDRESS")
      ->needs("--pages");
  const auto watch = std::make_shared<std::string>();
  command->add_flag("--watch", *watch, "Look again and again, this many seconds apart (default: 2): --watch=SECONDS");
  command->add_option("--path.procfs", options->procfs, "Where procfs is mounted (default: /proc)")->type_name("DIR");
  command->add_option("--path.sysfs", options->sysfs, "Where sysfs is mounted (default: /sys)")->type_name("DIR");
  command->callback([options, watch, &result] {
    if (*watch == "true") *watch = kDefaultPause;  // CLI11's word for a flag without a value
    if (!watch->empty()) Into("--watch", &ParsePause, options->watch)(*watch);
    result = *options;
  });
}

bool HasOptions(const CLI::App& app) {
  const std::vector<const CLI::Option*> options = app.get_options();
  return std::any_of(options.begin(), options.end(), [](const CLI::Option* option) { return option->count() > 0; });
}

}  // namespace cow::exporter
