// Renders a portrait for a terminal: a summary, the family as a tree, and either the mappings with the most memory that
// was lost or can be lost, with a bar each, or the runs of pages and their sum. Lines fit the terminal's width. Pure,
// any thread.
#pragma once

#include <cstddef>
#include <string>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

struct TerminalStyle {
  size_t width = 80;     // columns; at least 40 are used
  bool colour = false;   // ANSI escape sequences
  bool unicode = false;  // draw tree and bars in UTF-8, else in ASCII
};

std::string RenderPortrait(const explain::Portrait& portrait, const TerminalStyle& style);

}  // namespace cow::exporter
