#include "exporter/explain/choice.h"

#include <algorithm>
#include <utility>

#include "config/hint.h"
#include "config/units.h"
#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

constexpr size_t kMaxListed = 20;

std::string AlignRight(const std::string& text, size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

std::string Line(const std::string& pid, const std::string& processes, const std::string& resident,
                 const std::string& command, size_t width) {
  std::string line = AlignRight(pid, 9) + AlignRight(processes, 11) + AlignRight(resident, 10) + "  " + command;
  if (line.size() > width) line.resize(width);
  return line + "\n";
}

// The command line without the program's directory, or the name if there is none.
std::string CommandOf(const explain::FoundFamily& family) {
  if (family.command_line.empty()) return Printable(family.comm);
  const std::string command = Printable(family.command_line);
  if (!command.starts_with('/')) return command;
  return command.substr(command.rfind('/', command.find(' ')) + 1);
}

}  // namespace

tl::expected<pid_t, std::string> ChooseFrom(const explain::FamilySearch& found, const std::string& name,
                                            const std::string& by, size_t width) {
  if (found.families.size() == 1) return found.families.front().pid;
  if (found.families.empty()) {
    const std::string* nearest = config::Nearest(name, found.names);
    return tl::unexpected("no process is " + by +
                          (nearest == nullptr ? "" : ": did you mean " + config::Quoted(*nearest) + "?") + "\n");
  }
  std::string text =
      std::to_string(found.families.size()) + " families are " + by + ": explain one of them by its PID\n";
  text += Line("PID", "PROCESSES", "RESIDENT", "COMMAND", width);
  for (size_t i = 0; i < std::min(found.families.size(), kMaxListed); ++i) {
    const explain::FoundFamily& family = found.families[i];
    text += Line(std::to_string(family.pid), std::to_string(family.processes), HumanBytes(family.resident_bytes),
                 CommandOf(family), width);
  }
  if (found.families.size() > kMaxListed) {
    text += "and " + std::to_string(found.families.size() - kMaxListed) + " more\n";
  }
  return tl::unexpected(std::move(text));
}

tl::expected<pid_t, std::string> ChooseProcess(explain::Explainer& explainer, const ExplainOptions& options,
                                               size_t width) {
  const bool by_group = !options.group.empty();
  const std::string& name = by_group ? options.group : options.name;
  const auto found =
      by_group ? explainer.FindGroup(name, options.groups, options.label_value_length) : explainer.Find(name);
  if (!found) return tl::unexpected(found.error().message + "\n");
  return ChooseFrom(*found, name, (by_group ? "in the group " : "named ") + config::Quoted(name), width);
}

}  // namespace cow::exporter
