// Takes what a look needs from the reports of a scan. Pure functions, any thread.
#pragma once

#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/procfs/system.h"
#include "collectors/writers/break_joiner.h"

namespace cow::writers {

// Adds the breaks among the verdicts of a window or of moved pages.
void AddBreaks(const memory::Family& family, const memory::Judgement& judgement, const procfs::PageGeometry& geometry,
               Look& look);

// Adds the members that the scan could read, and the root. Call it at the end of the scan.
void AddMembers(const memory::Family& family, Look& look);

}  // namespace cow::writers
