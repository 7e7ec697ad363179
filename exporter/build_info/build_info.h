// What this program was built from: version, revision and compiler. CMake sets them (CMakeLists.txt, revision.cmake).
//
// No errors. Any thread.
#pragma once

#include <string>

namespace cow::exporter {

struct BuildInfo {
  std::string version;   // of the project, for example 0.1.0
  std::string revision;  // commit; "-modified" follows if tracked files differed; "unknown" without git and archive
  std::string compiler;  // name and version, as CMake identifies it
};

BuildInfo GetBuildInfo();

// Formats the answer to --version, without the last newline.
std::string FormatBuildInfo(const BuildInfo& build);

}  // namespace cow::exporter
