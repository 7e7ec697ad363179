// Collector `writers`: samples which code breaks the sharing of families of two processes or more. Records one in
// `one_in` page faults of their members all the time, and joins them in each pass with the breaks that the ledger
// finds.
//
// A record costs the target a few hundred nanoseconds; the recording thread's time is added to the collector's cost.
// The symbolizer's processes must exist before the exporter confines itself, so the collector works only if it is on
// when the exporter starts.
#include <prometheus/metric_family.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "collectors/base/monotonic_clock.h"
#include "collectors/base/utf8.h"
#include "collectors/faults/fault_recorder.h"
#include "collectors/registry.h"
#include "collectors/symbols/symbolizer.h"
#include "collectors/writers/break_joiner.h"
#include "collectors/writers/recording.h"
#include "collectors/writers/scan_look.h"
#include "collectors/writers/top_writers.h"

namespace cow::collectors {
namespace {

using prometheus::MetricType;
using writers::TopWriters;

constexpr std::array<std::string_view, writers::kSides> kSides{"parent", "child", "unknown"};
constexpr size_t kObjectBytes = 128;
constexpr size_t kFunctionBytes = 128;
constexpr std::string_view kNoRecords =
    "Without CAP_PERFMON or CAP_SYS_ADMIN, without page frames, and if the collector was off when the exporter "
    "started.";

constexpr Metric kSamples{
    .name = "cow_writer_samples_total",
    .type = MetricType::Counter,
    .unit = "records",
    .help =
        "Sampled breaks (one in `one_in`) by the code that wrote. An exact count of samples, not an estimate of "
        "breaks: "
        "multiply its share by cow_breaks_total. The code beyond the group's top writers is function _other.",
    .labels = {{{"side", kSides},
                {"object", {}, "the file of the code as the process sees it, [kernel] or [jit]"},
                {"function", {}, "its function; empty without a symbol; _other: all others"}}},
    .known = Known::kFrames,
    .source = "Records of page faults (perf events), joined with the breaks of cow_breaks_total by process and page.",
    .absent = "For code without a sample, and for code that left the top an hour ago.",
    .query = "topk by (group) (3, rate(cow_writer_samples_total[5m]))",
};
constexpr Metric kLost{
    .name = "cow_writer_lost_records_total",
    .type = MetricType::Counter,
    .unit = "records",
    .help = "Records of page faults that the kernel or the exporter dropped because they came too fast.",
    .of_groups = false,
    .source = "The kernel's count of lost records.",
    .absent = kNoRecords,
};

// The same time on CLOCK_MONOTONIC.
uint64_t ToMonotonicNs(std::chrono::system_clock::time_point time) {
  const auto ago = std::chrono::system_clock::now() - time;
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(ago).count();
  return MonotonicNs() - static_cast<uint64_t>(std::max<int64_t>(ns, 0));
}

class Writers : public CollectorWithHooks {
 public:
  explicit Writers(const CollectorContext& context)
      : CollectorWithHooks(context.geometry),
        root_(context.root),
        options_(context.options.writers),
        totals_(context.totals),
        symbolizer_(context.symbolizer) {
    if (totals_ == nullptr) totals_ = std::make_shared<std::vector<uint64_t>>();
    totals_->resize(1, 0);
    Open();
  }

  std::optional<bool> capability() const override { return recording_ != nullptr; }
  std::string limitation() const override { return limitation_; }

  void SetOptions(const CollectorOptions& options) override {
    const WritersOptions before = std::exchange(options_, options.writers);
    if (before.one_in != options_.one_in || before.ring_bytes != options_.ring_bytes) Open();
  }

  void Accumulate(const memory::Report& report, const Tally& /*tally*/) const override {
    if (recording_ == nullptr) return;
    const std::lock_guard lock(mutex_);
    if (const auto* window = std::get_if<memory::WindowReport>(&report)) {
      FamilyWatch* watch = Find(*window->family);
      if (watch == nullptr) return;
      writers::AddBreaks(*window->family, *window->judgement, geometry(), watch->open);
      watch->open.windows[window->window] = ToMonotonicNs(window->read_at);
    } else if (const auto* moved = std::get_if<memory::MovedReport>(&report)) {
      FamilyWatch* watch = Find(*moved->family);
      if (watch != nullptr) writers::AddBreaks(*moved->family, *moved->judgement, geometry(), watch->open);
    }
  }

  void OnFamily(const memory::FamilyReport& report, const Tally& /*tally*/) override {
    if (recording_ == nullptr || !report.frames_known) return;
    const std::lock_guard lock(mutex_);
    FamilyWatch* watch = Find(*report.family);
    if (watch == nullptr) return;
    writers::Look& look = watch->open;
    look.begin_ns = ToMonotonicNs(report.read_at);
    look.end_ns = MonotonicNs();
    writers::AddMembers(*report.family, look);
    watch->looks.push_back(std::exchange(look, {}));
  }

  void OnPass(const FamilyPass& pass, const Tally& tally) override {
    if (recording_ == nullptr) return;
    const memory::Family& family = *pass.family;
    FamilyWatch* watch = Find(family);
    if (watch == nullptr) return;
    watch->group = tally.group;
    const bool is_new = !watch->group.empty();
    for (const auto& member : family.members) Place(*member->process, family.id, member->process->pid, is_new);
    for (const auto& alias : family.aliases) {
      const memory::Member* owner = family.FindSlot(alias.slot);
      if (owner != nullptr) Place(*alias.process, family.id, owner->process->pid, is_new);
    }
  }

  void OnFamilyGone(uint64_t family_id) override { families_.erase(family_id); }

