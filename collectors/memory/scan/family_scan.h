// A scan of one family, pulled step by step. Opens the members' page tables, scans window by window, and judges at the
// end what the windows left open. Reads /proc/PID/maps, pagemap, kpageflags, kpagecount and smaps_rollup.
//
//   FamilyScan scan(host, devices, family, options);
//   while (!scan.done()) {
//     const ScanStep step = scan.Next(worker, may_go_on);
//     …  // adds the report up; may rest here for any time, or give the scan up
//   }
//
// The scan calls nothing back except `may_go_on` and holds no lock between two steps. A step takes at most 10 ms.
// Members that end during the scan stay in Family::ended until it is over; members that join wait for the next scan.
// Errors of single processes are stored in Member::unread.
//
// Thread rule: one thread at a time; each step may run on another thread with its own worker.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "collectors/base/steps.h"
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
  // All arguments must outlive the scan. A family has only one scan at a time.
  FamilyScan(const Host& host, DeviceTypes& devices, Family& family, const PassOptions& options);

  // Makes a step. Call it until done(). Calls `may_go_on` within the step, which must not sleep; if it returns false,
  // the step is Interrupted.
  ScanStep Next(ScanWorker& worker, const MayGoOn& may_go_on);
  // True once FamilyReport was returned.
  bool done() const { return stage_ == Stage::kDone; }

  // True if a scan of a process without relatives now has some, or if all its members have ended.
  bool IsOutdated() const {
    return (walk_.alone && family_.members.size() > 1) || (!members_.empty() && family_.members.empty());
  }
  // True if GiveUp would take long now.
  bool IsHalfDone() const { return end_.IsHalfDone(); }
  // Ends the scan before it is done; the next one starts from the beginning. If the last stage of the pass has begun,
  // finishes it, which may take long; the next scan reports its verdicts.
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
  size_t opened_ = 0;             // number of them opened so far
  std::vector<ScanPart> parts_;
  std::vector<procfs::Pagemap> borrowed_;  // of members that keep no descriptor
  std::vector<WindowIndex> known_;         // windows that may hold something though no member that is read maps them
  size_t next_known_ = 0;
  std::vector<SmapsReading> smaps_;  // of the first of `members_`
  size_t unwalked_parts_ = 0;        // number of parts that are in `unwalked_`
  Unwalked unwalked_;
  PassEnd end_;
  // Reports point to these.
  Judgement moved_;
  std::vector<SmapsReading> reported_smaps_;
  std::vector<MemberSums> member_sums_;
};

}  // namespace cow::memory
