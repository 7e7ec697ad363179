// Decides by change signals what must be read again. Pure, except that it reads one small file per process
// (/proc/PID/ksm_merging_pages) if the host merges pages.
#pragma once

#include <chrono>

#include "collectors/memory/family/family.h"
#include "collectors/memory/read/host.h"

namespace cow::memory {

using SteadyTime = std::chrono::steady_clock::time_point;

// True if the family's anonymous memory must be read page by page, because pages may be shared.
bool MustWalk(const Host& host, const Family& family);

// True if the process has pages merged by KSM. If kpageflags has no flag for such pages, also true if the kernel does
// not show their number.
bool MayHaveMerged(const Host& host, const Process& process);

// True if a walked member has pages merged by KSM: KSM merges and unmerges pages without a change signal. If kpageflags
// has no flag for such pages, stays true while the host has merged pages: the kernel counts them for the merged process
// only, and its children inherit the pages without the count.
bool UsesKsm(const Host& host, const Family& family);

// True if the family must be scanned: its members, their change signals or the host's have changed since its last
// completed pass, full_every of a member has elapsed, or the last pass could not match moved pages. `full_every` 0:
// always.
bool IsDue(const Host& host, const Family& family, std::chrono::milliseconds full_every);

// True if every member must be read, because the records cannot stand for any of them.
bool AllAreDue(const Host& host, const Family& family, std::chrono::milliseconds full_every);

// True if the member must be read: its change signals have moved, it forked, or its full_every has elapsed.
bool IsDue(const Member& member, SteadyTime now);

// True if the ledger and the latest looks can stand for the member while it is not due.
bool RecordsCanStandFor(const Member& member);

// Returns when the member is read again without a change signal: after half to all of `full_every`, so that members
// read at one time spread out.
SteadyTime NextFullRead(const Family& family, const Member& member, std::chrono::milliseconds full_every,
                        SteadyTime now);

}  // namespace cow::memory
