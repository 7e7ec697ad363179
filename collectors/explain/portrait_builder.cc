#include "collectors/explain/portrait_builder.h"

#include <algorithm>

#include "collectors/memory/ledger/page.h"

namespace cow::explain {
namespace {

using memory::AnonFrame;
using memory::FirstMapping;
using memory::MemberIndex;
using memory::PageEntry;
using memory::Reading;
using memory::Verdict;

}  // namespace

PortraitBuilder::PortraitBuilder(memory::Scanner& scanner, const memory::Member& asked, PageQuestion question,
                                 const Scanned& scanned)
    : scanner_(scanner),
      asked_(asked),
      question_(question),
      scanned_(scanned),
      pages_(scanner.geometry().PagesPerWindow()),
      page_bytes_(scanner.geometry().page_bytes) {
  const memory::Capabilities& can = scanner.capabilities();
  portrait_.pid = asked.process->pid;
  portrait_.page_bytes = page_bytes_;
  portrait_.has_pages = question.wanted;
  portrait_.frames_known = can.frames;
  portrait_.marks_known = can.exclusive_marks;
  portrait_.zero_known = can.frames || can.pagemap_scan;
}

bool PortraitBuilder::Wanted(const memory::Mapping& mapping) const {
  if (!question_.wanted) return false;
  return !question_.address || (mapping.vma.start <= *question_.address && *question_.address < mapping.vma.end);
}

void PortraitBuilder::BeginMappings() {
  if (!portrait_.mappings.empty() || !asked_.access.mappings) return;
  for (const memory::Mapping& mapping : *asked_.access.mappings) portrait_.mappings.push_back({mapping, {}, 0, {}});
}

void PortraitBuilder::Add(const memory::WindowReport& report) {
  BeginMappings();
  differs_.Reset(pages_);
  for (const auto& member : report.family->members) {
    pids_[member->slot] = member->process->pid;
    SlotFindings& findings = findings_[member->slot];
    findings.copied.Reset(pages_);
    findings.original.Reset(pages_);
  }
  TakeVerdicts(*report.judgement, report.window.FirstPage(pages_));
  for (const Verdict& verdict : report.judgement->verdicts) CountBreak(*report.family, verdict);
  portrait_.exposure_pages += report.sharing->exposure_pages;
  AskMarks(report);
  for (size_t r = 0; r < report.readings.size(); ++r) AddMember(report, r);
}

void PortraitBuilder::TakeVerdicts(const memory::Judgement& judgement, PageNumber first_page) {
  for (const Verdict& verdict : judgement.verdicts) {
    const size_t page = verdict.page - first_page;
    if (verdict.kind == Verdict::Kind::kUnattributed) {
      differs_.Set(page);
      ++portrait_.unattributed_pages;
    }
    if (verdict.kind != Verdict::Kind::kBreak) continue;
    findings_[verdict.slot].copied.Set(page);
    for (const MemberIndex holder : judgement.HoldersOf(verdict)) {
      if (holder != verdict.slot) findings_[holder].original.Set(page);
    }
  }
}

void PortraitBuilder::CountBreak(const memory::Family& family, const Verdict& verdict) {
  if (verdict.kind != Verdict::Kind::kBreak) return;
  findings_[verdict.slot].broken_pages += verdict.pages;
  const memory::MappingKind kind = KindOfVerdict(family, verdict, scanner_.geometry());
  portrait_.broken_by_kind[static_cast<size_t>(kind)] += verdict.pages;
}

// Reads the marks of pages that no relative maps at the same address.
void PortraitBuilder::AskMarks(const memory::WindowReport& report) {
  facts_.Clear();
  if (!scanner_.capabilities().kpageflags || !report.frames_known) return;
  std::vector<Pfn> frames;
  for (size_t r = 0; r < report.readings.size(); ++r) {
    for (size_t page = 0; page < pages_; ++page) {
      const Pfn frame = AnonFrame(report.readings[r].entries[page], scanner_.zero_frame());
      if (frame != Pfn::None() && !report.sharing->members[r].shared.Test(page)) frames.push_back(frame);
    }
  }
  if (!frames.empty()) scanner_.worker().frames.Read(frames, false, facts_);
}

bool PortraitBuilder::IsZeroPage(MemberIndex slot, PageEntry entry, PageNumber page) const {
  if (portrait_.frames_known) return entry.Frame() == scanner_.zero_frame();
  const auto scanned = scanned_.find(slot);
  return scanned != scanned_.end() &&
         (scanned->second.Categories(page.Address(page_bytes_)) & procfs::kScanZeroPage) != 0;
}

// Used if frames are hidden: two pages that are each mapped once are different pages.
bool PortraitBuilder::OwnPageElsewhere(const memory::WindowReport& report, size_t reading, size_t page) const {
  for (size_t r = 0; r < report.readings.size(); ++r) {
    const PageEntry entry = report.readings[r].entries[page];
    if (r != reading && entry.IsAnonymous() && entry.IsMappedOnce()) return true;
  }
  return false;
}

PageEvidence PortraitBuilder::Evidence(const memory::WindowReport& report, size_t reading,
                                       const memory::Mapping& mapping, size_t page) const {
  const Reading& of = report.readings[reading];
  const SlotFindings& findings = findings_.at(of.slot);
  PageEvidence evidence;
  evidence.entry = of.entries[page];
  evidence.frames_known = portrait_.frames_known;
  evidence.zero_known = portrait_.zero_known;
  evidence.is_zero_page = IsZeroPage(of.slot, evidence.entry, report.window.FirstPage(pages_) + page);
  evidence.private_mapping =
      mapping.IsPrivate() && (mapping.IsAnonymous() || mapping.IsPrivateFile() || mapping.hugetlb);
  evidence.private_file = mapping.IsPrivateFile() || (mapping.hugetlb && !mapping.IsAnonymous());
  evidence.shared = report.sharing->members[reading].shared.Test(page);
  evidence.copied = findings.copied.Test(page);
  evidence.original = findings.original.Test(page);
  evidence.differs = portrait_.frames_known ? differs_.Test(page) : OwnPageElsewhere(report, reading, page);
  const Pfn frame = AnonFrame(evidence.entry, scanner_.zero_frame());
  if (frame == Pfn::None()) return evidence;
  evidence.merged = facts_.IsKsm(frame);
  evidence.merged_known = facts_.merged_known();
  // In a large folio that is mapped page by page, the mark does not belong to the single page.
  constexpr uint64_t kCompound = procfs::kFrameCompoundHead | procfs::kFrameCompoundTail;
  const memory::Member* member = report.family->FindSlot(of.slot);
  const bool of_the_page = (facts_.Flags(frame).value_or(0) & kCompound) == 0 ||
                           (member != nullptr && member->access.huge_windows.contains(report.window));
  if (of_the_page) evidence.exclusive = facts_.IsExclusive(frame);
  return evidence;
}

std::vector<pid_t> PortraitBuilder::Partners(const memory::WindowReport& report, size_t reading, size_t page) const {
  std::vector<pid_t> pids;
  const PageEntry entry = report.readings[reading].entries[page];
  const Pfn zero_frame = scanner_.zero_frame();
  const Pfn frame = AnonFrame(entry, zero_frame);
  for (size_t r = 0; r < report.readings.size(); ++r) {
    const PageEntry other = report.readings[r].entries[page];
    const bool same = frame != Pfn::None() ? AnonFrame(other, zero_frame) == frame : other == entry;
    if (r != reading && same) pids.push_back(pids_.at(report.readings[r].slot));
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

void PortraitBuilder::AddMember(const memory::WindowReport& report, size_t reading) {
  const Reading& of = report.readings[reading];
  const memory::Member* member = report.family->FindSlot(of.slot);
  if (member == nullptr || !member->access.mappings) return;
  SlotFindings& findings = findings_[of.slot];
  const bool is_asked = member == &asked_;
  const bool is_huge = member->access.huge_windows.contains(report.window);
  const std::vector<memory::Mapping>& mappings = *member->access.mappings;
  const PageNumber begin = report.window.FirstPage(pages_);
  const auto rest = std::span(mappings).subspan(FirstMapping(mappings, begin.Address(page_bytes_)));
  const auto add = [&](const memory::Mapping& mapping, uint32_t first, uint32_t count) {
    const auto m = static_cast<size_t>(&mapping - mappings.data());
    for (size_t page = first; page < first + count; ++page) {
      const PageNumber number = begin + page;
      const PageEvidence evidence = Evidence(report, reading, mapping, page);
      const PageState state = JudgePage(evidence);
      const Pfn frame = AnonFrame(evidence.entry, scanner_.zero_frame());
      const bool is_own = frame != Pfn::None() && state != PageState::kShared && state != PageState::kMerged &&
                          state != PageState::kFile && state != PageState::kUnknown;
      bool huge = is_huge;
      if (!portrait_.frames_known) {
        const auto scanned = scanned_.find(of.slot);
        huge = scanned != scanned_.end() &&
               (scanned->second.Categories(number.Address(page_bytes_)) & procfs::kScanHuge) != 0;
      }
      const bool is_zero = state == PageState::kZero;
      if (huge && !is_zero) ++findings.sums.huge;
      if (is_asked) {
        const bool huge_zero = is_zero && evidence.entry.IsFile();
        AddAsked(report, reading, m, page, state, is_zero ? huge_zero : huge);
      }
      if (is_own && !evidence.entry.IsMappedOnce()) {
        orphans_.push_back({frame, number, of.slot, state, m});
      } else {
        findings.sums.Add(state);
        if (is_asked) portrait_.mappings[m].sums.Add(state);
      }
    }
  };
  VisitMappings(scanner_.geometry(), rest, report.window, add);
}

void PortraitBuilder::AddAsked(const memory::WindowReport& report, size_t reading, size_t mapping, size_t page,
                               PageState state, bool huge) {
  MappingPortrait& portrait = portrait_.mappings[mapping];
  if (huge && state != PageState::kZero) ++portrait.sums.huge;
  const bool wanted = Wanted(portrait.mapping);
  const bool has_partners = (state == PageState::kShared && portrait_.frames_known) || state == PageState::kSwapped;
  if (!wanted && state != PageState::kShared) return;
  std::vector<pid_t> partners;
  if (has_partners) partners = Partners(report, reading, page);
  if (state == PageState::kShared) portrait.exposure_pages += partners.size();
  if (!wanted) return;
  const uint64_t address = (report.window.FirstPage(pages_) + page).Address(page_bytes_);
  AddRun(portrait, {address, 1, state, huge, std::move(partners)});
}

// Fills the gap before the run with absent pages: windows without pages are not read.
void PortraitBuilder::AddRun(MappingPortrait& mapping, PageRun run) const {
  std::vector<PageRun>& runs = mapping.runs;
  const uint64_t end = runs.empty() ? mapping.mapping.vma.start : runs.back().start + runs.back().pages * page_bytes_;
  if (end < run.start) AddRun(mapping, {end, (run.start - end) / page_bytes_, PageState::kAbsent, false, {}});
  if (!runs.empty() && runs.back().ContinuesWith(run, page_bytes_)) {
    runs.back().pages += run.pages;
  } else if (run.pages > 0) {
    runs.push_back(std::move(run));
  }
}

void PortraitBuilder::FillHoles() {
  for (MappingPortrait& mapping : portrait_.mappings) {
    if (Wanted(mapping.mapping)) AddRun(mapping, {mapping.mapping.vma.end, 0, PageState::kGuard, false, {}});
    const uint64_t all = mapping.mapping.vma.SizeBytes() / page_bytes_;
    uint64_t seen = 0;
    for (const uint64_t pages : mapping.sums.pages) seen += pages;
    mapping.sums.Add(PageState::kAbsent, all - std::min(all, seen));
  }
}

void PortraitBuilder::Add(const memory::MovedReport& report) {
  BeginMappings();
  for (const Verdict& verdict : report.judgement->verdicts) CountBreak(*report.family, verdict);
}

void PortraitBuilder::Add(const memory::FamilyReport& report) {
  BeginMappings();
  ResolveOrphans(FindMoved(*report.family));
  FillHoles();
  // The end of the pass corrects pages that have a partner at another address; its value may be negative.
  portrait_.exposure_pages += static_cast<uint64_t>(report.moved.exposure_pages);
  portrait_.unseen_pages = report.moved.unmatched_pages;
  for (const auto& member : report.family->members) {
    MemberPortrait& portrait = portrait_.members.emplace_back();
    portrait.pid = member->process->pid;
    portrait.name = member->process->stat.comm;
    const memory::Member* parent = report.family->FindSlot(member->parent);
    if (parent != nullptr) portrait.parent = parent->process->pid;
    portrait.unread = member->access.unread.has_value();
    if (member->access.unread) portrait.unread_reason = ErrorKindName(member->access.unread->kind);
    portrait.sums = findings_[member->slot].sums;
    portrait.broken_pages = findings_[member->slot].broken_pages;
  }
}

PortraitBuilder::HoldersOfFrame PortraitBuilder::FindMoved(const memory::Family& family) const {
  HoldersOfFrame holders;
  for (const WindowIndex window : family.ledger.Windows()) {
    for (const memory::MovedPage& page : family.ledger.MovedIn(window)) holders[page.frame].push_back(page);
  }
  std::erase_if(holders, [](const auto& item) { return item.second.size() < 2; });
  return holders;
}

std::vector<pid_t> PortraitBuilder::PidsOf(std::span<const memory::MovedPage> holders) const {
  std::vector<pid_t> pids;
  for (const memory::MovedPage& holder : holders) {
    if (holder.slot != asked_.slot) pids.push_back(pids_.at(holder.slot));
  }
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

void PortraitBuilder::ResolveOrphans(const HoldersOfFrame& moved) {
  std::vector<Pfn> frames;
  for (const Orphan& orphan : orphans_) {
    if (!moved.contains(orphan.frame)) frames.push_back(orphan.frame);
  }
  facts_.Clear();
  if (!frames.empty()) scanner_.worker().frames.Read(frames, true, facts_);
  std::vector<Correction> corrections;
  for (const Orphan& orphan : orphans_) {
    // Without a mapcount, assume another mapping: bit 56 is clear.
    const bool mapped_by_others =
        !facts_.IsCountedAsFolio(orphan.frame) && facts_.MapCount(orphan.frame).value_or(2) > 1;
    const bool shared = moved.contains(orphan.frame) || mapped_by_others;
    const PageState state = shared ? PageState::kShared : orphan.otherwise;
    findings_[orphan.slot].sums.Add(state);
    if (orphan.slot != asked_.slot) continue;
    portrait_.mappings[orphan.mapping].sums.Add(state);
    if (shared && !moved.contains(orphan.frame)) corrections.push_back({orphan.page.Address(page_bytes_), state, {}});
  }
  const std::vector<memory::Mapping> none;
  const std::vector<memory::Mapping>& mappings = asked_.access.mappings ? *asked_.access.mappings : none;
  for (const auto& [frame, holders] : moved) {
    const std::vector<pid_t> pids = PidsOf(holders);
    for (const memory::MovedPage& holder : holders) {
      if (holder.slot != asked_.slot) continue;
      const uint64_t address = holder.page.Address(page_bytes_);
      corrections.push_back({address, PageState::kShared, pids});
      const size_t mapping = FirstMapping(mappings, address);
      if (mapping >= portrait_.mappings.size()) continue;
      // Holders at the same address were counted in their window.
      const auto at_address = std::count_if(holders.begin(), holders.end(), [&holder](const memory::MovedPage& other) {
        return other.page == holder.page;
      });
      portrait_.mappings[mapping].exposure_pages += holders.size() - static_cast<size_t>(at_address);
    }
  }
  Correct(std::move(corrections));
}

void PortraitBuilder::Correct(std::vector<Correction> corrections) {
  std::sort(corrections.begin(), corrections.end(),
            [](const Correction& a, const Correction& b) { return a.address < b.address; });
  for (MappingPortrait& mapping : portrait_.mappings) {
    if (!Wanted(mapping.mapping)) continue;
    const auto before = [](uint64_t end) { return [end](const Correction& each) { return each.address < end; }; };
    const auto first = std::partition_point(corrections.begin(), corrections.end(), before(mapping.mapping.vma.start));
    const auto last = std::partition_point(first, corrections.end(), before(mapping.mapping.vma.end));
    if (first != last) CorrectMapping(mapping, {first, last});
  }
}

void PortraitBuilder::CorrectMapping(MappingPortrait& mapping, std::span<const Correction> corrections) const {
  const std::vector<PageRun> runs = std::exchange(mapping.runs, {});
  size_t next = 0;
  for (const PageRun& run : runs) {
    const uint64_t end = run.start + run.pages * page_bytes_;
    uint64_t done = run.start;
    for (; next < corrections.size() && corrections[next].address < end; ++next) {
      const Correction& correction = corrections[next];
      AddRun(mapping, {done, (correction.address - done) / page_bytes_, run.state, run.huge, run.shared_with});
      AddRun(mapping, {correction.address, 1, correction.state, run.huge, correction.shared_with});
      done = correction.address + page_bytes_;
    }
    AddRun(mapping, {done, (end - done) / page_bytes_, run.state, run.huge, run.shared_with});
  }
}

}  // namespace cow::explain
