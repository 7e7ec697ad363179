#include "collectors/memory/scan/family_scan.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/scan/due.h"
#include "collectors/memory/scan/member_sums.h"
#include "collectors/procfs/maps.h"

namespace cow::memory {
namespace {

using Clock = std::chrono::steady_clock;

// Most passes between two attempts at a process that is too large.
constexpr uint32_t kMaxPause = 64;

// True if pages of the family may have come back from swap since its last pass: the host's counter moved, and a member
// had major faults or its swapped memory changed.
bool SwappedIn(const Host& host, const Family& family) {
  // At the first pass, compare the host's counter with 0, its value at boot.
  const uint64_t before = family.host ? family.host->swapped_in_pages : 0;
  if (host.vmstat && host.vmstat->swapped_in_pages == before) return false;
  return std::any_of(family.members.begin(), family.members.end(), [](const auto& member) {
    const ChangeSignals now = ChangeSignals::Of(*member->process);
    if (member->reads.first_look) return now.major_faults != 0;
    return !member->reads.signals || member->reads.signals->major_faults != now.major_faults ||
           member->reads.signals->swap_bytes != now.swap_bytes;
  });
}

Mode BestMode(const Capabilities& can) {
  if (!can.frames) return Mode::kNoFrames;
  return can.kpageflags && can.kpagecount ? Mode::kFull : Mode::kNoKpage;
}

}  // namespace

FamilyScan::FamilyScan(const Host& host, DeviceTypes& devices, Family& family, const PassOptions& options)
    : host_(host), devices_(devices), family_(family) {
  walk_.options = options;
  walk_.all = MustWalk(host, family) && !family.members.empty();
  walk_.every_member = !walk_.all || options.show_all || AllAreDue(host, family, options.full_every);
  walk_.swapped_in = SwappedIn(host, family);
  walk_.ksm_in_use = UsesKsm(host, family);
  walk_.alone = family.members.size() == 1;
  walk_.host = host.vmstat;
  // A process without relatives is reported as a whole.
  walk_.keep_looks = walk_.all && !walk_.alone;
  if (family.members.empty()) {
    stage_ = Stage::kReport;
    return;
  }
  family.being_scanned = true;
  family.must_read_all = false;
  family.used_ksm = walk_.ksm_in_use;
  if (!walk_.keep_looks) family.looks.Clear();
  family.membership_changed = false;
  parts_.reserve(family.members.size());
  borrowed_.reserve(family.members.size());
  for (const auto& member : family.members) {
    member->reads.waits = false;
    member->reads.again = false;
    members_.push_back(member.get());
  }
}

ScanStep FamilyScan::Next(ScanWorker& worker, const MayGoOn& may_go_on) {
  worker.frames.SetMayBeMerged(walk_.ksm_in_use);
  // While members are being opened, the parts so far are not read.
  if (opened_ == members_.size()) {
    for (ScanPart& part : parts_) {
      part.reader.CountIn(worker.counters);
      if (part.member->life.ended) part.reader.End();
    }
  }
  return Step(worker, may_go_on);
}

ScanStep FamilyScan::Step(ScanWorker& worker, const MayGoOn& may_go_on) {
  switch (stage_) {
    case Stage::kOpen:
      if (opened_ == 0) OpenMember(*members_[opened_++], worker);
      if (opened_ < members_.size()) {
        OpenMember(*members_[opened_++], worker);
        return NothingYet{};
      }
      BeginWindows();
      stage_ = Stage::kWindows;
      [[fallthrough]];
    case Stage::kWindows:
      if (const auto window = NextWindow()) return ScanWindow(*window, worker, may_go_on);
      stage_ = Stage::kSmaps;
      [[fallthrough]];
    case Stage::kSmaps:
      if (ReadNextSmaps()) return NothingYet{};
      stage_ = Stage::kUnwalked;
      [[fallthrough]];
    case Stage::kUnwalked:
      if (!AddUnwalkedParts(worker, may_go_on)) return Interrupted{};
      stage_ = walk_.all ? Stage::kEnd : Stage::kReport;
      if (walk_.all) return NothingYet{};
      break;
    case Stage::kEnd:
      return StepOfEnd(worker);
    case Stage::kReport:
    case Stage::kDone:
      break;
  }
  if (family_.owed.verdicts.empty()) return Complete();
  moved_ = std::exchange(family_.owed, {});
  return TakeMoved(worker);
}

// Opens the member's page table and plans what to read, which takes long if memory is sparse.
void FamilyScan::OpenMember(Member& member, ScanWorker& worker) {
  if (member.life.ended) return;
  if (!walk_.every_member && !IsDue(member, Clock::now()) && RecordsCanStandFor(member)) {
    parts_.emplace_back(member, ReaderOf(member, worker, *member.access.pagemap), false);
    return;
  }
  member.access.mode = BestMode(host_.capabilities);
  if (OpenPageTable(member)) {
    const procfs::Pagemap& pagemap = member.access.pagemap ? *member.access.pagemap : borrowed_.back();
    parts_.emplace_back(member, ReaderOf(member, worker, pagemap), true);
    if (host_.forks != nullptr) parts_.back().began = host_.forks->Now();
    parts_.back().reader.Plan(walk_.all);
  } else if (member.access.unread->kind == ErrorKind::kDenied) {
    member.access.mode = Mode::kNone;
  }
}

// Opens the page table and reads the mappings. Stores an error in `unread`. A member with too many mappings is tried
// again after a pause that grows from one pass to kMaxPause.
bool FamilyScan::OpenPageTable(Member& member) {
  if (member.access.passes_to_skip != 0) {
    --member.access.passes_to_skip;
    return false;
  }
  member.access.unread = member.process->unread;
  if (member.access.unread) return false;
  if (!member.access.pagemap) {
    auto opened = procfs::Pagemap::Open(host_.root, member.process->memory);
    if (!opened) {
      member.access.unread = opened.error();
      return false;
    }
    borrowed_.push_back(std::move(*opened));
  }
  auto vmas = procfs::ReadMaps(host_.root, member.process->memory);
  if (!vmas) {
    member.access.unread = vmas.error();
    if (vmas.error().kind == ErrorKind::kTooLarge) {
      member.access.passes_to_skip = member.access.next_pause;
      member.access.next_pause = std::min(member.access.next_pause * 2, kMaxPause);
    }
    return false;
  }
  member.access.next_pause = 1;
  auto mappings = ClassifyMappings(std::move(*vmas), member.process->memory, devices_);
  // An incomplete pass leaves `remapped` set: pages are still compared with those of the last completed pass.
  if (member.access.mappings && !AreAlike(*member.access.mappings, mappings)) member.reads.remapped = true;
  member.access.mappings = std::make_shared<const std::vector<Mapping>>(std::move(mappings));
  return true;
}

PageTableReader FamilyScan::ReaderOf(Member& member, ScanWorker& worker, const procfs::Pagemap& pagemap) {
  return {host_,
          worker.counters,
          pagemap,
          {member.process, member.access.mappings, &member.access.huge_windows, &member.access.unread}};
}

void FamilyScan::BeginWindows() {
  if (!walk_.all) return;
  std::vector<MemberIndex> standing_for;
  for (const ScanPart& part : parts_) {
    if (!part.due) standing_for.push_back(part.member->slot);
  }
  family_.ledger.BeginPass(standing_for);
  known_ = family_.ledger.Windows();
  const std::vector<WindowIndex> looked_at = family_.looks.Windows();
  known_.insert(known_.end(), looked_at.begin(), looked_at.end());
  SortUnique(known_);
}

std::optional<WindowIndex> FamilyScan::NextWindow() const {
  std::optional<WindowIndex> window;
  if (next_known_ < known_.size()) window = known_[next_known_];
  for (const ScanPart& part : parts_) {
    const auto next = part.reader.NextWindow();
    if (next && (!window || *next < *window)) window = next;
  }
  return window;
}

ScanStep FamilyScan::ScanWindow(WindowIndex window, ScanWorker& worker, const MayGoOn& may_go_on) {
  const WindowScan::Outcome outcome = worker.window.Scan(family_, walk_, parts_, window, may_go_on);
  if (outcome == WindowScan::Outcome::kInterrupted) return Interrupted{};
  ScanStep step = UnchangedWindow{window, worker.window.read_at()};
  if (outcome == WindowScan::Outcome::kCommitted) {
    worker.breaks.Add(family_, worker.window.judgement(), walk_.options.count_breaks);
    step = worker.reporter.Make(family_, walk_, window, worker.window);
  }
  if (next_known_ < known_.size() && known_[next_known_] == window) ++next_known_;
  for (ScanPart& part : parts_) part.reader.Pass(window);
  return step;
}

// False if all members were read.
bool FamilyScan::ReadNextSmaps() {
  while (smaps_.size() < members_.size()) {
    Member& member = *members_[smaps_.size()];
    const auto max_bytes = walk_.options.needs.smaps_rollup_max_bytes;
    const bool wanted = !member.life.ended && (member.access.mode == Mode::kNone || max_bytes);
    smaps_.push_back(wanted ? ReadSmapsOf(host_, member, max_bytes) : SmapsReading());
    if (wanted) return true;
  }
  return false;
}

// False if interrupted.
bool FamilyScan::AddUnwalkedParts(ScanWorker& worker, const MayGoOn& may_go_on) {
  for (; unwalked_parts_ < parts_.size(); ++unwalked_parts_) {
    if (!may_go_on()) return false;
    ScanPart& part = parts_[unwalked_parts_];
    if (!part.reader.alive() || (walk_.all && host_.capabilities.frames)) continue;
    if (!walk_.all) ProbeLonely(host_, part, worker.frames);
    part.reader.ScanUnwalked(unwalked_);
    if (!walk_.all) AddUnwalked(host_.geometry, part, unwalked_);
  }
  return true;
}

ScanStep FamilyScan::StepOfEnd(ScanWorker& worker) {
  const bool ended = end_.Step(family_, walk_, parts_, worker.frames);
  if (ended) {
    family_.must_read_all = end_.moved().must_read_all;
    if (end_.moved().unmatched_pages == 0 && !family_.members.empty())
      family_.members.front()->reads.shares_unseen = false;
    stage_ = Stage::kReport;
  }
  if (!end_.HasVerdictsToTake()) return NothingYet{};
  end_.TakeVerdicts(moved_);
  return TakeMoved(worker);
}

MovedReport FamilyScan::TakeMoved(ScanWorker& worker) {
  worker.breaks.Add(family_, moved_, walk_.options.count_breaks);
  return {&family_, &moved_};
}

FamilyReport FamilyScan::Complete() {
  FamilyReport report;
  report.family = &family_;
  report.geometry = host_.geometry;
  report.read_at = walk_.read_at.value_or(std::chrono::system_clock::now());
  report.alone = walk_.alone;
  report.moved = end_.moved();
  report.unwalked = unwalked_;
  report.frames_known = host_.capabilities.frames;
  report.mapcounts_known = host_.capabilities.page_mapcounts;
  report.scan_known = host_.capabilities.pagemap_scan;
  for (const ScanPart& part : parts_) report.skipped += part.due ? 0 : 1;
  report.new_forks = family_.forks - std::exchange(family_.reported_forks, family_.forks);
  // Use the current order of members; some may have joined since the scan began.
  reported_smaps_.assign(family_.members.size(), SmapsReading());
  for (size_t i = 0; i < family_.members.size(); ++i) {
    const Member* member = family_.members[i].get();
    if (!member->reads.waits) report.modes.at(static_cast<size_t>(member->access.mode)) = true;
    const auto read = std::find(members_.begin(), members_.end(), member);
    if (read != members_.end()) reported_smaps_[i] = smaps_[static_cast<size_t>(read - members_.begin())];
  }
  report.smaps = reported_smaps_;
  if (walk_.options.needs.member_sums) AddUpMembers(host_, family_, walk_, parts_, member_sums_);
  report.member_sums = member_sums_;
  if (!members_.empty()) NoteReads();
  family_.being_scanned = false;
  stage_ = Stage::kDone;
  return report;
}

// Notes the change signals of members that were read; the next scan compares them.
void FamilyScan::NoteReads() {
  const SteadyTime now = Clock::now();
  family_.host = walk_.host;
  for (const ScanPart& part : parts_) {
    if (!part.due) continue;
    Member& member = *part.member;
    member.reads.signals.reset();
    if (host_.forks != nullptr) member.reads.scanned_at = part.began;
    // KSM merges pages and migrations end without a change signal.
    if (!walk_.ksm_in_use && !walk_.unsettled && part.reader.alive() && !member.reads.again)
      member.reads.signals = part.signals;
    member.reads.full_due = NextFullRead(family_, member, walk_.options.full_every, now);
    if (part.reader.alive()) member.reads.remapped = false;
  }
}

void FamilyScan::GiveUp() {
  if (stage_ == Stage::kEnd) {
    Judgement found = end_.GiveUp();
    if (!found.verdicts.empty()) family_.owed = std::move(found);
  }
  family_.being_scanned = false;
  family_.membership_changed = true;
  stage_ = Stage::kDone;
}

}  // namespace cow::memory
