#include "exporter/explain/command.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "collectors/explain/explainer.h"
#include "config/units.h"
#include "exporter/explain/choice.h"
#include "exporter/explain/end_signals.h"
#include "exporter/explain/json.h"
#include "exporter/explain/output.h"
#include "exporter/explain/terminal.h"
#include "exporter/explain/words.h"

namespace cow::exporter {
namespace {

constexpr size_t kDefaultWidth = 80;
constexpr size_t kMaxWidth = 500;

// The program has only one thread here.
std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

size_t Width(int descriptor) {
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const auto columns = config::ParseInteger(Environment("COLUMNS"));
  return columns && *columns > 0 && *columns <= kMaxWidth ? *columns : kDefaultWidth;
}

bool IsUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = Environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != std::string_view::npos || value.find("utf8") != std::string_view::npos;
  }
  return false;
}

TerminalStyle StyleOf(int descriptor) {
  const bool is_terminal = isatty(descriptor) == 1;
  const bool wants_colour = Environment("NO_COLOR").empty() && Environment("TERM") != "dumb";
  return {Width(descriptor), is_terminal && wants_colour, IsUtf8()};
}

std::string Render(const explain::Portrait& portrait, const ExplainOptions& options, std::FILE* out) {
  if (options.json) return PortraitJson(portrait, !options.watch);
  std::string text = RenderPortrait(portrait, StyleOf(fileno(out)));
  if (!options.watch) return text;
  const std::string time = TimeText(portrait.time) + "\n";
  return isatty(fileno(out)) == 1 ? "\x1b[H\x1b[2J" + time + text : time + text + "\n";
}

}  // namespace

int RunExplain(const ExplainOptions& options, std::FILE* out, std::FILE* problem) {
  const EndSignals signals;
  std::signal(SIGPIPE, SIG_IGN);

  bool stopped = false;
  explain::LookOptions look;
  look.pages = {options.pages, options.mapping};
  look.keep_history = options.watch.has_value();
  look.may_go_on = [&] {
    stopped = stopped || signals.CameWithin(std::chrono::milliseconds(0));
    return !stopped;
  };
  explain::Explainer explainer(procfs::Root(options.procfs, options.sysfs));
  pid_t pid = options.pid;
  if (pid == 0) {
    const auto chosen = ChooseProcess(explainer, options, Width(fileno(problem)));
    if (!chosen) {
      Write(problem, "cow_exporter: " + chosen.error());
      return 1;
    }
    pid = *chosen;
  }
  while (true) {
    const auto portrait = explainer.Look(pid, look);
    if (!portrait && portrait.error().kind == explain::Failure::Kind::kStopped) return options.watch ? 0 : 1;
    if (!portrait) {
      Write(problem, "cow_exporter: " + portrait.error().message + "\n");
      return 1;
    }
    if (const auto failed = WriteResult(out, Render(*portrait, options, out), problem)) return *failed;
    if (!options.watch || signals.CameWithin(*options.watch)) return 0;
  }
}

}  // namespace cow::exporter
