// Finds the recalled pages that must be read before a window can be judged.
//
// If one holder lost a page, the others still share it if one of them is read and has it: one more read is enough. All
// holders are read if a member was read that has the recorded frame mapped once. All members are read if a page has
// several frames or an absent holder, if the frames were dropped, or if a child at its first look has a page that its
// parent lacks. Pure.
#pragma once

#include <cstddef>
#include <span>

#include "collectors/memory/ledger/comparison.h"
#include "collectors/memory/ledger/packed_window.h"
#include "collectors/memory/ledger/reading.h"

namespace cow::memory {

// Sets `comparison.doubts` from its other fields. `record`: null if nothing is recorded.
void FindDoubts(const PackedWindow* record, std::span<const Reading> readings, size_t pages, Comparison& comparison);

}  // namespace cow::memory
