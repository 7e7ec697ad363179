// The interface of a collector: it adds up what scans report, and publishes the sums.
//
// A collector opens no page table and keeps no state per window. It declares how many numbers it adds up; the engine
// keeps these per window, per family and per group, so that gauges always are the sum of each window's latest reading
// and counters outlive the processes. A new collector is one file that implements Collector and one line in
// registry.cc.
//
// Accumulate is called by any scanning thread, several at a time for different families. All other calls come one at a
// time. A collector that throws loses its own metrics for that pass, and no other's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "collectors/memory/scan/pass_options.h"
#include "collectors/memory/scan/report.h"
#include "collectors/metrics.h"
#include "collectors/options.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/root.h"

namespace cow::collectors {

// Where a collector adds. The engine zeroes `gauges` before each call: they are what this window or family holds now.
// `counters` only grow. The first reports of a family after a collector was switched on, or after the family was taken
// in again, do not count: their counters are thrown away.
struct Tally {
  std::span<int64_t> gauges;
  std::span<uint64_t> counters;
  std::string_view group = {};  // of the family; empty: the family is not exported
};

class Collector {
 public:
  explicit Collector(procfs::PageGeometry geometry) : geometry_(geometry) {}
  virtual ~Collector() = default;
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  virtual size_t gauges() const { return 0; }
  virtual size_t counters() const { return 0; }

  // Adds up one report. Gauges of a WindowReport are of that window, those of a FamilyReport of the family as a whole;
  // for other reports only counters may be added to.
  virtual void Accumulate(const memory::Report& report, const Tally& tally) const = 0;

  // Begins every metric of its own, also those without a series now.
  virtual void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const = 0;

 protected:
  double Bytes(int64_t pages) const { return static_cast<double>(pages) * static_cast<double>(geometry_.page_bytes); }
  double Bytes(uint64_t pages) const { return static_cast<double>(pages) * static_cast<double>(geometry_.page_bytes); }
  int64_t Pages(uint64_t bytes) const { return static_cast<int64_t>(bytes / geometry_.page_bytes); }
  const procfs::PageGeometry& geometry() const { return geometry_; }

 private:
  procfs::PageGeometry geometry_;
};

// What a collector knows of one family's anonymous memory, in base pages.
struct FamilyMemory {
  int64_t shared_pages = 0;
  int64_t private_pages = 0;
  int64_t exposure_pages = 0;
};

// What is not read of a member, in base pages.
struct UnreadMember {
  bool is_root = false;
  int64_t anon_pages = 0;    // resident, those of hugetlbfs among them
  int64_t shared_pages = 0;  // of those, taken to be shared with its parent
  int64_t file_pages = 0;
  int64_t shmem_pages = 0;
  int64_t swapped_pages = 0;

  int64_t ResidentPages() const { return anon_pages + file_pages + shmem_pages; }
};

// A family at the end of a pass, scanned in it or not.
struct FamilyPass {
  const memory::Family* family = nullptr;
  std::span<const Result<procfs::KsmStat>> ksm;  // of the members in their order; empty if no collector needs it
};

// What few collectors need besides: options, state of their own, sources other than the scan. Counters of these calls
// are the group's own; they stay valid until OnPassEnd has returned or SetOptions is called.
class CollectorWithHooks : public Collector {
 public:
  using Collector::Collector;

  void Accumulate(const memory::Report& /*report*/, const Tally& /*tally*/) const override {}

  // Other options, or other collectors beside it: between two passes, also after one that was abandoned.
  virtual void SetOptions(const CollectorOptions& /*options*/) {}
  // What the scan has to read besides the windows. Asked when it is made and after each SetOptions.
  virtual memory::Needs needs() const { return {}; }
  // Whether the kernel and the exporter's privileges allow what it does, where that is in question: published as
  // cow_exporter_capability with its name.
  virtual std::optional<bool> capability() const { return std::nullopt; }
  // Why it can't publish anything here, found when it was made: goes to the log. Empty: it can.
  virtual std::string limitation() const { return {}; }

  // After each completed scan of a family, once its report was accumulated. Gauges add to those of the report.
  virtual void OnFamily(const memory::FamilyReport& /*report*/, const Tally& /*tally*/) {}
  // A member ended, and its pages are judged. Only counters may be added to.
  virtual void OnEnd(const memory::EndReport& /*report*/, const Tally& /*tally*/) {}
  // At the end of every pass, for each family, scanned or not. The gauges replace those of this call in the pass
  // before, and are added to those of windows and family.
  virtual void OnPass(const FamilyPass& /*pass*/, const Tally& /*tally*/) {}
  // The family has ended: state kept for it can go.
  virtual void OnFamilyGone(uint64_t /*family_id*/) {}
  // A pass over all families was completed.
  virtual void OnPassEnd() {}

  // Adds what is assumed of members whose windows were not all read yet to the gauges of their family.
  virtual void AddUnread(std::span<const UnreadMember> /*members*/, std::span<int64_t> /*gauges*/) const {}
  // The sums of a single family, by the gauges of its latest readings.
  virtual std::optional<FamilyMemory> DescribeFamily(std::span<const int64_t> /*gauges*/) const { return std::nullopt; }
};

}  // namespace cow::collectors
