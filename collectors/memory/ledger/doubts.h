// Which pages that were recalled from the ledger have to be read before a window can be judged.
//
// A page that one holder has no more is still the others', if one of them is seen to have it: one is asked. All holders
// are asked where somebody has their frame to itself, everybody where several frames are shared at one address and
// where a newcomer is compared with all its relatives. Pure.
#pragma once

#include <cstddef>
#include <span>

#include "collectors/memory/ledger/examination.h"
#include "collectors/memory/ledger/packed_window.h"
#include "collectors/memory/ledger/reading.h"

namespace cow::memory {

// Fills in `examination.doubts` from the rest of it. `record`: null where nothing is recorded.
void FindDoubts(const PackedWindow* record, std::span<const Reading> readings, size_t pages, Examination& examination);

}  // namespace cow::memory
