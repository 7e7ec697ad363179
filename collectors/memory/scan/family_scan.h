// A scan of one family, pulled step by step: opens the members' page tables, scans window by window, and judges at its
// end what the windows left open.
//
//   FamilyScan scan(host, devices, family, options);
//   while (!scan.done()) {
//     const ScanStep step = scan.Next(worker, may_go_on);
//     …  // adds the report up; may rest here for any time, or give the scan up
//   }
//
// The scan makes no callback but `may_go_on`, and holds no lock between two steps. A step takes 10 ms at most. Members
// that end meanwhile stay in Family::ended until the scan is over; members that join are left to the next scan. Each
// step may be made by another thread with a worker of its own. Errors of single processes end up in Member::unread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "collectors/base/may_go_on.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/scan/pass_end.h"
#include "collectors/memory/scan/pass_options.h"
#include "collectors/memory/scan/report.h"
#include "collectors/memory/scan/scan_part.h"
#include "collectors/memory/scan/scan_worker.h"
#include "collectors/procfs/pagemap.h"

namespace cow::memory {

class FamilyScan {
 public:
  // All outlive it. The family has no other scan meanwhile.
  FamilyScan(const Host& host, DeviceTypes& devices, Family& family, const PassOptions& options);

  // Makes a step, until done. `may_go_on` is asked amid it and must not sleep; where it says no, the step is
  // Interrupted.
  ScanStep Next(ScanWorker& worker, const MayGoOn& may_go_on);
  // FamilyReport was returned, and the scan can go.
  bool done() const { return stage_ == Stage::kDone; }

  // Begun for a process without relatives that has some now, or for members that have all ended.
  bool IsOutdated() const {
    return (walk_.alone && family_.members.size() > 1) || (!members_.empty() && family_.members.empty());
  }
  // Giving it up now takes long.
  bool IsHalfDone() const { return end_.IsHalfDone(); }
  // Ends the scan before it is done: the next one begins anew. The end of a scan that has begun is made whole, which
  // may take long; the next scan reports its verdicts.
  void GiveUp();

 private:
  enum class Stage { kOpen, kWindows, kSmaps, kUnwalked, kEnd, kReport, kDone };

  ScanStep Step(ScanWorker& worker, const MayGoOn& may_go_on);
  void OpenMember(Member& member, ScanWorker& worker);
  bool OpenPageTable(Member& member);
  PageTableReader ReaderOf(Member& member, ScanWorker& worker, const procfs::Pagemap& pagemap);
  void BeginWindows();
  std::optional<WindowIndex> NextWindow() const;
  ScanStep ScanWindow(WindowIndex window, ScanWorker& worker, const MayGoOn& may_go_on);
  bool ReadNextSmaps();
  bool AddUnwalkedParts(ScanWorker& worker, const MayGoOn& may_go_on);
  ScanStep StepOfEnd(ScanWorker& worker);
  MovedReport TakeMoved(ScanWorker& worker);
  FamilyReport Complete();
  void NoteReads();

  const Host& host_;
  DeviceTypes& devices_;
  Family& family_;
  Stage stage_ = Stage::kOpen;
  ScanWalk walk_;
  std::vector<Member*> members_;  // the members when the scan began
  size_t opened_ = 0;             // of those, so far
  std::vector<ScanPart> parts_;
  std::vector<procfs::Pagemap> borrowed_;  // of members that keep no descriptor
  std::vector<WindowIndex> known_;         // windows that may hold something though no member that is read maps them
  size_t next_known_ = 0;
  std::vector<SmapsReading> smaps_;  // of the first of `members_`
  size_t unwalked_parts_ = 0;        // of the first so many parts, `unwalked_` has it
  Unwalked unwalked_;
  PassEnd end_;
  // What reports point to.
  Judgement moved_;
  std::vector<SmapsReading> reported_smaps_;
  std::vector<MemberSums> member_sums_;
};

}  // namespace cow::memory
