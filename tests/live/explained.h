// The result of `explain` as text to compare: "copied 100, shared(12,13) 50".
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "collectors/explain/explainer.h"
#include "collectors/procfs/root.h"

namespace cow::live {

// Looks at all pages. Fails the test and returns an empty portrait if there is none.
inline explain::Portrait Explained(explain::Explainer& explainer, pid_t pid, bool keep_history = false) {
  explain::LookOptions options;
  options.pages.wanted = true;
  options.keep_history = keep_history;
  auto portrait = explainer.Look(pid, options);
  if (portrait) return *portrait;
  ADD_FAILURE() << portrait.error().message;
  return {};
}

// Returns the runs within `pages` pages from an address on.
inline std::string RunsAt(const explain::Portrait& portrait, uint64_t address, uint64_t pages) {
  const uint64_t end = address + pages * portrait.page_bytes;
  std::string text;
  for (const explain::MappingPortrait& mapping : portrait.mappings) {
    for (const explain::PageRun& run : mapping.runs) {
      const uint64_t first = std::max(run.start, address);
      const uint64_t last = std::min(run.start + run.pages * portrait.page_bytes, end);
      if (first >= last) continue;
      text.append(text.empty() ? "" : ", ").append(PageStateName(run.state, run.huge));
      for (size_t i = 0; i < run.shared_with.size(); ++i) {
        text.append(i == 0 ? "(" : ",").append(std::to_string(run.shared_with[i]));
      }
      text.append(run.shared_with.empty() ? "" : ")").append(" ");
      text.append(std::to_string((last - first) / portrait.page_bytes));
    }
  }
  return text;
}

}  // namespace cow::live
