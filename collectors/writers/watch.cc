#include "collectors/writers/watch.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "collectors/base/monotonic_clock.h"
#include "collectors/explain/family_history.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/scanner.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/system.h"
#include "collectors/writers/break_joiner.h"
#include "collectors/writers/page_facts.h"
#include "collectors/writers/recording.h"
#include "collectors/writers/scan_look.h"
#include "collectors/writers/writer_table.h"

namespace cow::writers {
namespace {

using explain::Failure;
using std::chrono::milliseconds;
using Kind = Failure::Kind;

constexpr milliseconds kSlice{20};
// Looks in between take at most a sixth of the time: ended members are judged up to the last look at them.
constexpr milliseconds kLookEvery{2000};
constexpr milliseconds kLookAfterFork{200};
constexpr int kRestPerLook = 5;
// A process that forks all the time has members that are not watched yet; they inherit.
constexpr int kMaxListings = 4;

std::string Sentence(const Error& error) { return error.detail.empty() ? error.ToString() : error.detail; }

// Collects the reports of one look.
class LookBuilder {
 public:
  LookBuilder(const procfs::PageGeometry& geometry, PageFacts& facts)
      : geometry_(geometry), facts_(facts), system_begin_(std::chrono::system_clock::now()) {
    look_.begin_ns = MonotonicNs();
  }

  void Add(const memory::UnchangedWindow& window) { Note(window.window, window.read_at); }
  void Add(const memory::WindowReport& report) {
    Note(report.window, report.read_at);
    facts_.Update(report);
    AddBreaks(*report.family, *report.judgement, geometry_, look_);
  }
  void Add(const memory::MovedReport& report) { AddBreaks(*report.family, *report.judgement, geometry_, look_); }
  void Add(const memory::FamilyReport& report) {
    facts_.Update(*report.family);
    AddMembers(*report.family, look_);
  }

  Look Finish() {
    MergeHugePages();
    look_.end_ns = MonotonicNs();
    return std::move(look_);
  }

 private:
  void Note(WindowIndex window, std::chrono::system_clock::time_point read_at) {
    const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(read_at - system_begin_).count();
    look_.windows[window] = look_.begin_ns + static_cast<uint64_t>(std::max<int64_t>(since, 0));
  }

  // A page of hugetlbfs has a verdict for each base page, and one fault.
  void MergeHugePages() {
    std::map<std::pair<pid_t, PageNumber>, size_t> first_of;
    std::vector<Break> merged;
    for (Break& each : look_.breaks) {
      const PageNumber unit = facts_.Unit(each.pid, each.page);
      const bool is_huge = unit != each.page || facts_.Unit(each.pid, each.page + 1) != each.page + 1;
      each.page = unit;
      if (is_huge) {
        const auto [item, is_new] = first_of.try_emplace({each.pid, unit}, merged.size());
        if (!is_new) {
          merged[item->second].pages += each.pages;
          continue;
        }
      }
      merged.push_back(each);
    }
    look_.breaks = std::move(merged);
  }

  procfs::PageGeometry geometry_;
  PageFacts& facts_;
  std::chrono::system_clock::time_point system_begin_;
  Look look_;
};

class Watch {
 public:
  Watch(procfs::Root root, symbols::Symbolizer& symbolizer, const WatchOptions& options)
      : root_(std::move(root)),
        symbolizer_(symbolizer),
        options_(options),
        scanner_(root_, procfs::RequirePageGeometry(root_)),
        table_(root_, std::numeric_limits<size_t>::max(), /*max_kept_files=*/0, scanner_.layouts()),
        history_(scanner_),
        facts_(scanner_.geometry(), scanner_.zero_frame()),
        joiner_(scanner_.geometry().PagesPerWindow(), [this](const Fault& fault) { return facts_.Describe(fault); }) {
    procfs::RaiseDescriptorLimit();
  }

  tl::expected<Report, Failure> Run() {
    if (auto good = explain::CheckProcess(root_, options_.pid); !good) return tl::unexpected(good.error());
    auto recorder = faults::FaultRecorder::Open(root_, options_.recorder);
    if (!recorder) return explain::Fail(Kind::kDenied, Sentence(recorder.error()));
    recording_.emplace(root_, scanner_.geometry(), std::move(*recorder), &symbolizer_);
    if (auto added = AddMembers(); !added) return tl::unexpected(added.error());
    if (auto looked = LookAtFamily(); !looked) return tl::unexpected(looked.error());
    options_.on_begin(report_.members);
    WaitAndLook();
    if (auto looked = LookAtFamily(); !looked) report_.ended = true;
    joiner_.Finish();
    recording_->Stop();
    return Finish();
  }

