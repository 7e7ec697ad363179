#include "exporter/help_formatter.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

namespace cow::exporter {
namespace {

constexpr size_t kWidth = 80;
constexpr size_t kTextColumn = 34;  // where the texts of flags begin

// Wraps a line at words. `line` begins the first line, `indent` blanks begin the others. Keeps lines that begin with a
// blank as they are.
std::string Wrap(std::string line, std::string_view text, size_t indent) {
  if (text.starts_with(' ')) return line + std::string(text) + "\n";
  std::string out;
  bool has_word = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (has_word && line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line = std::string(indent, ' ');
      has_word = false;
    }
    if (has_word) line += ' ';
    line += word;
    has_word = true;
  }
  return out + line + "\n";
}

std::string WrapLines(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    out += Wrap("", text.substr(0, end), 0);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// Writes a name and its text beside it, or below it if the name is too long.
std::string Entry(const std::string& name, const std::string& text) {
  std::string line = "  " + name;
  std::string above;
  if (line.size() + 2 > kTextColumn) {
    above = line + "\n";
    line.clear();
  }
  line.append(kTextColumn - line.size(), ' ');
  return above + Wrap(line, text, kTextColumn);
}

std::string NameOf(const CLI::Option& option) {
  constexpr std::string_view kCollector = "--collector.";
  std::string name = option.get_name(option.get_positional(), true);
  if (name.starts_with(kCollector) && name != "--collector.disable-defaults") name.insert(2, "[no-]");
  if (!option.get_positional() && !option.get_type_name().empty() && option.get_type_size() != 0) {
    name += " " + option.get_type_name();
  }
  return name;
}

std::vector<const CLI::Option*> Positionals(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

std::string Usage(const CLI::App& app, const std::string& name) {
  std::string text = name + " [FLAGS]";
  for (const CLI::Option* option : Positionals(app)) text += " " + option->get_name(true);
  return text;
}

std::string Group(const std::string& title, const std::vector<const CLI::Option*>& options) {
  if (options.empty()) return "";
  std::string text = "\n" + title + ":\n";
  for (const CLI::Option* option : options) text += Entry(NameOf(*option), option->get_description());
  return text;
}

}  // namespace

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode /*mode*/) const {
  const std::vector<const CLI::App*> commands = app->get_subcommands([](const CLI::App* /*command*/) { return true; });
  std::string text = "Usage: " + Usage(*app, name) + "\n";
  for (const CLI::App* command : commands) text += "       " + Usage(*command, name + " " + command->get_name()) + "\n";
  text += "\n" + WrapLines(app->get_description());
  text += Group("Arguments", Positionals(*app));
  for (const std::string& group : app->get_groups()) {
    if (group.empty()) continue;  // hidden flags
    text += Group(group, app->get_options([&group](const CLI::Option* option) {
      return option->get_group() == group && option->nonpositional();
    }));
  }
  if (!commands.empty()) text += "\nCommands:\n";
  for (const CLI::App* command : commands) {
    const std::string description = command->get_description();
    text += Entry(command->get_name(), description.substr(0, description.find(". ") + 1));
  }
  if (!app->get_footer().empty()) text += "\n" + WrapLines(app->get_footer());
  return text;
}

}  // namespace cow::exporter