  void OnPassEnd() override {
    if (recording_ == nullptr) return;
    // An error concerns single processes: they have ended, or there are too many threads.
    if (!to_add_.empty()) static_cast<void>(recording_->Add(to_add_));
    to_add_.clear();
    writers::Recording::Batch batch = recording_->Take();
    background_time_ += batch.cpu_time;
    totals_->at(0) += batch.dropped + recording_->lost() - std::exchange(lost_, recording_->lost());
    frames_of_.insert(frames_of_.end(), batch.new_writers.begin(), batch.new_writers.end());
    for (writers::Fault& fault : batch.faults) {
      const auto place = places_.find(fault.pid);
      if (place == places_.end()) continue;
      const auto watch = families_.find(place->second.family);
      if (watch == families_.end()) continue;
      fault.pid = place->second.owner;
      watch->second.joiner.Add(fault);
    }
    std::map<std::string, std::map<TopWriters::Key, uint64_t>> samples;
    for (auto& [id, watch] : families_) Join(watch, samples[watch.group]);
    const auto now = std::chrono::steady_clock::now();
    for (auto& [group, counts] : samples) groups_[group].Add(counts, options_.top, options_.hold, now);
    ForgetPlaces();
  }

  std::chrono::nanoseconds TakeBackgroundTime() override { return std::exchange(background_time_, {}); }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kSamples);
    for (const GroupSums& sums : groups) {
      const auto group = groups_.find(std::string(sums.group));
      if (group == groups_.end()) continue;
      for (const TopWriters::Series& series : group->second.Published()) {
        writer.AddFor(sums, {kSides.at(static_cast<size_t>(series.key.side)), series.key.object, series.key.function},
                      static_cast<double>(series.samples));
      }
    }
    writer.Begin(kLost);
    if (recording_ != nullptr) writer.Add({}, static_cast<double>(totals_->at(0)));
  }

 private:
  struct FamilyWatch {
    explicit FamilyWatch(size_t pages_per_window)
        : joiner(pages_per_window, [](const writers::Fault&) { return writers::Fresh::kFirstTouch; }) {}

    writers::BreakJoiner joiner;
    writers::Look open;                // of the scan under way
    std::vector<writers::Look> looks;  // completed in this pass
    std::string group;                 // empty: the family is not exported
  };
  struct Home {
    uint64_t family = 0;
    pid_t owner = 0;
    uint64_t pass = 0;
  };

  void Open() {
    recording_.reset();
    families_.clear();
    frames_of_.clear();
    places_.clear();
    added_.clear();
    lost_ = 0;
    if (symbolizer_ == nullptr) {
      limitation_ = "it needs processes that can't be started any more: restart the exporter with this collector on";
      return;
    }
    faults::FaultRecorder::Options options;
    options.one_in = options_.one_in;
    options.ring_bytes = options_.ring_bytes;
    auto recorder = faults::FaultRecorder::Open(root_, options);
    if (!recorder) {
      limitation_ = recorder.error().ToString();
      return;
    }
    limitation_.clear();
    recording_ = std::make_unique<writers::Recording>(root_, geometry(), std::move(*recorder), nullptr);
  }

  // Null for a family that never had two members. The mutex must be locked while others may call this.
  FamilyWatch* Find(const memory::Family& family) const {
    if (family.members.size() > 1) return &families_.try_emplace(family.id, geometry().PagesPerWindow()).first->second;
    const auto known = families_.find(family.id);
    return known == families_.end() ? nullptr : &known->second;
  }

  void Place(const memory::Process& process, uint64_t family, pid_t owner, bool is_new) {
    places_[process.pid] = {family, owner, pass_};
    if (is_new && added_.emplace(process.pid, process.start_ticks).second) to_add_.push_back(process.pid);
  }

  void Join(FamilyWatch& watch, std::map<TopWriters::Key, uint64_t>& samples) {
    if (watch.looks.empty()) return;
    for (const writers::Look& look : std::exchange(watch.looks, {})) watch.joiner.Apply(look);
    watch.joiner.Close(watch.joiner.previous_look_ns());
    for (const auto& [key, sum] : watch.joiner.TakeSums().attributed) {
      const auto [writer, side, mapping] = key;
      const symbols::Symbol code = symbolizer_->Resolve(frames_of_.at(writer).front());
      if (watch.group.empty()) continue;
      samples[{side, LabelValue(code.object, kObjectBytes), LabelValue(code.function.value_or(""), kFunctionBytes)}] +=
          sum.records;
    }
  }

  // Of processes that this pass has not listed.
  void ForgetPlaces() {
    std::erase_if(places_, [this](const auto& item) { return item.second.pass != pass_; });
    std::erase_if(added_, [this](const auto& item) { return !places_.contains(item.first); });
    ++pass_;
  }

  procfs::Root root_;
  WritersOptions options_;
  std::shared_ptr<std::vector<uint64_t>> totals_;  // lost records
  std::shared_ptr<symbols::Symbolizer> symbolizer_;
  std::string limitation_;
  std::unique_ptr<writers::Recording> recording_;
  std::vector<writers::WriterTable::Frames> frames_of_;  // by number of the writer
  mutable std::mutex mutex_;                             // guards families_ during Accumulate
  mutable std::map<uint64_t, FamilyWatch> families_;     // by id
  std::map<pid_t, Home> places_;                         // by process
  std::set<std::pair<pid_t, uint64_t>> added_;           // recorded processes: pid and start time
  std::vector<pid_t> to_add_;
  std::map<std::string, TopWriters> groups_;
  std::chrono::nanoseconds background_time_{0};
  uint64_t lost_ = 0;
  uint64_t pass_ = 0;
};

}  // namespace

std::unique_ptr<Collector> MakeWriters(const CollectorContext& context) { return std::make_unique<Writers>(context); }

}  // namespace cow::collectors
