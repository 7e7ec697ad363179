#include "collectors/explain/explainer.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "collectors/procfs/stat.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::explain {
namespace {

using Kind = Failure::Kind;

std::string Process(pid_t pid) { return "process " + std::to_string(pid); }

// True if pages of the family may have come back from swap: a first look can't tell these from copies. FamilyScan
// decides by the same facts.
bool MayHaveSwappedIn(const procfs::Root& root, const memory::Family& family) {
  const auto vmstat = procfs::ReadVmstat(root);
  if (vmstat && vmstat->swapped_in_pages == 0) return false;
  return std::any_of(family.members.begin(), family.members.end(),
                     [](const auto& member) { return member->process->stat.major_faults != 0; });
}

// Counts the breaks that a scan finds.
class BreakCounter {
 public:
  void Add(const memory::WindowReport& report) { Count(*report.family, *report.judgement); }
  void Add(const memory::MovedReport& report) { Count(*report.family, *report.judgement); }
  void Add(const memory::FamilyReport& /*report*/) {}

  const Breaks& breaks() const { return breaks_; }
  uint64_t By(pid_t pid) const {
    const auto found = by_pid_.find(pid);
    return found == by_pid_.end() ? 0 : found->second;
  }

 private:
  void Count(const memory::Family& family, const memory::Judgement& judgement) {
    for (const memory::Verdict& verdict : judgement.verdicts) {
      if (verdict.kind != memory::Verdict::Kind::kBreak) continue;
      breaks_.pages += verdict.pages;
      const memory::Member* breaker = family.FindSlot(verdict.slot);
      if (!verdict.side_known || breaker == nullptr) {
        breaks_.of_unknown_side += verdict.pages;
      } else {
        by_pid_[breaker->process->pid] += verdict.pages;
      }
    }
  }

  Breaks breaks_;
  std::map<pid_t, uint64_t> by_pid_;
};

}  // namespace

Explainer::Explainer(procfs::Root root)
    : root_(std::move(root)),
      scanner_(root_, procfs::RequirePageGeometry(root_)),
      table_(root_, std::numeric_limits<size_t>::max(), /*max_kept_files=*/0, scanner_.layouts()) {
  procfs::RaiseDescriptorLimit();
}

tl::expected<std::unique_ptr<memory::Lineage>, Failure> Explainer::ListFamilies() {
  scanner_.forks().BeforeUpdate();
  if (auto listed = table_.Update(); !listed) return Fail(Kind::kOther, listed.error().ToString());
  scanner_.forks().AfterUpdate(table_);
  scanner_.BeginPass();
  auto families = std::make_unique<memory::Lineage>(scanner_.geometry(), scanner_.zero_frame());
  families->Update(table_, scanner_.probe());
  return families;
}

tl::expected<FamilySearch, Failure> Explainer::Find(const std::string& name) {
  return ListFamilies().map([&](const auto& families) { return FindByName(root_, *families, name); });
}

tl::expected<FamilySearch, Failure> Explainer::FindGroup(const std::string& group, const GroupOptions& options,
                                                         size_t label_bytes) {
  collectors::GroupRules rules(options);
  return ListFamilies().map(
      [&](const auto& families) { return FindByGroup(root_, *families, group, rules, label_bytes); });
}

tl::expected<Portrait, Failure> Explainer::Look(pid_t pid, const LookOptions& options) {
  if (auto good = CheckProcess(root_, pid); !good) return tl::unexpected(good.error());
  const auto families = ListFamilies();
  if (!families) return tl::unexpected(families.error());
  const auto [family, member] = FindMember(**families, pid);
  if (member == nullptr) {
    if (const auto stat = procfs::ReadStat(root_, pid); !stat) return FailToRead(root_, pid, stat.error());
    return Fail(Kind::kOther, Process(pid) + " can't be read");
  }
  auto portrait = Read(pid, *family, *member, options);
  if (portrait && options.keep_history) LookForBreaks(pid, *portrait);
  return portrait;
}

tl::expected<Portrait, Failure> Explainer::Read(pid_t pid, memory::Family& family, memory::Member& member,
                                                const LookOptions& options) {
  // A first look at every member asks for its marks. A process without relatives must be walked too.
  for (const auto& each : family.members) each->reads.first_look = true;
  if (family.members.size() == 1) member.reads.shares_unseen = true;
  const PortraitBuilder::Scanned scanned = ScanHidden(family);
  PortraitBuilder builder(scanner_, member, options.pages, scanned);
  const uint64_t unstable_before = scanner_.Counters().unstable_pages;
  memory::PassOptions pass;
  pass.show_all = true;
  const auto add = [&builder](const auto& report) requires requires { builder.Add(report); }
  { builder.Add(report); };
  if (!ScanWhole(scanner_, family, pass, options.may_go_on, add))
    return Fail(Kind::kStopped, "stopped before all was read");
  if (member.access.unread) return FailToRead(root_, pid, *member.access.unread);
  Portrait portrait = builder.Take();
  portrait.asked = pid;
  portrait.swap_hides_copies = MayHaveSwappedIn(root_, family);
  portrait.time = std::chrono::system_clock::now();
  for (MemberPortrait& each : portrait.members) {
    const auto unread = std::find_if(family.members.begin(), family.members.end(), [&each](const auto& of) {
      return of->process->pid == each.pid && of->access.unread;
    });
    if (unread != family.members.end()) each.unread_detail = WhyUnread(root_, each.pid, *(*unread)->access.unread);
  }
  portrait.unstable_pages = scanner_.Counters().unstable_pages - unstable_before;
  const auto& address = options.pages.address;
  if (address) {
    std::erase_if(portrait.mappings, [&address](const MappingPortrait& each) {
      return *address < each.mapping.vma.start || each.mapping.vma.end <= *address;
    });
    if (portrait.mappings.empty())
      return Fail(Kind::kNoMapping, "no mapping of " + Process(pid) + " holds this address");
  }
  return portrait;
}

PortraitBuilder::Scanned Explainer::ScanHidden(const memory::Family& family) const {
  PortraitBuilder::Scanned scanned;
  if (scanner_.capabilities().frames || !scanner_.capabilities().pagemap_scan) return scanned;
  const procfs::PagemapScan scan = procfs::PagemapScan::Probe(memory::RootOfSelf(root_), scanner_.geometry());
  for (const auto& member : family.members) {
    const uint64_t resident = member->process->ResidentBytes();
    auto pages = ScannedPages::Read(root_, member->process->memory, scan, resident);
    if (pages) scanned.emplace(member->slot, std::move(*pages));  // else the scan meets and reports the same error
  }
  return scanned;
}

void Explainer::LookForBreaks(pid_t pid, Portrait& portrait) {
  if (!scanner_.capabilities().frames) return;
  if (!history_) history_.emplace(scanner_);
  history_->Update(table_);
  const auto [family, member] = history_->Find(pid);
  const bool is_first = std::exchange(history_of_, pid) != pid;
  if (member == nullptr) return;
  BreakCounter counter;
  const auto add = [&counter](const auto& report) requires requires { counter.Add(report); }
  { counter.Add(report); };
  history_->Scan(
      *family, [] { return true; }, add);
  if (is_first) return;
  portrait.since_last_look = counter.breaks();
  for (MemberPortrait& each : portrait.members) each.broken_since_last_look = counter.By(each.pid);
}

}  // namespace cow::explain
