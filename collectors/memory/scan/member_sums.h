// Sums of single members besides the windows: the kernel's sums, and sums over the windows. Reads smaps_rollup,
// ksm_merging_pages and one window of a process. The thread rule of the calling scan applies.
#pragma once

#include <span>
#include <vector>

#include "collectors/memory/family/family.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/scan/report.h"
#include "collectors/memory/scan/scan_part.h"

namespace cow::memory {

// Reads smaps_rollup. It needs fewer privileges than pagemap (no CAP_DAC_READ_SEARCH), so it may be readable if the
// page table is denied. Members larger than `max_bytes` are not read: the kernel holds the target's mmap lock during
// the read.
SmapsReading ReadSmapsOf(const Host& host, Member& member, std::optional<uint64_t> max_bytes);

// Reads one window of a process without relatives. If another process maps a page of it, sets Member::shares_unseen:
// the process is then walked from the next scan on.
void ProbeLonely(const Host& host, ScanPart& part, FrameReader& frames);

// Adds the kernel's sums of a process without relatives, minus the walked pages.
void AddUnwalked(const procfs::PageGeometry& geometry, const ScanPart& part, Unwalked& unwalked);

// Computes the sums of each member at the end of a scan, in the order of the family's members.
void AddUpMembers(const Host& host, const Family& family, const ScanWalk& walk, std::span<ScanPart> parts,
                  std::vector<MemberSums>& member_sums);

}  // namespace cow::memory
