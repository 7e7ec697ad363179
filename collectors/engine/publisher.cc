// Makes metric families from a snapshot of sums. Pure.

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "collectors/engine/engine_metrics.h"
#include "collectors/engine/engine_sums.h"
#include "collectors/engine/mode_notices.h"

namespace cow::collectors {
namespace {

using TotalsByGroup = std::map<std::string, GroupTotals>;

double Seconds(SystemTime time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

void PublishGroups(const TotalsByGroup& groups, MetricWriter& writer) {
  writer.Begin(kProcesses);
  for (const auto& [name, totals] : groups) writer.AddFor(name, {}, static_cast<double>(totals.processes));
  writer.Begin(kFamilies);
  for (const auto& [name, totals] : groups) {
    if (totals.Readable()) writer.AddFor(name, {}, static_cast<double>(totals.families));
  }
  writer.Begin(kOldestChildStart);
  for (const auto& [name, totals] : groups) {
    if (totals.oldest_child) writer.AddFor(name, {}, Seconds(*totals.oldest_child));
  }
  writer.Begin(kCgroupMemoryLimit);
  for (const auto& [name, totals] : groups) {
    if (const auto* cgroup = totals.LimitedCgroup()) writer.AddFor(name, {}, static_cast<double>(*cgroup->limit_bytes));
  }
  writer.Begin(kCgroupMemoryUsage);
  for (const auto& [name, totals] : groups) {
    if (const auto* cgroup = totals.LimitedCgroup()) writer.AddFor(name, {}, static_cast<double>(cgroup->usage_bytes));
  }
  writer.Begin(kGroupInfo);
  for (const auto& [name, totals] : groups) {
    writer.AddFor(name, {totals.unit.value(), totals.container_id.value(), totals.pod_uid.value(), totals.exe.value()},
                  1);
  }
}

void PublishKnowledge(const TotalsByGroup& groups, MetricWriter& writer) {
  writer.Begin(kGroupMode);
  for (const auto& [name, totals] : groups) {
    for (size_t mode = 0; mode < memory::kModes; ++mode) {
      if (totals.modes.at(mode)) writer.AddFor(name, {kModeNames.at(mode)}, 1);
    }
  }
  writer.Begin(kScanCoverage);
  for (const auto& [name, totals] : groups) {
    if (!totals.has_members && !totals.has_unseen) continue;
    const auto known = static_cast<double>(totals.known_pages);
    writer.AddFor(name, {}, known == 0 ? 1 : static_cast<double>(totals.covered_pages) / known);
  }
  writer.Begin(kScanTimestamp);
  for (const auto& [name, totals] : groups) {
    if (totals.oldest_read) writer.AddFor(name, {}, Seconds(*totals.oldest_read));
  }
  writer.Begin(kUnreadProcesses);
  for (const auto& [name, totals] : groups) {
    for (size_t reason = 0; reason < kUnreadReasons.size(); ++reason) {
      writer.AddFor(name, {kUnreadReasons.at(reason)}, static_cast<double>(totals.unread.at(reason)));
    }
  }
}

void PublishSelf(const SelfTotals& self, const CollectorSet& collectors, MetricWriter& writer) {
  const memory::ScanCounters& counters = self.reads;
  const memory::Capabilities& can = self.capabilities;
  const auto single = [&writer](const Metric& metric, uint64_t value) {
    writer.Begin(metric);
    writer.Add({}, static_cast<double>(value));
  };

  writer.Begin(kHostSaved);
  if (self.host_saved_bytes) writer.Add({}, *self.host_saved_bytes);
  single(kScanPages, counters.pagemap_pages);
  single(kScanFrameWords, counters.frame_words);
  writer.Begin(kScanCalls);
  writer.Add({"pagemap"}, static_cast<double>(counters.pagemap_reads));
  writer.Add({"pagemap_scan"}, static_cast<double>(counters.scan_calls));
  writer.Add({"kpage"}, static_cast<double>(counters.frame_reads));
  single(kScanRests, counters.rests);
  single(kScanWindowsReadAgain, counters.windows_read_again);
  single(kScanUnchangedWindows, counters.windows_unchanged);
  single(kScanUnstablePages, counters.unstable_pages);
  writer.Begin(kScanPasses);
  writer.Add({"full"}, static_cast<double>(self.full_passes));
  writer.Add({"incremental"}, static_cast<double>(self.incremental_passes));
  single(kScanSkippedProcesses, self.skipped_processes);
  writer.Begin(kForkEventsOverruns);
  if (self.fork_event_overruns) writer.Add({}, static_cast<double>(*self.fork_event_overruns));
  single(kLedgerBytes, self.ledger_bytes);
  single(kScanLooksBytes, self.looks_bytes);
  single(kLedgerReducedWindows, self.reduced_windows);
  writer.Begin(kMemoryBytes);
  for (size_t purpose = 0; purpose < memory::kMemoryPurposes.size(); ++purpose) {
    writer.Add({memory::kMemoryPurposes.at(purpose)}, static_cast<double>(self.memory_bytes.at(purpose)));
  }
  single(kGroupsOverflowed, self.groups_overflowed);
  writer.Begin(kGroupKeysUnread);
  for (const auto& [key, count] : self.unread_keys) writer.Add({key}, static_cast<double>(count));
  writer.Begin(kCollectorDuration);
  for (const InstalledCollector& each : collectors.all()) {
    if (each.stand_in) continue;
    writer.Add({each.name}, std::chrono::duration<double>(each.last_spent).count());
  }
  writer.Begin(kCollectorSuccess);
  for (const InstalledCollector& each : collectors.all()) {
    if (!each.stand_in) writer.Add({each.name}, each.last_failed ? 0 : 1);
  }
  writer.Begin(kCapability);
  const std::array<std::pair<std::string_view, bool>, 10> features{{{"all_processes", can.sees_every_process},
                                                                    {"exclusive_marks", can.exclusive_marks},
                                                                    {"folio_marks", can.folio_marks},
                                                                    {"frames", can.frames},
                                                                    {"kpagecount", can.kpagecount},
                                                                    {"kpageflags", can.kpageflags},
                                                                    {"ksm_flag", can.merged_flag},
                                                                    {"pagemap_scan", can.pagemap_scan},
                                                                    {"page_mapcounts", can.page_mapcounts},
                                                                    {"ptrace", can.ptrace}}};
  for (const auto& [feature, has] : features) writer.Add({feature}, has ? 1 : 0);
  if (self.fork_events) writer.Add({"fork_events"}, *self.fork_events ? 1 : 0);
  if (self.sandbox) writer.Add({"sandbox"}, *self.sandbox ? 1 : 0);
  for (const InstalledCollector& each : collectors.all()) {
    const auto has = each.hooks == nullptr ? std::nullopt : each.hooks->capability();
    if (has) writer.Add({each.name}, *has ? 1 : 0);
  }
}

// Returns the sums of all groups for one collector.
std::vector<GroupSums> SumsOf(const InstalledCollector& each, const EngineSums& sums) {
  std::vector<GroupSums> of_groups;
  for (const auto& [name, totals] : sums.groups) {
    const std::span<const uint64_t> counters(totals.counters);
    of_groups.push_back({.group = name,
                         .gauges = each.GaugesIn(std::span<const int64_t>(totals.gauges)),
                         .counters = counters.subspan(each.first_counter, each.collector->counters()),
                         .frames_known = sums.self.capabilities.frames && !totals.Has(memory::Mode::kNoFrames),
                         .readable = totals.Readable(),
                         .scan_known = totals.scan_known,
                         .mapcounts_known = sums.self.capabilities.page_mapcounts,
                         .some_unreadable = totals.HasUnreadable()});
  }
  return of_groups;
}

}  // namespace

std::vector<CollectedFamilies> Publish(const EngineSums& sums, const CollectorSet& collectors) {
  const auto is_empty = [](const prometheus::MetricFamily& family) { return family.metric.empty(); };
  std::vector<CollectedFamilies> collected;
  for (const InstalledCollector& each : collectors.all()) {
    CollectedFamilies& made = collected.emplace_back(CollectedFamilies{each.stand_in ? "" : each.name, {}, {}});
    if (!each.IsPublished()) continue;
    MetricWriter writer(made.families, made.declared);
    try {
      each.collector->Publish(SumsOf(each, sums), writer);
    } catch (...) {
      made.families.clear();
      continue;
    }
    std::erase_if(made.families, is_empty);
  }
  CollectedFamilies& own = collected.emplace_back();
  MetricWriter writer(own.families, own.declared);
  PublishGroups(sums.groups, writer);
  PublishKnowledge(sums.groups, writer);
  PublishSelf(sums.self, collectors, writer);
  std::erase_if(own.families, is_empty);
  return collected;
}

}  // namespace cow::collectors
