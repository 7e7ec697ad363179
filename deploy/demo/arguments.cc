#include "deploy/demo/arguments.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <system_error>

namespace cow::demo {
namespace {

constexpr int kExitUsage = 2;

struct NumberOption {
  std::string_view name;
  int64_t Settings::*value;
  int64_t least;
  int64_t most;
};

constexpr std::array kNumberOptions{
    NumberOption{"--heap-mib", &Settings::heap_mib, 1, 1 << 20},
    NumberOption{"--workers", &Settings::workers, 1, kMaxWorkers},
    NumberOption{"--child-pages-per-second", &Settings::child_pages_per_second, 0, 1'000'000},
    NumberOption{"--parent-pages-per-second", &Settings::parent_pages_per_second, 0, 1'000'000},
    NumberOption{"--seconds", &Settings::seconds, 0, 1'000'000'000},
    NumberOption{"--truth-interval-ms", &Settings::truth_interval_ms, 20, 3'600'000},
};

constexpr const char* kHelp =
    "Usage: cow_demo [OPTION]...\n"
    "\n"
    "A parent and its forked workers write to their shared memory at a steady pace and count the breaks.\n"
    "\n"
    "  --heap-mib=N                  shared heap in MiB (256)\n"
    "  --workers=N                   forked workers, 1 to 200 (4)\n"
    "  --child-pages-per-second=N    pages each worker breaks per second (150)\n"
    "  --parent-pages-per-second=N   pages the parent breaks per second (100)\n"
    "  --seconds=N                   end after this time; 0: at SIGTERM or SIGINT (0)\n"
    "  --truth-file=PATH             empty PATH, then write lines of\n"
    "                                \"unix_time_seconds parent_breaks child_breaks forks\";\n"
    "                                the three counts are sums since the start\n"
    "  --truth-interval-ms=N         time between two lines (100)\n"
    "  --help                        print this help and exit\n"
    "\n"
    "The counts cover the pages of the heap. Each fork breaks a few more pages of stack and data in parent and "
    "child.\n";

[[noreturn]] void FailUsage(std::string_view what, std::string_view argument) {
  std::fprintf(stderr, "cow_demo: %.*s: %.*s\nTry cow_demo --help.\n", static_cast<int>(what.size()), what.data(),
               static_cast<int>(argument.size()), argument.data());
  _exit(kExitUsage);
}

void SetOption(Settings& settings, std::string_view argument, std::string_view name, const char* value) {
  if (name == "--truth-file") {
    if (*value == '\0') {
      FailUsage("empty path", argument);
    }
    settings.truth_file = value;
    return;
  }
  const auto* option = std::find_if(kNumberOptions.begin(), kNumberOptions.end(),
                                    [&](const NumberOption& candidate) { return candidate.name == name; });
  if (option == kNumberOptions.end()) {
    FailUsage("unknown option", argument);
  }
  const std::string_view text(value);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) {
    FailUsage("number out of range", argument);
  }
  if (error != std::errc() || end != text.data() + text.size()) {
    FailUsage("not a whole number", argument);
  }
  if (number < option->least || number > option->most) {
    FailUsage("number out of range", argument);
  }
  settings.*(option->value) = number;
}

}  // namespace

Settings ParseArguments(int count, char** arguments) {
  Settings settings;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument(arguments[i]);
    if (argument == "--help") {
      std::fputs(kHelp, stdout);
      std::fflush(stdout);
      _exit(0);
    }
    const size_t equals = argument.find('=');
    if (argument.substr(0, 2) != "--") {
      FailUsage("unexpected argument", argument);
    }
    if (equals != std::string_view::npos) {
      SetOption(settings, argument, argument.substr(0, equals), arguments[i] + equals + 1);
    } else if (i + 1 < count) {
      SetOption(settings, argument, argument, arguments[i + 1]);
      ++i;
    } else {
      FailUsage("unknown option or missing value", argument);
    }
  }
  return settings;
}

}  // namespace cow::demo
