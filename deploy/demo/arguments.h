// The command line of cow_demo.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cow::demo {

inline constexpr size_t kMaxWorkers = 200;

struct Settings {
  int64_t heap_mib = 256;
  int64_t workers = 4;
  int64_t child_pages_per_second = 150;
  int64_t parent_pages_per_second = 100;
  int64_t seconds = 0;  // 0: until SIGTERM or SIGINT
  int64_t truth_interval_ms = 100;
  const char* truth_file = nullptr;
};

// Exits with 2 on a wrong argument, and with 0 after --help.
Settings ParseArguments(int count, char** arguments);

}  // namespace cow::demo
