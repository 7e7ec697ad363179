// Makes the report of a committed window and stores its looks for the next pass. Keeps buffers: one thread at a time.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/scan/report.h"
#include "collectors/memory/scan/scan_part.h"
#include "collectors/memory/scan/window_scan.h"

namespace cow::memory {

class WindowReporter {
 public:
  explicit WindowReporter(const Host& host) : host_(host), pages_(host.geometry.PagesPerWindow()) {}

  // Call it right after `scan` has committed the window. The report is valid until the next call.
  WindowReport Make(Family& family, const ScanWalk& walk, WindowIndex window, const WindowScan& scan);

 private:
  void AddMember(Family& family, const ScanWalk& walk, WindowIndex window, const WindowScan& scan, size_t reading);
  SegmentTally TallySegment(const Mapping& mapping, std::span<const PageEntry> entries) const;

  const Host& host_;
  const size_t pages_;

  // Buffers.
  std::vector<Segment> segments_;
  std::vector<size_t> first_segment_;
  std::vector<MemberWindow> members_;
  std::vector<SegmentTally> tallies_;
  std::vector<MemberIndex> slots_;
  const PageEntry* first_entries_ = nullptr;  // of the first member in the report, if they were read
  MemberSet breakers_;                        // broke a page of the window
};

}  // namespace cow::memory
