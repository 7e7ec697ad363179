// Scans one window of a family (the range that one PMD maps): read → compare → confirm → commit.
//
// Reads the page tables of due members microseconds apart, and compares them with the ledger, which stands for the
// other members. Reads the evidence of a verdict again until both reads agree, then commits the window to the ledger.
// Reads pagemap, kpageflags and kpagecount. Keeps buffers: one thread at a time. Errors of single processes are stored
// in Member::unread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/base/steps.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/ledger.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/memory/scan/scan_part.h"

namespace cow::memory {

class WindowScan {
 public:
  enum class Outcome {
    kInterrupted,  // nothing has changed, the window has to be scanned again
    kUnchanged,    // it reads as at the last look
    kCommitted,
  };

  // All arguments must outlive this object.
  WindowScan(const Host& host, FrameReader& frames, ScanCounters& counters);

  // Calls `may_go_on` between two reads. `parts` must stay valid until the next call.
  Outcome Scan(Family& family, ScanWalk& walk, std::span<ScanPart> parts, WindowIndex window, const MayGoOn& may_go_on);

  // Returns a time before the first read of the last scanned window.
  std::chrono::system_clock::time_point read_at() const { return read_at_; }
  // The next five functions describe the last scanned window. Call them only after it was committed.
  std::span<const Reading> readings() const { return readings_; }
  ScanPart& PartOf(size_t reading) const { return parts_[part_of_reading_[reading]]; }
  const WindowSharing& sharing() const { return sharing_; }
  const Judgement& judgement() const { return judgement_; }
  // True if pages were migrating or kept changing between the reads.
  bool unsettled() const { return unsettled_; }

 private:
  bool ReadDue();
  bool IsUnchanged() const;
  void BuildReadings();
  // False if interrupted.
  bool CompareAndCommit();
  bool Compare();
  void RecallUnread();
  bool ReadDoubts();
  void ReadUnread();
  bool WitnessesAgree(BitmapSpan unstable);
  bool AnyMigrating() const;
  void TakeForkEvidence();
  void FindIdleMembers();

  const Host& host_;
  const size_t pages_;
  FrameReader& frames_;
  ScanCounters& counters_;

  // The window being scanned.
  Family* family_ = nullptr;
  ScanWalk* walk_ = nullptr;
  std::span<ScanPart> parts_;
  WindowIndex window_;
  const MayGoOn* may_go_on_ = nullptr;
  std::chrono::system_clock::time_point read_at_;
  bool unsettled_ = false;

  // Buffers.
  std::vector<PageEntry> zero_window_;
  std::vector<PageEntry> entries_;     // of each part's own
  std::vector<PageEntry> remembered_;  // of parts that are not read; parts with equal records use one
  std::vector<PageEntry> again_;
  std::vector<Reading> readings_;
  std::vector<uint32_t> part_of_reading_;
  Comparison comparison_;
  FrameFacts facts_;
  Judgement judgement_;
  WindowSharing sharing_;
};

}  // namespace cow::memory
