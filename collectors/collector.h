// The interface of a collector. A collector adds up the reports of scans and publishes the sums.
//
// A collector opens no page table and keeps no state per window. It declares how many gauges and counters it has. The
// engine stores them per window, per family and per group, so a gauge is always the sum of each window's latest reading
// and a counter outlives its processes. A new collector is one file that implements Collector and one line in
// registry.cc.
//
// Thread rule: several scanning threads call Accumulate, each for another family. All other calls come one at a time. A
// collector that throws loses only its own metrics, and only for that pass.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
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

// Where a collector adds its numbers. The engine zeroes `gauges` before each call: they describe the current state of
// this window or family. `counters` only grow. The engine discards the counters of a family's first reports after the
// collector was switched on or the family was left out of the groups.
struct Tally {
  std::span<int64_t> gauges;
  std::span<uint64_t> counters;
  std::string_view group = {};  // the family's group; empty: the family is not exported
};

class Collector {
 public:
  explicit Collector(procfs::PageGeometry geometry) : geometry_(geometry) {}
  virtual ~Collector() = default;
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  virtual size_t gauges() const { return 0; }
  virtual size_t counters() const { return 0; }

  // Adds up one report. Gauges of a WindowReport belong to that window, those of a FamilyReport to the family as a
  // whole. Other reports may add to counters only.
  virtual void Accumulate(const memory::Report& report, const Tally& tally) const = 0;

  // Begins every metric of this collector, also those without a series, and writes the series.
  virtual void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const = 0;

 protected:
  double Bytes(int64_t pages) const { return static_cast<double>(pages) * static_cast<double>(geometry_.page_bytes); }
  double Bytes(uint64_t pages) const { return static_cast<double>(pages) * static_cast<double>(geometry_.page_bytes); }
  int64_t Pages(uint64_t bytes) const { return static_cast<int64_t>(bytes / geometry_.page_bytes); }
  const procfs::PageGeometry& geometry() const { return geometry_; }

 private:
  procfs::PageGeometry geometry_;
};

// One family's anonymous memory, in base pages.
struct FamilyMemory {
  int64_t shared_pages = 0;
  int64_t private_pages = 0;
  int64_t exposure_pages = 0;
};

// Estimated unread memory of a member, in base pages.
struct UnreadMember {
  bool is_root = false;
  int64_t anon_pages = 0;    // resident, including hugetlbfs
  int64_t shared_pages = 0;  // part of anon_pages that is assumed to be shared with the parent
  int64_t file_pages = 0;
  int64_t shmem_pages = 0;
  int64_t swapped_pages = 0;

  int64_t ResidentPages() const { return anon_pages + file_pages + shmem_pages; }
};

// A family at the end of a pass, whether it was scanned or not.
struct FamilyPass {
  const memory::Family* family = nullptr;
  std::span<const Result<procfs::KsmStat>> ksm;  // in the order of members; empty if no collector needs it
};

// For collectors that have options, state of their own or other sources than the scan. `tally.counters` of these calls
// are the group's; they stay valid until OnPassEnd returns or SetOptions is called.
class CollectorWithHooks : public Collector {
 public:
  using Collector::Collector;

  void Accumulate(const memory::Report& /*report*/, const Tally& /*tally*/) const override {}

  // Applies new options. Called between two passes, also if only the set of enabled collectors changed. The last pass
  // may have been abandoned.
  virtual void SetOptions(const CollectorOptions& /*options*/) {}
  // What the scan must read besides the windows. Called after construction and after each SetOptions.
  virtual memory::Needs needs() const { return {}; }
  // False if the kernel or the exporter's privileges do not allow what the collector does. Published as
  // cow_exporter_capability with the collector's name. Empty: not published.
  virtual std::optional<bool> capability() const { return std::nullopt; }
  // Why the collector can't publish anything on this host, for the log. Set at construction. Empty: it can publish.
  virtual std::string limitation() const { return {}; }

  // Called after each completed scan of a family, after Accumulate of its report. Gauges add to those of the report.
  virtual void OnFamily(const memory::FamilyReport& /*report*/, const Tally& /*tally*/) {}
  // Called when a member has ended and its pages are judged. May add to counters only.
  virtual void OnEnd(const memory::EndReport& /*report*/, const Tally& /*tally*/) {}
  // Called at the end of every pass for each family, whether it was scanned or not. The gauges replace those of the
  // previous OnPass, and add to those of windows and family.
  virtual void OnPass(const FamilyPass& /*pass*/, const Tally& /*tally*/) {}
  // Called when a family has ended. Drop its state.
  virtual void OnFamilyGone(uint64_t /*family_id*/) {}
  // Called at the end of every pass, after OnPass of all families.
  virtual void OnPassEnd() {}

  // Returns the CPU time of the collector's own threads since the last call. It is added to the collector's cost.
  virtual std::chrono::nanoseconds TakeBackgroundTime() { return {}; }

  // Adds the estimates for members with unread windows to the gauges of their family.
  virtual void AddUnread(std::span<const UnreadMember> /*members*/, std::span<int64_t> /*gauges*/) const {}
  // Returns the sums of one family from its gauges. Empty if the collector does not know them.
  virtual std::optional<FamilyMemory> DescribeFamily(std::span<const int64_t> /*gauges*/) const { return std::nullopt; }
};

}  // namespace cow::collectors