 private:
  bool is_judged() const { return scanner_.capabilities().frames; }

  // Lists the processes and finds the family: of the process, or of a member if that has ended.
  tl::expected<memory::Family*, Failure> FindFamily() {
    scanner_.forks().BeforeUpdate();
    if (auto listed = table_.Update(); !listed) return explain::Fail(Kind::kOther, listed.error().ToString());
    scanner_.forks().AfterUpdate(table_);
    scanner_.BeginPass();
    history_.Update(table_);
    memory::Family* family = history_.Find(options_.pid).family;
    for (size_t i = 0; family == nullptr && i < members_.size(); ++i) family = history_.Find(members_[i]).family;
    if (family != nullptr) return family;
    const auto stat = procfs::ReadStat(root_, options_.pid);
    if (!stat) return explain::FailToRead(root_, options_.pid, stat.error());
    return explain::Fail(Kind::kEnded, "process " + std::to_string(options_.pid) + " can't be read");
  }

  void TakeMembers(const memory::Family& family) {
    members_.clear();
    for (const auto& member : family.members) {
      members_.push_back(member->process->pid);
      owner_of_[member->process->pid] = member->process->pid;
    }
    report_.members = std::max(report_.members, members_.size());
    for (const memory::Alias& alias : family.aliases) {
      const memory::Member* owner = family.FindSlot(alias.slot);
      if (owner == nullptr) continue;
      members_.push_back(alias.process->pid);
      owner_of_[alias.process->pid] = owner->process->pid;
    }
    if (family.root() != nullptr) root_pid_ = family.root()->process->pid;
  }

  // Opens events for all members. A child that is forked meanwhile inherits them, or is in the next listing.
  tl::expected<void, Failure> AddMembers() {
    for (int i = 0; i < kMaxListings; ++i) {
      const std::vector<pid_t> before = members_;
      const auto family = FindFamily();
      if (!family) return tl::unexpected(family.error());
      TakeMembers(**family);
      if (members_ == before) break;
      const auto added = AddNewMembers();
      if (!added && added.error().kind != ErrorKind::kGone)
        return explain::Fail(Kind::kDenied, Sentence(added.error()));
    }
    const auto process = table_.processes().find(options_.pid);
    if (process != table_.processes().end()) report_.name = process->second->stat.comm;
    return {};
  }

  // Children inherit their parent's events; others, which were found to be relatives later, do not.
  Result<void> AddNewMembers() {
    std::vector<pid_t> added;
    for (const pid_t pid : members_) {
      if (added_.insert(pid).second) added.push_back(pid);
    }
    return added.empty() ? Result<void>() : recording_->Add(added);
  }

  tl::expected<void, Failure> LookAtFamily() {
    if (!is_judged()) {
      if (first_look_ns_ == 0) first_look_ns_ = MonotonicNs();
      last_look_ns_ = MonotonicNs();
      AddFaults();
      return {};
    }
    const uint64_t begin = MonotonicNs();
    auto family = FindFamily();
    if (!family) {
      AddFaults();
      return tl::unexpected(family.error());
    }
    TakeMembers(**family);
    static_cast<void>(AddNewMembers());  // an error concerns members that have ended
    LookBuilder builder(scanner_.geometry(), facts_);
    // Only the first look can be cut short: the verdicts of a later one would be lost.
    const bool is_first = first_look_ns_ == 0;
    const auto may_go_on = [this, is_first] { return !is_first || !Stops(milliseconds(0)); };
    const auto add = [&builder](const auto& step) requires requires { builder.Add(step); }
    { builder.Add(step); };
    if (!history_.Scan(**family, may_go_on, add)) return explain::Fail(Kind::kStopped, "stopped before all was read");
    AddFaults();
    facts_.Commit();
    joiner_.Apply(builder.Finish());
    if (first_look_ns_ == 0) first_look_ns_ = MonotonicNs();
    last_look_ns_ = MonotonicNs();
    look_took_ = milliseconds((last_look_ns_ - begin) / 1'000'000);
    return {};
  }

