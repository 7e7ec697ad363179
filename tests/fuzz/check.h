// Ends the program if a condition is false, so that a fuzzer reports the input. Unlike assert, in every build.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace cow::fuzz {

inline void Check(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "check failed: %s\n", what.c_str());
  std::abort();
}

}  // namespace cow::fuzz
