// A portrait as text for a terminal: the family as a tree, the mappings that matter with a bar each, or the runs of
// pages, and what it all comes to in one sentence. Lines are no wider than the terminal. Pure.
#pragma once

#include <cstddef>
#include <string>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

struct TerminalStyle {
  size_t width = 80;     // columns; taken as 40 at least
  bool colour = false;   // ANSI escape sequences
  bool unicode = false;  // lines of the tree and bars in UTF-8, else in ASCII
};

std::string RenderPortrait(const explain::Portrait& portrait, const TerminalStyle& style);

}  // namespace cow::exporter
