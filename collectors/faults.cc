// Collector `faults`: counts minor page faults, from `minflt` of /proc/PID/stat. A copy-on-write break usually causes
// one.
#include <prometheus/metric_family.h>

#include <map>
#include <utility>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

constexpr Metric kMinorFaults{
    .name = "cow_minor_faults_total",
    .type = prometheus::MetricType::Counter,
    .unit = "faults",
    .help = "Minor page faults of the group's present and past processes.",
    .source =
        "minflt of /proc/PID/stat. Nearly every break is a minor fault, and so is each first touch of fresh memory.",
    .query = "sum by (group) (rate(cow_breaks_total[5m])) / sum by (group) (rate(cow_minor_faults_total[5m]))",
};

class Faults : public CollectorWithHooks {
 public:
  using CollectorWithHooks::CollectorWithHooks;

  size_t counters() const override { return 1; }

  void OnPass(const FamilyPass& pass, const Tally& tally) override {
    for (const auto& member : pass.family->members) Count(*member->process, tally);
    for (const auto& alias : pass.family->aliases) Count(*alias.process, tally);
  }

  void OnPassEnd() override {
    std::erase_if(seen_, [this](const auto& item) { return item.second.pass != pass_; });
    ++pass_;
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.AddForEach(kMinorFaults, groups, [](const GroupSums& sums) { return sums.counters[0]; });
  }

 private:
  using Identity = std::pair<pid_t, uint64_t>;  // pid, start time
  struct Seen {
    uint64_t faults = 0;
    uint64_t pass = 0;
  };

  // Does not count faults of processes older than the exporter before their first look.
  void Count(const memory::Process& process, const Tally& tally) {
    const uint64_t faults = process.stat.minor_faults;
    const auto [seen, is_new] = seen_.try_emplace(Identity(process.pid, process.start_ticks));
    const uint64_t unseen_base = process.baseline ? faults : 0;
    const uint64_t base = is_new ? unseen_base : seen->second.faults;
    if (faults > base) tally.counters[0] += faults - base;
    seen->second = {faults, pass_};
  }

  std::map<Identity, Seen> seen_;
  uint64_t pass_ = 0;
};

}  // namespace

std::unique_ptr<Collector> MakeFaults(const CollectorContext& context) {
  return std::make_unique<Faults>(context.geometry);
}

}  // namespace cow::collectors
