// What has to be read again: decided by what moves when something changed (DESIGN: work only where something can have
// changed). Pure but for one small file per process where the host merges pages.
#pragma once

#include <chrono>
#include <cstdint>

#include "collectors/memory/family/family.h"
#include "collectors/memory/read/host.h"

namespace cow::memory {

using SteadyTime = std::chrono::steady_clock::time_point;

// Anonymous memory of the family is read page by page: somebody may share it.
bool MustWalk(const Host& host, const Family& family);

// The process has pages that KSM merged; where no flag tells them, also if the kernel does not tell their number.
bool MayHaveMerged(const Host& host, const Process& process);

// Some member that is walked has pages that KSM merged: it merges and unmerges without any signal of the process. Where
// no flag tells these pages, a family that had some counts as having some for as long as the host has: the kernel's
// number is of the process that was merged, and its children may have inherited the pages without it.
bool UsesKsm(const Host& host, const Family& family);

// The family has to be looked at: its members, their signals or the host's have moved since its last completed pass, or
// a member's turn has come, or it could not tell where pages have moved. `full_every` 0: always.
bool IsDue(const Host& host, const Family& family, std::chrono::milliseconds full_every);

// Every member of the family has to be read: what is shared can't be known from what changed.
bool AllAreDue(const Host& host, const Family& family, std::chrono::milliseconds full_every);

// The member has to be read: its signals have moved since it was, it forked, or its turn has come.
bool IsDue(const Member& member, SteadyTime now);

// While the member is not due, the ledger and the latest looks can tell all of it.
bool RecordsCanStandFor(const Member& member);

// When a member is read again whatever its signals say: after half to all of `full_every`, so that those who were read
// at one time do not stay together.
SteadyTime NextFullRead(const Family& family, const Member& member, std::chrono::milliseconds full_every,
                        SteadyTime now);

}  // namespace cow::memory