  void AddFaults() {
    Recording::Batch batch = recording_->Take();
    dropped_ += batch.dropped;
    frames_of_.insert(frames_of_.end(), batch.new_writers.begin(), batch.new_writers.end());
    for (Fault& fault : batch.faults) {
      const auto owner = owner_of_.find(fault.pid);
      if (owner != owner_of_.end()) fault.pid = owner->second;
      if (!is_judged()) {
        ++unjudged_[{fault.writer, fault.pid == root_pid_ ? Side::kParent : Side::kChild}];
        continue;
      }
      fault.page = facts_.Unit(fault.pid, fault.page);
      fault.was_zero = facts_.IsZero(fault.pid, fault.page);
      joiner_.Add(fault);
    }
  }

  bool Stops(milliseconds wait) {
    stopped_ = stopped_ || options_.ends_within(wait);
    return stopped_;
  }

  void WaitAndLook() {
    const uint64_t end = MonotonicNs() + static_cast<uint64_t>(options_.time.count()) * 1'000'000U;
    for (uint64_t now = MonotonicNs(); now < end; now = MonotonicNs()) {
      const milliseconds left((end - now) / 1'000'000 + 1);
      if (Stops(std::min(kSlice, left))) return;
      const milliseconds rested((MonotonicNs() - last_look_ns_) / 1'000'000);
      const milliseconds rest = std::max(recording_->forked() ? kLookAfterFork : kLookEvery, kRestPerLook * look_took_);
      if (rested >= rest && !LookAtFamily()) return;
    }
  }

  Report Finish() {
    Report report = std::move(report_);
    report.pid = options_.pid;
    report.page_bytes = scanner_.geometry().page_bytes;
    report.seconds = static_cast<double>(last_look_ns_ - first_look_ns_) * 1e-9;
    report.one_in = options_.recorder.one_in;
    report.judged = is_judged();
    report.kernel_faults = recording_->has_kernel_faults();
    report.unwatched_threads = recording_->unwatched_threads();
    report.lost_records = recording_->lost() + dropped_;
    const JoinSums& sums = joiner_.sums();
    report.broken_pages = sums.broken_pages;
    report.unexplained_pages = sums.unexplained_pages;
    report.records = sums.records;
    report.attributed_records = sums.AllAttributed().records;
    report.repeated_records = sums.repeated_records;
    report.fresh_records = sums.FreshByKind();
    for (const auto& [key, sum] : sums.attributed) {
      const auto [writer, side, mapping] = key;
      report.writers.push_back({NamesOf(writer), side, mapping, sum.pages, sum.records});
    }
    for (const auto& [key, count] : unjudged_) {
      report.writers.push_back({NamesOf(key.first), key.second, memory::MappingKind::kAnon, 0, count});
      report.records += count;
    }
    SortLargestFirst(report.writers);
    return report;
  }

  std::vector<symbols::Symbol> NamesOf(WriterId writer) {
    std::vector<symbols::Symbol> names;
    for (const symbols::CodeLocation& code : frames_of_.at(writer)) names.push_back(symbolizer_.Resolve(code));
    return names;
  }

  procfs::Root root_;
  symbols::Symbolizer& symbolizer_;
  const WatchOptions& options_;
  memory::Scanner scanner_;
  memory::ProcessTable table_;
  explain::FamilyHistory history_;
  PageFacts facts_;
  BreakJoiner joiner_;
  std::optional<Recording> recording_;
  std::vector<WriterTable::Frames> frames_of_;  // by number of the writer
  std::vector<pid_t> members_;                  // and their aliases, at the last listing
  std::set<pid_t> added_;                       // were given to the recording
  std::map<pid_t, pid_t> owner_of_;             // by process, the member whose memory it has
  pid_t root_pid_ = 0;
  std::map<std::pair<WriterId, Side>, uint64_t> unjudged_;
  uint64_t dropped_ = 0;
  uint64_t first_look_ns_ = 0;  // when it ended
  uint64_t last_look_ns_ = 0;   // when it ended
  milliseconds look_took_{0};
  bool stopped_ = false;
  Report report_;
};

}  // namespace

tl::expected<Report, Failure> WatchWriters(const procfs::Root& root, symbols::Symbolizer& symbolizer,
                                           const WatchOptions& options) {
  return Watch(root, symbolizer, options).Run();
}

}  // namespace cow::writers
