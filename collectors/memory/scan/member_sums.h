// What is known of single members besides the windows: the kernel's sums and sums over the windows. Functions of one
// scan; they read small files of the member and smaps_rollup.
#pragma once

#include <span>
#include <vector>

#include "collectors/memory/family/family.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/scan/report.h"
#include "collectors/memory/scan/scan_part.h"

namespace cow::memory {

// Reads smaps_rollup, which asks for fewer privileges than pagemap (no CAP_DAC_READ_SEARCH): where the page table is
// denied, it is all that is left. Larger members than `max_bytes` are not read: the kernel holds the target's mmap lock
// while it walks.
SmapsReading ReadSmapsOf(const Host& host, Member& member, std::optional<uint64_t> max_bytes);

// Looks at one window of a process without relatives. Pages that another process maps all the same make it walked from
// the next scan on (Member::shares_unseen).
void ProbeLonely(const Host& host, ScanPart& part, FrameReader& frames);

// Adds the kernel's sums of a process without relatives, less what was walked.
void AddUnwalked(const procfs::PageGeometry& geometry, const ScanPart& part, Unwalked& unwalked);

// Sums of each member in the order of the family's members, at the end of a scan.
void AddUpMembers(const Host& host, const Family& family, const ScanWalk& walk, std::span<ScanPart> parts,
                  std::vector<MemberSums>& member_sums);

}  // namespace cow::memory
