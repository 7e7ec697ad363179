#include "collectors/engine/collector_set.h"

#include <algorithm>
#include <stdexcept>

namespace cow::collectors {
namespace {

constexpr size_t kMaxFailures = 64;  // kept until TakeFailures

}  // namespace

std::shared_ptr<Collector> CollectorSet::FindOrMake(const Registration& entry, bool stand_in,
                                                    const EngineOptions& options) {
  for (const InstalledCollector& each : list_) {
    if (each.name == entry.name && each.stand_in == stand_in) return each.collector;
  }
  CollectorContext context{root_, geometry_, options.collector_options, nullptr, taskstats_, symbolizer_};
  if (stand_in) return entry.make_stand_in(context);
  context.totals = totals_.try_emplace(entry.name, std::make_shared<std::vector<uint64_t>>()).first->second;
  return entry.make(context);
}

CollectorSet::List CollectorSet::Make(const EngineOptions& options) {
  List list;
  if (options.symbolizer != nullptr) symbolizer_ = options.symbolizer;
  const auto add = [&](const Registration& entry, bool stand_in) {
    InstalledCollector& each = list.emplace_back();
    each.name = entry.name;
    each.stand_in = stand_in;
    each.collector = FindOrMake(entry, stand_in, options);
    each.hooks = dynamic_cast<CollectorWithHooks*>(each.collector.get());
  };
  for (const std::string& name : options.collectors) {
    const auto entry =
        std::find_if(registry_.begin(), registry_.end(), [&name](const Registration& r) { return r.name == name; });
    if (entry == registry_.end()) throw std::invalid_argument("unknown collector: " + name);
    add(*entry, false);
  }
  for (const Registration& entry : registry_) {
    const bool enabled =
        std::find(options.collectors.begin(), options.collectors.end(), entry.name) != options.collectors.end();
    if (!enabled && entry.make_stand_in != nullptr) add(entry, true);
  }
  return list;
}

std::vector<CellMove> CollectorSet::Install(List list, bool late) {
  std::vector<CellMove> moves;
  gauges_ = 0;
  needs_ = {};
  for (InstalledCollector& each : list) {
    each.first_gauge = gauges_;
    gauges_ += each.collector->gauges();
    const auto [first, is_new] = first_counters_.try_emplace(std::pair(each.name, each.stand_in), counters_);
    each.first_counter = first->second;
    if (is_new) counters_ += each.collector->counters();
    if (each.hooks != nullptr) needs_.Add(each.hooks->needs());
    const auto before = std::find_if(
        list_.begin(), list_.end(), [&each](const InstalledCollector& old) { return old.collector == each.collector; });
    if (before == list_.end()) {
      each.awaits_pass = late;
      std::string why = each.hooks != nullptr ? each.hooks->limitation() : std::string();
      if (!why.empty()) failures_.emplace_back(each.name, std::move(why));
      continue;
    }
    moves.push_back({before->first_gauge, each.first_gauge, each.collector->gauges()});
    each.awaits_pass = before->awaits_pass;
    each.health = before->health;
    each.last_spent = before->last_spent;
    each.last_failed = before->last_failed;
  }
  list_ = std::move(list);
  return moves;
}

void CollectorSet::SetOptions(const List& list, const CollectorOptions& options) {
  for (const InstalledCollector& each : list) {
    if (each.hooks != nullptr) each.hooks->SetOptions(options);
  }
}

Tally CollectorSet::TallyFor(const InstalledCollector& each, const FamilyState& state, std::span<uint64_t> counters,
                             Scratch& scratch) {
  return {each.GaugesIn(std::span(scratch.gauges)), counters.subspan(each.first_counter, each.collector->counters()),
          state.exported_as};
}

std::span<uint64_t> CollectorSet::GroupCounters(const InstalledCollector& each, const FamilyState& state,
                                                Scratch& scratch) {
  const bool counts = !each.awaits_pass && !state.baseline && state.group != nullptr;
  return counts ? std::span(state.group->counters) : std::span(scratch.discarded);
}

void CollectorSet::Clear(Scratch& scratch) const {
  scratch.gauges.assign(gauges_, 0);
  scratch.discarded.resize(counters_, 0);
}

void CollectorSet::Accumulate(const memory::Report& report, FamilyState& state, Scratch& scratch) {
  Clear(scratch);
  state.counters.resize(counters_, 0);
  for (InstalledCollector& each : list_) {
    const bool counts = !each.awaits_pass && !state.baseline;
    const Tally tally = TallyFor(each, state, counts ? state.counters : scratch.discarded, scratch);
    Guard(each, [&] { each.collector->Accumulate(report, tally); });
  }
}

void CollectorSet::NoteFailure(InstalledCollector& each, std::string reason) {
  each.health->failed = true;
  const std::lock_guard lock(failures_mutex_);
  if (failures_.size() < kMaxFailures) failures_.emplace_back(each.name, std::move(reason));
}

std::vector<std::pair<std::string_view, std::string>> CollectorSet::TakeFailures() {
  const std::lock_guard lock(failures_mutex_);
  return std::exchange(failures_, {});
}

bool CollectorSet::AnyFailed() const {
  return std::any_of(list_.begin(), list_.end(),
                     [](const InstalledCollector& each) { return each.health->failed.load(); });
}

void CollectorSet::BeginPass() {
  for (InstalledCollector& each : list_) each.health->failed = false;
}

void CollectorSet::BeginInterval() {
  for (InstalledCollector& each : list_) each.health->spent_nanoseconds = 0;
}

void CollectorSet::EndInterval() {
  for (InstalledCollector& each : list_) {
    each.last_spent = std::chrono::nanoseconds(each.health->spent_nanoseconds);
    if (each.hooks != nullptr) each.last_spent += each.hooks->TakeBackgroundTime();
    each.last_failed = each.health->failed;
  }
}

void CollectorSet::EndPass() {
  for (InstalledCollector& each : list_) each.awaits_pass = false;
}

}  // namespace cow::collectors
