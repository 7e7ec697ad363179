// A scan of one family that can rest between two windows and go on later: what it walks, and how far it has come.
//
// It rests with its family. Members that end meanwhile stay in Family::ended until it is over; members that join are
// left to the next scan. Plain data, of the scanner that is at work on it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/family/families.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/read/page_table_reader.h"
#include "collectors/memory/scan/pass_options.h"
#include "collectors/memory/scan/views.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

// A member in the scan.
struct ScanPart {
  ScanPart(Member& its_member, PageTableReader its_reader, bool is_due)
      : member(&its_member),
        reader(std::move(its_reader)),
        due(is_due),
        signals(ChangeSignals::Of(*its_member.process)) {}

  Member* member;
  PageTableReader reader;
  bool due;               // else the ledger stands for it, except where a verdict is in doubt
  ChangeSignals signals;  // from before its pages were read
  ForkMoment began;       // likewise
  size_t next_mapping = 0;
  uint64_t walked_anon_pages = 0;
  uint64_t walked_swap_pages = 0;
  uint64_t walked_hugetlb_pages = 0;
  uint64_t walked_ksm_pages = 0;
  // Of the current window:
  uint64_t* entries = nullptr;
  uint64_t huge_pages = 0;
  bool maps_window = false;
  bool read = false;                 // all its entries were read; else some are what the ledger remembers
  std::vector<uint64_t> recalled;    // bitmap: those that were not
  uint64_t entries_fingerprint = 0;  // where the entries are not the first part's
  uint64_t fingerprint = 0;
};

// How the family is walked.
struct ScanWalk {
  bool all = false;         // anonymous memory too
  bool everybody = false;   // every member is read
  bool ksm_in_use = false;  // by a member
  bool swapped_in = false;  // pages of members, since the family's last pass
  bool unsettled = false;   // pages were on their way, or kept changing under the reads: to be looked at again
  bool show_all = false;
  bool keep_looks = false;  // what is seen is kept for the next pass
  bool alone = false;       // the family had one member when the scan began
  bool count_breaks = false;
  Needs needs;
  std::optional<procfs::Vmstat> host;                            // the host's counters when the scan began
  std::optional<std::chrono::system_clock::time_point> read_at;  // before its first page
};

// The end of a pass over all members: what the windows left open is settled. It takes steps too.
struct PassEnd {
  enum class Stage { kFindDoubts, kConfirm, kFindFrames, kAskKernel, kSettle, kDone };

  Stage stage = Stage::kFindDoubts;
  std::optional<Steps> steps;  // of the stage, where the ledger makes them
  std::vector<MovedPage> doubts;
  size_t confirmed = 0;  // how many of the doubts were read again
  std::vector<uint64_t> frames;
  size_t asked = 0;  // how many of the frames the kernel was asked about
  FrameFacts facts;
  Judgement judgement;
  MovedSharing moved;

  // The ledger has begun to settle: given up now, it would be wrong.
  bool IsHalfSettled() const { return stage == Stage::kSettle && steps.has_value(); }
};

struct FamilyScan {
  ScanWalk walk;
  std::vector<ScanPart> parts;
  std::vector<procfs::Pagemap> borrowed;
  std::vector<Member*> members;  // the members when it began
  size_t opened = 0;             // of those, so far
  bool walking = false;          // all are opened
  std::vector<uint64_t> known;   // windows that may hold something though no member that is read maps them any more
  size_t next_known = 0;
  std::vector<SmapsReading> smaps;  // of the first of `members`
  PassEnd end;
};

// Gives up a scan that rests: the next one begins anew. Its end, once begun, is made, which may take long.
void DropScan(Family& family);

}  // namespace cow::memory
