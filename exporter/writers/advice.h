// What is known about code that breaks sharing in common programs: why it writes, and how to keep the pages shared.
// Only code whose purpose is certain by its name and object. Pure functions, any thread.
#pragma once

#include <span>
#include <string_view>

#include "collectors/symbols/symbolizer.h"

namespace cow::exporter {

struct Advice {
  std::string_view who;     // "Python's garbage collector"
  std::string_view remedy;  // continues a sentence after a colon
  std::string_view recipe;  // the section of RECIPES.md, as its anchor
};

// Null if nothing is known about this code.
const Advice* FindAdvice(const symbols::Symbol& code);

std::span<const Advice> AllAdvice();

}  // namespace cow::exporter
