// Collector `smaps`: the kernel's own sums of a process' memory, from /proc/PID/smaps_rollup. They check the results of
// the scan and match what other tools show. The kernel holds the process' mmap lock during the read, so large processes
// are left out and counted. If the collector is not enabled, its stand-in publishes these sums for processes whose page
// table is denied: nothing else shows their sharing.
#include <array>
#include <optional>
#include <string_view>
#include <variant>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

using memory::SmapsReading;
using procfs::SmapsRollup;

struct Field {
  std::string_view name;
  std::optional<uint64_t> SmapsRollup::*value;
};

// Leaves out "referenced" and "locked": they are properties of memory that other fields count.
constexpr std::array<Field, 18> kFields{{
    {"rss", &SmapsRollup::rss_bytes},
    {"pss", &SmapsRollup::pss_bytes},
    {"pss_anon", &SmapsRollup::pss_anon_bytes},
    {"pss_file", &SmapsRollup::pss_file_bytes},
    {"pss_shmem", &SmapsRollup::pss_shmem_bytes},
    {"pss_dirty", &SmapsRollup::pss_dirty_bytes},
    {"shared_clean", &SmapsRollup::shared_clean_bytes},
    {"shared_dirty", &SmapsRollup::shared_dirty_bytes},
    {"private_clean", &SmapsRollup::private_clean_bytes},
    {"private_dirty", &SmapsRollup::private_dirty_bytes},
    {"anonymous", &SmapsRollup::anonymous_bytes},
    {"ksm", &SmapsRollup::ksm_bytes},
    {"lazy_free", &SmapsRollup::lazy_free_bytes},
    {"anon_huge_pages", &SmapsRollup::anon_huge_bytes},
    {"shared_hugetlb", &SmapsRollup::shared_hugetlb_bytes},
    {"private_hugetlb", &SmapsRollup::private_hugetlb_bytes},
    {"swap", &SmapsRollup::swap_bytes},
    {"swap_pss", &SmapsRollup::swap_pss_bytes},
}};

constexpr std::array<std::string_view, kFields.size()> FieldNames() {
  std::array<std::string_view, kFields.size()> names;
  for (size_t i = 0; i < kFields.size(); ++i) names[i] = kFields[i].name;
  return names;
}
constexpr std::array kFieldNames = FieldNames();
constexpr std::array<std::string_view, 2> kReasons{"max_rss", "unreadable"};

constexpr Metric kSmapsBytes{
    .name = "cow_smaps_bytes",
    .unit = "bytes",
    .help =
        "The kernel's own memory sums (smaps_rollup) of the group's processes, without those in "
        "cow_smaps_skipped_processes.",
    .labels = {{{"field", kFieldNames}}},
    .source = "/proc/PID/smaps_rollup at the time a process is read. Fields that the kernel lacks have no series.",
    .absent =
        "If no process of the group was read. While the collector is off, the metric covers only processes with a "
        "denied page table and at most 512 MiB resident.",
    .query = R"(sum by (group) (cow_smaps_bytes{field="pss"}))",
};
constexpr Metric kSkippedProcesses{
    .name = "cow_smaps_skipped_processes",
    .unit = "processes",
    .help = "Processes missing from cow_smaps_bytes: larger than max_rss, or not readable.",
    .labels = {{{"reason", kReasons}}},
    .source = "The collector's own count.",
    .absent = "While the collector is off and every page table can be read.",
};

class Smaps : public CollectorWithHooks {
 public:
  // Without a limit the collector is the stand-in: it reads only processes whose page table is denied.
  Smaps(procfs::PageGeometry geometry, std::optional<uint64_t> max_rss_bytes)
      : CollectorWithHooks(geometry), max_rss_bytes_(max_rss_bytes) {}

  void SetOptions(const CollectorOptions& options) override {
    if (max_rss_bytes_) max_rss_bytes_ = options.smaps.max_rss_bytes;
  }
  size_t gauges() const override { return kGauges; }
  memory::Needs needs() const override {
    memory::Needs needs;
    needs.smaps_rollup_max_bytes = max_rss_bytes_;
    return needs;
  }

  void Accumulate(const memory::Report& report, const Tally& tally) const override {
    const auto* family = std::get_if<memory::FamilyReport>(&report);
    if (family == nullptr) return;
    for (const SmapsReading& reading : family->smaps) {
      switch (reading.state) {
        case SmapsReading::State::kRead:
          ++tally.gauges[kRead];
          Add(reading.sums, tally);
          break;
        case SmapsReading::State::kTooLarge:
          ++tally.gauges[kTooLarge];
          break;
        case SmapsReading::State::kGone:
        case SmapsReading::State::kNotNeeded:
          break;
        case SmapsReading::State::kUnreadable:
          ++tally.gauges[kUnreadable];
      }
    }
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kSmapsBytes);
    for (const GroupSums& sums : groups) {
      if (sums.gauges[kRead] == 0) continue;
      for (size_t i = 0; i < kFields.size(); ++i) {
        if (sums.gauges[Tells(i)] != 0) writer.AddFor(sums, {kFields.at(i).name}, static_cast<double>(sums.gauges[i]));
      }
    }
    writer.Begin(kSkippedProcesses);
    for (const GroupSums& sums : groups) {
      if (!max_rss_bytes_ && !sums.some_unreadable) continue;
      writer.AddFor(sums, {"max_rss"}, static_cast<double>(sums.gauges[kTooLarge]));
      writer.AddFor(sums, {"unreadable"}, static_cast<double>(sums.gauges[kUnreadable]));
    }
  }

 private:
  enum Cell : size_t { kRead = kFields.size(), kTooLarge, kUnreadable, kTells, kGauges = kTells + kFields.size() };
  // The gauge that counts the processes for which the kernel shows `field`.
  static constexpr size_t Tells(size_t field) { return kTells + field; }

  static void Add(const SmapsRollup& sums, const Tally& tally) {
    for (size_t i = 0; i < kFields.size(); ++i) {
      const std::optional<uint64_t>& value = sums.*kFields.at(i).value;
      tally.gauges[Tells(i)] += value ? 1 : 0;
      tally.gauges[i] += static_cast<int64_t>(value.value_or(0));
    }
  }

  std::optional<uint64_t> max_rss_bytes_;
};

}  // namespace

std::unique_ptr<Collector> MakeSmaps(const CollectorContext& context) {
  return std::make_unique<Smaps>(context.geometry, context.options.smaps.max_rss_bytes);
}

std::unique_ptr<Collector> MakeSmapsOfDenied(const CollectorContext& context) {
  return std::make_unique<Smaps>(context.geometry, std::nullopt);
}

}  // namespace cow::collectors
