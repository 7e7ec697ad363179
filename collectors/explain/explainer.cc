#include "collectors/explain/explainer.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <utility>
#include <variant>

#include "collectors/explain/denial.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/status.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::explain {
namespace {

using Kind = Failure::Kind;

// Members without a change signal are read this often for the breaks between two looks.
constexpr std::chrono::minutes kFullEvery{10};

tl::unexpected<Failure> Fail(Kind kind, std::string message) {
  return tl::unexpected(Failure{kind, std::move(message)});
}

std::string Process(pid_t pid) { return "process " + std::to_string(pid); }

std::string WhyUnread(const procfs::Root& root, pid_t pid, const Error& error) {
  if (error.kind != ErrorKind::kDenied) return error.ToString();
  return error.ToString() + ": " + DescribeDenial(ReadDenialFacts(root, pid, error));
}

tl::unexpected<Failure> FailToRead(const procfs::Root& root, pid_t pid, const Error& error) {
  switch (error.kind) {
    case ErrorKind::kGone:
      return Fail(Kind::kEnded, Process(pid) + " ended while it was read");
    case ErrorKind::kDenied:
      return Fail(Kind::kDenied, Process(pid) + " can't be read: " + WhyUnread(root, pid, error));
    default:
      return Fail(Kind::kOther, Process(pid) + " can't be read: " + error.ToString());
  }
}

// Returns the family of `pid` and the member whose address space it has.
std::pair<memory::Family*, memory::Member*> FindMember(const memory::Lineage& families, pid_t pid) {
  for (const auto& family : families.families()) {
    for (const auto& member : family->members) {
      if (member->process->pid == pid) return {family.get(), member.get()};
    }
    for (const memory::Alias& alias : family->aliases) {
      if (alias.process->pid == pid) return {family.get(), family->FindSlot(alias.slot)};
    }
  }
  return {nullptr, nullptr};
}

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

// Scans the family; `add` takes each report. False if `may_go_on` ended it.
template <class Add>
bool ScanWhole(memory::Scanner& scanner, memory::Family& family, const memory::PassOptions& options,
               const MayGoOn& may_go_on, Add&& add) {
  const auto scan = scanner.Begin(family, options);
  const auto take = [&add](const auto& step) {
    if constexpr (requires { add(step); }) add(step);
  };
  while (!scan->done()) {
    if (!may_go_on()) {
      scan->GiveUp();
      return false;
    }
    const memory::ScanStep step = scan->Next(scanner.worker(), may_go_on);
    std::visit(take, step);
  }
  return true;
}

}  // namespace

Explainer::Explainer(procfs::Root root)
    : root_(std::move(root)),
      scanner_(root_, procfs::RequirePageGeometry(root_)),
      table_(root_, std::numeric_limits<size_t>::max(), /*max_kept_files=*/0, scanner_.layouts()) {
  procfs::RaiseDescriptorLimit();
}

tl::expected<void, Failure> Explainer::CheckProcess(pid_t pid) const {
  const auto stat = procfs::ReadStat(root_, pid);
  if (!stat) {
    if (stat.error().kind == ErrorKind::kGone) {
      const std::string hidepid = ReadHidepid(root_);
      return Fail(Kind::kNoProcess,
                  "there is no " + Process(pid) + (hidepid.empty() ? "" : ", or /proc hides it: hidepid=" + hidepid));
    }
    return FailToRead(root_, pid, stat.error());
  }
  if (stat->IsKernelThread()) {
    return Fail(Kind::kNoMemory, Process(pid) + " is a thread of the kernel and has no memory of its own");
  }
  if (stat->HasNoMemory() && stat->num_threads < 2) {
    return Fail(Kind::kNoMemory, Process(pid) + " has ended and is not reaped yet (a zombie): its memory is gone");
  }
  const auto status = procfs::ReadStatus(root_, pid);
  if (status && status->tgid != pid) {
    return Fail(Kind::kThread, std::to_string(pid) + " is a thread of " + Process(status->tgid) + ": ask for that");
  }
  return {};
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
  if (auto good = CheckProcess(pid); !good) return tl::unexpected(good.error());
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
  if (!history_) history_.emplace(scanner_.geometry(), scanner_.zero_frame());
  history_->Update(table_, scanner_.probe());
  const auto [family, member] = FindMember(*history_, pid);
  const bool is_first = std::exchange(history_of_, pid) != pid;
  if (member == nullptr) return;
  BreakCounter counter;
  memory::PassOptions pass;
  pass.full_every = kFullEvery;
  const auto add = [&counter](const auto& report) requires requires { counter.Add(report); }
  { counter.Add(report); };
  ScanWhole(
      scanner_, *family, pass, [] { return true; }, add);
  SettleHistory();
  if (is_first) return;
  portrait.since_last_look = counter.breaks();
  for (MemberPortrait& each : portrait.members) each.broken_since_last_look = counter.By(each.pid);
}

// Other families are never read, so their ended members have no pages to judge.
void Explainer::SettleHistory() {
  for (const auto& family : history_->families()) {
    if (!family->ended.empty() && family->ledger.empty()) {
      memory::Judgement judgement;
      memory::MovedSharing moved;
      const memory::FrameFacts unknown;
      family->ledger.FinishPass(unknown, judgement, moved).MakeAll();
    }
    history_->Settle(*family);
  }
}

}  // namespace cow::explain
