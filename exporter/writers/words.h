// A report of writers for a person: one sentence, a table, and what else was recorded. Pure functions, any thread.
#pragma once

#include <string>

#include "collectors/symbols/symbolizer.h"
#include "collectors/writers/report.h"

namespace cow::exporter {

// The function with its object, or the object with the offset: "gc_collect_main", "libfoo.so+0x1a2b".
std::string CodeName(const symbols::Symbol& code);

// "parent", "child" or "unknown".
std::string_view SideName(writers::Side side);

// One sentence: how much was broken, and by whom most.
std::string WritersSentence(const writers::Report& report);

// The sentence, the table and the counts.
std::string RenderWriters(const writers::Report& report);

}  // namespace cow::exporter
