// One pass over one family, window by window (what one PMD maps): the entries of the members that are due are read
// microseconds apart, the ledger stands for the others, verdicts that rest on it are confirmed by reading, and what was
// found is shown to the observer. Windows that read as at the look before are not compared again.
//
// Has buffers of its own: one thread at a time. Errors of single processes end up in Member::unread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "collectors/memory/family/families.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/ledger.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/read/page_table_reader.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/memory/scan/family_scan.h"
#include "collectors/memory/scan/pass_options.h"
#include "collectors/memory/scan/views.h"

namespace cow::memory {

class FamilyScanner {
 public:
  // `host` and `devices` outlive it.
  FamilyScanner(const Host& host, DeviceTypes& devices);

  FrameReader& frames() { return frames_; }
  ScanCounters counters() const;

  // Begins a scan, or goes on with the one that rests with the family (Family::scan), until it is over. False if the
  // observer interrupted it: it rests with the family then, and what was shown stays.
  bool Scan(Family& family, const PassOptions& options, ScanObserver& observer);

 private:
  using Part = ScanPart;
  using Walk = ScanWalk;

  void ShowEnded(Family& family, ScanObserver& observer);
  bool OpenMember(Member& member, std::vector<procfs::Pagemap>& borrowed, const procfs::Pagemap*& pagemap);
  PageTableReader ReaderOf(Member& member, const procfs::Pagemap& pagemap);
  void Begin(Family& family, const PassOptions& options);
  void GoOn(FamilyScan& scan);
  void Rest(FamilyScan& scan);
  // These are false if the observer interrupted them.
  bool OpenMembers(FamilyScan& scan, ScanObserver& observer);
  bool WalkWindows(Family& family, FamilyScan& scan, ScanObserver& observer);
  bool VisitWindow(Family& family, uint64_t window, ScanObserver& observer);
  std::vector<uint64_t> KnownWindows(const Family& family) const;
  bool ReadDue(uint64_t window, const ScanObserver& observer);
  bool IsUnchanged(const Family& family, uint64_t window) const;
  void TakeFingerprint(Part& part, const Part* first, uint64_t window);
  uint64_t Fingerprint(Part& part, uint64_t window);
  void Recall(const Family& family, uint64_t window);
  bool ReadDoubts(uint64_t window);
  void ReadUnread(uint64_t window);
  bool Examine(const Family& family, uint64_t window, const ScanObserver& observer);
  void BuildReadings(const Family& family, uint64_t window);
  bool SettleWindow(Family& family, uint64_t window, const ScanObserver& observer);
  void TakeForkEvidence(const Family& family);
  void FindIdleMembers(const Family& family);
  bool WitnessesAgree(uint64_t window, std::span<uint64_t> unstable, const ScanObserver& observer);
  bool AnyMigrating() const;
  // Adds breaks to the lives of the members they concern.
  void Account(const Family& family, const Judgement& judgement);
  void Show(Family& family, uint64_t window, ScanObserver& observer);
  void ShowMember(Family& family, uint64_t window, size_t reading);
  void SkipPassedMappings(Part& part, uint64_t window) const;
  bool BeginsWithHugetlb(Part& part, uint64_t window) const;
  template <class Visit>
  void ForEachMapping(Part& part, uint64_t window, Visit&& visit) const;
  SegmentTally TallySegment(const Mapping& mapping, std::span<const uint64_t> entries) const;
  void ProbeLonely(Part& part);
  bool AnyShared(std::span<const uint64_t> entries);
  void CountUnwalked(const Part& part, Unwalked& unwalked) const;
  // False if the observer interrupted it.
  bool ReadSmaps(FamilyScan& scan, ScanObserver& observer);
  SmapsReading ReadSmapsOf(Member& member) const;
  void CollectSmaps(const Family& family, const FamilyScan& scan);
  std::vector<Part*> PartsBySlot();
  void AddUpMembers(const Family& family);
  // False if the observer interrupted it.
  bool FinishLedger(Family& family, PassEnd& end, ScanObserver& observer);
  // Shows verdicts about moved pages, which are gone then.
  void ShowMoved(Family& family, Judgement& judgement, ScanObserver& observer);
  // Makes a step of the stage. True if it was its last one.
  bool EndStage(Family& family, PassEnd& end);
  bool ConfirmSome(Family& family, PassEnd& end);
  bool AskForSome(PassEnd& end);
  void PassCompleted(Family& family, const PassOptions& options) const;

  const Host& host_;
  size_t pages_;
  FrameReader frames_;
  DeviceTypes& devices_;
  ScanCounters counters_;

  // The family under way.
  Walk walk_;
  std::vector<Part> parts_;
  std::vector<procfs::Pagemap> borrowed_;

  // Buffers kept from window to window.
  std::vector<uint64_t> zero_window_;
  std::vector<uint64_t> entries_;     // of each part's own
  std::vector<uint64_t> remembered_;  // of parts that are not read; those who remember alike use one
  std::vector<uint64_t> again_;
  std::vector<Reading> readings_;
  std::vector<uint32_t> part_of_reading_;
  Comparison examination_;
  FrameFacts facts_;
  Judgement judgement_;
  WindowSharing sharing_;
  std::vector<Segment> segments_;
  std::vector<size_t> first_segment_;
  std::vector<MemberWindow> shown_;
  std::vector<SegmentTally> tallies_;
  std::vector<Slot> shown_slots_;
  const uint64_t* shown_entries_ = nullptr;  // of the first one shown, if they were read
  bool window_unsettled_ = false;
  std::chrono::system_clock::time_point window_read_at_;  // before its first page
  std::vector<bool> broke_;                               // by slot: broke a page of the window
  std::vector<uint64_t> broken_by_;                       // by slot: 0 but while the breaks of one page are counted
  std::vector<SmapsReading> smaps_;
  std::vector<MemberSums> member_sums_;
};

}  // namespace cow::memory
