// What leaves the sums when members of a family end, by what was known of them: before anybody's page table is read
// again. What their end means for shared pages is judged when the windows are read.
//
// Costs a few microseconds per window that they mapped; reads no file. Not thread-safe.
#pragma once

#include <functional>
#include <span>

#include "collectors/memory/family/families.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/scan/views.h"

namespace cow::memory {

// Calls `show` for each window that one of `gone` was shown in, with a view of what leaves: their pages, the exposure
// that goes with them, and survivors' pages that nobody shares any more (which leave what is shared, and are private
// from now on). Forgets their looks. `gone` are members in Family::ended, and none of them was shown leaving before.
// False if `may_go_on` ended it between two windows: the next call goes on with the others.
bool ShowDeparture(const Host& host, Family& family, std::span<Member* const> gone,
                   const std::function<void(const WindowView&)>& show, const MayGoOn& may_go_on);

}  // namespace cow::memory
